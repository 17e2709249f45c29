"""What trainers make of a model and of data as they are given."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.trainer_utils import number_of_arguments

from ..data.streaming import EndlessStream
from ..utils.errors import extra

with extra("training"):
    from datasets import Dataset, IterableDataset

    from ..data.formatting import decoded
    from ..data.row_stream import RowStream


def network_of(model: Any, model_init: Any) -> Any:
    """The network of the model, see `unwrapped`, or of what `model_init` makes; random numbers stay as they are."""
    if model is None:
        with torch.random.fork_rng():
            model = model_init(None) if number_of_arguments(model_init) else model_init()  # as transformers asks
    if not isinstance(model, nn.Module):
        got = f'"{model}": MannerModel.from_pretrained loads it' if isinstance(model, str) else type(model).__name__
        raise ValueError(f"the model must be a module, got {got}")
    return unwrapped(model)


def unwrapped(model: Any) -> Any:
    """The network in what `torch.compile`, `DataParallel`, `DistributedDataParallel` or PEFT makes of it."""
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(model.module)
    if hasattr(model, "_orig_mod"):  # compiled
        return unwrapped(model._orig_mod)
    if hasattr(model, "get_base_model"):  # of PEFT; its adapters are layers of the network
        return unwrapped(model.get_base_model())
    return model


def inputs_of(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's forward takes of a batch, without the labels."""
    taken = inspect.signature(type(model).forward).parameters
    anything = any(one.kind is one.VAR_KEYWORD for one in taken.values())
    return {name: value for name, value in batch.items() if name != "labels" and (anything or name in taken)}


def training_items(dataset: Any, wanted: int, seed: int) -> list[dict]:
    """`wanted` items of training data, or all if there are fewer; the same ones every time."""
    if isinstance(dataset, EndlessStream):
        return dataset.first(wanted)
    order = np.random.default_rng(seed).permutation(len(dataset))
    return [dataset[int(index)] for index in order[:wanted]]


def noisy_batches(items: list[dict], collate: Any, size: int) -> Iterator[torch.Tensor]:
    """Noisy audio (B, T) of `items`, `size` of them at a time, as `collate` batches them."""
    for start in range(0, len(items), size):
        yield collate(items[start : start + size])["input_values"]


def count_of(dataset: Any) -> int:
    """Items of a data set, or of all that a mapping holds."""
    return sum(map(len, dataset.values())) if isinstance(dataset, Mapping) else len(dataset)


def as_items(dataset: Any, sampling_rate: int, streams: bool = False) -> Any:
    """A data set of `datasets` with its audio decoded, see `data.formatting.decoded`, or each of a mapping of them; an
    `IterableDataset` as a `RowStream`; anything else as it is.

    Args:
        streams: whether data without an end will do; else ValueError.
    """
    if isinstance(dataset, Mapping):
        return {name: as_items(one, sampling_rate) for name, one in dataset.items()}
    if not streams and isinstance(dataset, (IterableDataset, EndlessStream)):
        raise ValueError(f"expected a data set with a length to validate on, got {type(dataset).__name__}")
    if isinstance(dataset, IterableDataset):
        return RowStream(dataset, sampling_rate)
    return decoded(dataset, sampling_rate) if isinstance(dataset, Dataset) else dataset
