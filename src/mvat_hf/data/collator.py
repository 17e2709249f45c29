"""Batches for training: one seeded crop of every item, as `input_values` and `labels`."""

import zlib
from dataclasses import dataclass

import numpy as np
import torch


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
        """Items {"id", "clean", "noisy"} of (time,) to {"input_values", "labels"}, each (B, T) float32."""
        crops = [self.crop(item) for item in items]
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
