"""Frames of a stream by their number: new ones are appended, provisional ones rewritten, old ones dropped."""

import torch
import torch.nn.functional as F
from torch import Tensor

SPARE = 2  # memory, in multiples of the kept frames, so that these are moved to its front only now and then


class Frames:
    """
    The newest frames of a stream, (B, n, C), counted from its beginning.

    Args:
        batch, channels: B and C.
        dtype: of the frames.

    Attributes:
        first, stop: the frames from `first` on, up to but without `stop`, are kept.
    """

    def __init__(self, batch: int, channels: int, dtype: torch.dtype = torch.float32):
        self.memory = torch.empty(batch, 0, channels, dtype=dtype)
        self.origin = self.first = self.stop = 0  # `origin`: the frame that the memory begins with

    def write(self, start: int, rows: Tensor) -> None:
        """Put `rows` in the place of all frames from `start` on, which is at most `stop`."""
        stop = start + rows.shape[1]
        if stop - self.origin > self.memory.shape[1]:
            kept = self.memory[:, self.first - self.origin : start - self.origin]
            memory = self.memory
            if SPARE * (stop - self.first) > memory.shape[1]:
                size = 2 * SPARE * (stop - self.first)
                memory = memory.new_empty(memory.shape[0], size, memory.shape[2])
            memory[:, : kept.shape[1]] = kept.clone()  # the two may overlap
            self.memory, self.origin = memory, self.first
        self.memory[:, start - self.origin : stop - self.origin] = rows
        self.stop = stop

    def read(self, start: int, stop: int) -> Tensor:
        """(B, stop - start, C), zeros where nothing is kept; it holds until the next `write`."""
        first, last = max(start, self.first), min(stop, self.stop)
        last = max(first, last)
        rows = self.memory[:, first - self.origin : last - self.origin]
        return rows if (first, last) == (start, stop) else F.pad(rows, (0, 0, first - start, stop - last))

    def forget(self, before: int) -> None:
        """Keep the frames from `before` on only."""
        self.first = max(self.first, min(before, self.stop))


__all__ = ["Frames"]
