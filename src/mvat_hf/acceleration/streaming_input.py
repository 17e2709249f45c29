"""MANNER's processing of audio before the network, on a stream: the high-pass filter, and division by the deviation.

Both see the whole recording in a `MannerModel`. On a stream the filter is a convolution that sees little of what
follows, and what it cannot see all of waits. Where the network needs it before, the filter sees silence there, and
computes it anew later. The deviation is that of the newest audio; what was divided once stays as it is.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.manner.leveling_manner import lift
from ..models.manner.modeling_manner import HIGH_PASS_ORDER, HIGH_PASS_SECONDS, HIGH_PASS_STEP
from .frames import Frames

LOOKAHEAD_SECONDS = 0.02  # that the filter sees
STOP_BAND = 0.75  # of the cut-off: what is below is to be silent, which counts
STOP_WEIGHT = 30.0  # times as much as the rest


class StreamingInput:
    """
    High pass and division by the deviation, (B, T) as it comes.

    Args:
        config: of the model.
        batch: B.
        context: samples that the deviation is taken over.
        scale_eps: beside the deviation that the input is divided by.

    Attributes:
        settled: so many samples are as they stay; those after them, if any, are provisional.
        normalized: samples (B, T, 1) as the network takes them.
        scale: what the network's output is multiplied by, (B, T, 1).
    """

    def __init__(self, config: Any, batch: int, context: int, scale_eps: float):
        self.context, self.scale_eps = context, scale_eps
        rate, hertz = config.sampling_rate, config.high_pass_hz
        self.lookahead = round(LOOKAHEAD_SECONDS * rate) if hertz else 0
        self.past = int(HIGH_PASS_SECONDS * rate) if hertz else 0
        self.taps = torch.from_numpy(high_pass_taps(hertz, rate, self.lookahead, self.past)) if hertz else None
        self.response = torch.empty(0)  # of the taps, for the latest size
        self.raw, self.filtered, self.normalized, self.scale = (Frames(batch, 1) for _ in range(4))

    @property
    def settled(self) -> int:
        return max(self.raw.stop - self.lookahead, 0)

    def advance(self, samples: Tensor, needed: int) -> None:
        """Take in more samples (B, n); up to sample `needed` and what the filter sees, also what does not stay so."""
        start = self.settled
        self.raw.write(self.raw.stop, samples.unsqueeze(-1))
        stop = max(self.settled, min(needed + self.lookahead, self.raw.stop))
        self.filtered.write(start, self.high_passed(start, stop).unsqueeze(-1))
        self.raw.forget(self.settled - self.past)
        self.filtered.forget(min(stop - self.context, self.settled))
        scale = self.deviation()
        self.scale.write(start, scale.expand(-1, stop - start, -1))
        gain = torch.from_numpy(lift(scale.numpy()))  # of quiet audio, as if it came in and went out that much louder
        self.normalized.write(start, self.filtered.read(start, stop) / (scale + self.scale_eps / gain))

    def deviation(self) -> Tensor:
        """(B, 1, 1), of the filtered samples that are kept."""
        heard = self.filtered.read(self.filtered.first, self.filtered.stop)
        # a single sample has none
        return heard.std(dim=1, keepdim=True) if heard.shape[1] > 1 else heard.abs()

    def high_passed(self, start: int, stop: int) -> Tensor:
        """Samples `start` to `stop`, (B, stop - start), silence before the stream and after its end."""
        audio = self.raw.read(start - self.past, stop + self.lookahead).squeeze(-1)
        if self.taps is None:
            return audio
        # what wraps around falls on what is cut off
        size = -(-audio.shape[1] // HIGH_PASS_STEP) * HIGH_PASS_STEP
        if len(self.response) != size // 2 + 1:
            self.response = torch.fft.rfft(self.taps, size)
        filtered = torch.fft.irfft(torch.fft.rfft(audio, size) * self.response, size)
        return filtered[:, len(self.taps) - 1 : audio.shape[1]]


@lru_cache(maxsize=16)
def high_pass_taps(hertz: float, rate: int, lookahead: int, past: int) -> np.ndarray:
    """
    The taps that come nearest to the response of `high_pass`, of those that see `lookahead` samples of what follows
    and `past` of what was: least squares over all frequencies, with more weight on the stop band. (past + 1 +
    lookahead,) float32, to be convolved with.
    """
    count = past + 1 + lookahead
    size = 1 << (4 * count).bit_length()
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    power = np.minimum(frequencies / hertz, 4) ** (2 * HIGH_PASS_ORDER)  # from four times as high on the response is 1
    weight = np.where(frequencies < STOP_BAND * hertz, STOP_WEIGHT, 1)
    wanted = np.fft.irfft(weight * power / (1 + power), size)
    return solve_toeplitz(np.fft.irfft(weight, size)[:count], np.roll(wanted, lookahead)[:count]).astype(np.float32)


def solve_toeplitz(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    """x of T x = `values` for the symmetric Toeplitz matrix of that first column, by Levinson's recursion."""
    solution, backward = np.zeros(len(values)), np.zeros(len(values))
    solution[0], backward[0] = values[0] / column[0], 1 / column[0]
    for count in range(1, len(values)):
        rest, known = column[count:0:-1], backward[:count]  # T grows by a row of `rest`
        # `known` solves T known = (0, ..., 0, 1), and backwards T known = (1, 0, ..., 0)
        error = rest @ known[::-1]
        longer = np.zeros(count + 1)
        longer[1:] = known
        longer[:-1] -= error * known[::-1]
        backward[: count + 1] = longer / (1 - error**2)
        solution[: count + 1] += (values[count] - rest @ solution[:count]) * backward[: count + 1]
    return solution


__all__ = ["StreamingInput"]
