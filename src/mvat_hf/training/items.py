"""Items and batches for the trainers, from the model and the data that they are given."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers.trainer_utils import number_of_arguments

from ..data.streaming import EndlessStream
from ..models.manner import MannerModel
from ..utils.errors import extra

with extra("training"):
    from datasets import Dataset, IterableDataset

    from ..data.formatting import decoded
    from ..data.row_stream import RowStream


def rate_of(model: MannerModel | None, model_init: Any) -> int:
    """Sampling rate (Hz) of the model, or of the one that `model_init` makes; the random state is unchanged."""
    if model is None:
        with torch.random.fork_rng():
            model = model_init(None) if number_of_arguments(model_init) else model_init()  # as transformers asks
    made: Any = model
    return made.config.sampling_rate


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
