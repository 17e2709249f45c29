"""Batches for training: one seeded crop of every item, as `input_values` and `labels`."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .audio import read_mono
from .matching import SIDES, DataError, as_samples, check_lengths, source_of


@dataclass
class SegmentCollator:
    """
    Crops every pair at the same random place and stacks them.

    The place depends on (seed, epoch, id of the item) alone, so that a resumed run crops as an uninterrupted one.
    Shorter items are zero-padded on the right.

    Args:
        seconds: length of the crop.
        sampling_rate: of the items, in Hz.
        seed: another seed, other crops.
        epoch: other crops every epoch; the trainer sets it.
    """

    seconds: float = 4.0
    sampling_rate: int = 16000
    seed: int = 0
    epoch: int = 0

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        """Items as `as_item` takes them to {"input_values", "labels"}, each (B, T) float32."""
        crops = [self.crop(as_item(item, self.sampling_rate)) for item in items]
        return {
            "input_values": torch.from_numpy(np.stack([noisy for noisy, _ in crops])),
            "labels": torch.from_numpy(np.stack([clean for _, clean in crops])),
        }

    def crop(self, item: dict) -> tuple[np.ndarray, np.ndarray]:
        """(noisy, clean) of one item, each (T,)."""
        length = round(self.seconds * self.sampling_rate)
        spare = len(item["clean"]) - length
        rng = np.random.default_rng([self.seed, self.epoch, zlib.crc32(item["id"].encode())])
        start = int(rng.integers(0, spare + 1)) if spare > 0 else 0
        parts = (np.asarray(item[name], dtype=np.float32)[start : start + length] for name in ("noisy", "clean"))
        noisy, clean = (np.pad(part, (0, length - len(part))) for part in parts)
        return noisy, clean


def as_item(item: Mapping[str, Any], sampling_rate: int) -> dict[str, Any]:
    """
    {"id", "clean", "noisy"}: a name and arrays (time,) float32 at `sampling_rate` Hz.

    Args:
        item: these, or in the place of arrays {"array", "sampling_rate"}, as `datasets` gives decoded audio, or its
            `AudioDecoder`, or encoded audio {"bytes", "path"}. Samples of int16 and int32 are divided by their full
            scale. Without an id, the samples of the clean side tell items apart.

    Raises:
        DataError: a side is missing, of another rate, not of one channel, longer than the other, or no samples.
    """
    if not isinstance(item, Mapping):
        raise DataError(f"an item is of class {type(item).__name__}, expected a mapping with clean and noisy")
    if missing := [side for side in SIDES if side not in item]:
        raise DataError(f"an item has no {' and no '.join(missing)}, expected clean and noisy, got {', '.join(item)}")
    sides = [samples_of(item[side], side, sampling_rate) for side in SIDES]
    name = item.get("id")
    named = f"{zlib.crc32(sides[0].tobytes()):08x}" if name is None else str(name)
    check_lengths(named, *map(len, sides))
    return {**item, "id": named, **dict(zip(SIDES, sides, strict=True))}


def samples_of(value: Any, side: str, sampling_rate: int) -> np.ndarray:
    """(time,) float32 of one side of an item, see `as_item`."""
    if hasattr(value, "get_all_samples"):  # datasets' AudioDecoder
        decoded = value.get_all_samples()
        value = {"array": decoded.data.mean(dim=0), "sampling_rate": decoded.sample_rate}
    if isinstance(value, str):
        raise DataError(
            f'{side} is a string, "{value}", expected samples: if it is a path, '
            f'dataset.cast_column("{side}", Audio()) decodes the column'
        )
    if isinstance(value, Mapping):
        if value.get("array") is None and value.keys() & {"bytes", "path"}:
            return read_mono(source_of({"bytes": None, "path": None, **value}, side), sampling_rate)
        if value.get("sampling_rate", sampling_rate) != sampling_rate:
            raise DataError(f"{side} is at {value['sampling_rate']} Hz, expected {sampling_rate}: resample it")
        value = value.get("array")
    audio = as_samples(value if value is not None else [[]], side)
    if audio.ndim != 1:
        raise DataError(f"{side} has the shape {audio.shape}, expected samples of one channel, (time,)")
    return audio
