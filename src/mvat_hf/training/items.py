"""Items and batches for the trainers, from the model and the data that they are given."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.trainer_utils import number_of_arguments

from ..data.matching import SIDES
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


def as_items(dataset: Any, sampling_rate: int, name: str) -> Any:
    """A data set of `datasets` with its audio decoded, see `data.formatting.decoded`; an `IterableDataset` to train on
    as a `RowStream`; of a mapping to validate on, each; anything else as it is.

    Args:
        name: train_dataset, eval_dataset or test_dataset: data without an end is to train on alone, a mapping to
            validate on; ValueError for others, and for what holds no pairs.
    """
    if isinstance(dataset, str):
        raise ValueError(f'{name} must be a data set, got the string "{dataset}": load it, by load_pairs for example')
    if isinstance(dataset, Mapping):
        if name != "eval_dataset" or not dataset:
            names = ", ".join(dataset) or "none"
            raise ValueError(f"{name} must be a data set, got a mapping of {names}: choose one")
        if empty := [one for one, items in dataset.items() if items is None]:
            raise ValueError(f"{name} has no data set {', '.join(empty)}, got None")
        return {one: as_items(items, sampling_rate, name) for one, items in dataset.items()}
    if dataset is None:
        return None
    if name != "train_dataset":
        check_whole(dataset, name)
    if isinstance(dataset, IterableDataset):
        return RowStream(dataset, sampling_rate)
    return decoded(dataset, sampling_rate) if isinstance(dataset, Dataset) else dataset


def check_whole(dataset: Any, name: str) -> None:
    """ValueError unless it is a data set with a length, and with clean and noisy where that can be seen."""
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ValueError(f"expected a data set with a length to validate on, got {type(dataset).__name__}: {name}")
    seen: Any = None
    if isinstance(dataset, Dataset) and dataset.format["type"] != "custom":  # a transform may make what is missing
        seen = dataset.column_names
    elif isinstance(dataset, (list, tuple)) and dataset:
        seen = dataset[0] if isinstance(dataset[0], Mapping) else ()
    if seen is not None and (missing := [side for side in SIDES if side not in seen]):
        got = ", ".join(seen) or "none"
        raise ValueError(f"{name} has no {' and no '.join(missing)}, expected items of clean and noisy, got {got}")


def items_to_validate(own: Any, asked: Any, sampling_rate: int) -> Any:
    """The data set, or mapping of them, that `evaluate` is `asked` for: by a name of its `own`, or `own` for None."""
    if isinstance(asked, str):
        names = list(own) if isinstance(own, Mapping) else []
        if asked not in names:
            raise ValueError(f'no data set "{asked}" to validate on, expected of {", ".join(names) or "none"}')
        return {asked: own[asked]}
    dataset = own if asked is None else as_items(asked, sampling_rate, "eval_dataset")
    if dataset is None:
        raise ValueError("evaluate needs an eval_dataset, of the trainer or as its argument")
    return dataset
