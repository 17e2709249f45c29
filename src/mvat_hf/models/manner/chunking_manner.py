"""A model on a stream: blocks in, enhanced blocks out, at any rate and of any length, in bounded memory.

A block is (channels, n), in [-1, 1], of any n; where a stream is cut into blocks changes nothing in the result.
`ChunkedEnhancer` is put together from the functions below it, each of which turns one stream into another. At the
model's own rate nothing but numpy and the model is needed, and torch for a model of PyTorch.
"""

import itertools
import math
import sys
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from .leveling_manner import evening, heard_deviation, lift

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_SECONDS, OVERLAP_SECONDS, OVERLAP_SHARE = 10.0, 1.0, 1 / 4  # unless others are asked for
BLOCK_FRAMES = 2**15  # frames taken at once from an array or a file
MAX_CHANNELS = 64  # more than this in an array means that its axes are the wrong way round
FULL_SCALE = {"int16": 2**15, "int32": 2**31}  # integer PCM that is understood in arrays


class ChunkedEnhancer:
    """
    A model on a stream, in chunks that overlap and are cross-faded linearly; neither delay nor padding.

    Every chunk starts `chunk_seconds - overlap_seconds` after the one before, save the last, which is the last
    `chunk_seconds` of the signal. A signal shorter than a chunk is one pass. Holds about two chunks.

    Args:
        model: a MannerModel or one like it, on its device and in its dtype; each channel is one row of its batch. If it
            has a method `enhance_rows`, of arrays (channels, n) to the same, then only that is called.
        dry: share of the input in the output, 0 to 1.
        attenuation_limit: in dB, at least 0: the input is kept at 10^(-limit / 20) or more. The larger share holds.
        chunk_seconds: None for one pass over the whole signal.
        overlap_seconds: at least 0, below `chunk_seconds`; None for 1 s, or a quarter of a chunk where that is less.

    Raises:
        ValueError: an option out of its range.
    """

    def __init__(
        self,
        model: Any,
        dry: float = 0.0,
        attenuation_limit: float | None = None,
        chunk_seconds: float | None = CHUNK_SECONDS,
        overlap_seconds: float | None = None,
    ):
        self.model = model
        self.share = input_share(dry, attenuation_limit)
        self.rate = model.config.sampling_rate
        self.chunk, self.overlap = chunk_samples(chunk_seconds, overlap_seconds, self.rate)

    def stream(self, blocks: Iterable[np.ndarray], rate: float, channels: int) -> Iterator[np.ndarray]:
        """Blocks (`channels`, n) at `rate` Hz to enhanced blocks of the same shapes, mixed with their input."""
        blocks, dry = itertools.tee(blocks)
        enhanced = self.enhance_blocks(resample_blocks(blocks, rate, self.rate, channels))
        # resampled to and fro, a signal may come out a sample short: two zeros follow it, mix_blocks drops what is over
        padded = itertools.chain(enhanced, [np.zeros((channels, 2), dtype=np.float32)])
        return mix_blocks(dry, resample_blocks(padded, self.rate, rate, channels), self.share)

    def enhance_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Overlap-add at the model's rate; as many samples come out as went in, in blocks of other lengths."""
        window = tail = np.empty((0, 0))  # the newest chunk's input; the end of its output, which the next fades out
        for piece in recut_blocks(blocks, self.chunk, self.chunk - self.overlap):
            window = np.concatenate([window, piece], axis=1)[:, -self.chunk :] if window.size else piece
            output = self.enhance_chunk(window)[:, -(self.overlap + piece.shape[1]) :]
            if tail.size:
                output = cross_fade(tail, output)
            ready = max(output.shape[1] - self.overlap, 0)
            tail = output[:, ready:]
            yield output[:, :ready]
        if tail.size:
            yield tail

    def enhance_chunk(self, chunk: np.ndarray) -> np.ndarray:
        """One pass of the model, (channels, n) to the same; what is quiet is lifted before it and lowered after it."""
        high_pass_hz = getattr(self.model.config, "high_pass_hz", 0)
        even = evening(chunk, self.rate, high_pass_hz)
        gain = even * lift(heard_deviation(chunk * even, self.rate, high_pass_hz))
        return self.enhance_rows(chunk * gain) / gain

    def enhance_rows(self, rows: np.ndarray) -> np.ndarray:
        """One pass of the model as it is, (channels, n) to the same."""
        if hasattr(self.model, "enhance_rows"):
            return self.model.enhance_rows(rows)
        import torch

        values = torch.tensor(rows, device=self.model.device)
        with torch.inference_mode():
            return self.run(values).float().cpu().numpy()

    def run(self, audio: "Tensor") -> "Tensor":
        """Audio (B, T) through the model, which is left in evaluation; `mvat_hf.inference.chunks` has a faster way."""
        return self.model.eval()(audio.to(self.model.dtype)).audio_values


def padded_length(length: int, kernel_size: int, stride: int, depth: int) -> int:
    """Shortest length of at least `length` samples that the convolutions of a U-Net reproduce exactly."""
    frames = length
    for _ in range(depth):
        frames = max(math.ceil((frames - kernel_size) / stride) + 1, 1)
    for _ in range(depth):
        frames = (frames - 1) * stride + kernel_size
    return frames


def input_share(dry: float, attenuation_limit: float | None) -> float:
    """Share of the input in the output: the larger of `dry` and 10^(-attenuation_limit / 20), the limit in dB."""
    if not 0 <= dry <= 1:
        raise ValueError(f"dry must be from 0 to 1, got {dry}")
    if attenuation_limit is None:
        return dry
    if not attenuation_limit >= 0:
        raise ValueError(f"attenuation_limit must be at least 0 dB, got {attenuation_limit}")
    return max(dry, 10 ** (-attenuation_limit / 20))


def chunk_samples(chunk_seconds: float | None, overlap_seconds: float | None, rate: int) -> tuple[int, int]:
    """Chunk and overlap in samples at `rate` Hz; a chunk without end for None."""
    if chunk_seconds is None:
        return sys.maxsize, 0
    if overlap_seconds is None:
        overlap_seconds = min(OVERLAP_SECONDS, OVERLAP_SHARE * chunk_seconds)
    if 0 <= overlap_seconds < chunk_seconds < math.inf:
        chunk, overlap = round(chunk_seconds * rate), round(overlap_seconds * rate)
        if overlap < chunk:
            return chunk, overlap
    raise ValueError(
        f"expected 0 <= overlap_seconds < chunk_seconds, a sample or more apart at {rate} Hz, "
        f"got overlap_seconds={overlap_seconds}, chunk_seconds={chunk_seconds}"
    )


def is_rate(rate: Any) -> bool:
    """Whether it can be a sampling rate: a number of Hz from 1 to what a file's header can say."""
    number: Any = rate
    return isinstance(rate, Real) and bool(1 <= number < 2**31)


def array_fault(audio: np.ndarray) -> str | None:
    """Why an array (..., time) cannot be enhanced: its shape, dtype or values; None if it can."""
    if audio.ndim not in (1, 2, 3) or audio.size == 0:
        shapes = "(time,), (channels, time) or (batch, channels, time)"
        return f"audio must be {shapes} and hold a sample, got {audio.shape}"
    if audio.ndim > 1 and audio.shape[-2] > MAX_CHANNELS:
        return f"audio must be (channels, time) with at most {MAX_CHANNELS} channels, got {audio.shape}: transpose it?"
    if audio.dtype.name not in FULL_SCALE and not np.issubdtype(audio.dtype, np.floating):
        return f"audio must be floating, {' or '.join(FULL_SCALE)}, got {audio.dtype}"
    return finite_fault(audio, "audio")


def finite_fault(audio: np.ndarray, name: str) -> str | None:
    """That `audio` holds NaN or infinity, and how many; None if it does not."""
    wrong = int(audio.size - np.isfinite(audio).sum())
    return f"{name} holds {wrong} NaN or infinite samples, expected finite numbers" if wrong else None


def array_blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """(channels, time) as float64 blocks; integer PCM is scaled to [-1, 1]."""
    scale = FULL_SCALE.get(rows.dtype.name, 1)
    for start in range(0, rows.shape[1], BLOCK_FRAMES):
        yield rows[:, start : start + BLOCK_FRAMES].astype(np.float64) / scale


def recut_blocks(blocks: Iterable[np.ndarray], first: int, rest: int) -> Iterator[np.ndarray]:
    """The same samples in one block of `first` samples and others of `rest`; the last is shorter, none is empty."""
    held, count, wanted = [], 0, first
    for block in blocks:
        held.append(block)
        count += block.shape[1]
        if count >= wanted:
            joined = np.concatenate(held, axis=1)
            while joined.shape[1] >= wanted:
                yield joined[:, :wanted]
                joined, wanted = joined[:, wanted:], rest
            held, count = [joined], joined.shape[1]
    if count:
        yield np.concatenate(held, axis=1)


def cross_fade(ending: np.ndarray, starting: np.ndarray) -> np.ndarray:
    """`starting` (channels, n), its first samples faded in linearly over `ending` (channels, at most n)."""
    overlap = ending.shape[1]
    # 1 / (overlap + 1), ..., overlap / (overlap + 1)
    rise = np.linspace(0, 1, overlap + 2, dtype=np.float32)[1:-1]
    faded = ending + rise * (starting[:, :overlap] - ending)
    return np.concatenate([faded, starting[:, overlap:]], axis=1)


def resample_blocks(
    blocks: Iterable[np.ndarray], rate: float, target_rate: float, channels: int
) -> Iterator[np.ndarray]:
    """Band-limited resampling by soxr without delay: T samples in all to round(T target_rate / rate); float32."""
    if rate == target_rate:
        yield from (block.astype(np.float32) for block in blocks)
        return
    try:
        import soxr
    except ModuleNotFoundError as error:
        raise ImportError(f"audio at {rate} Hz must be resampled to {target_rate} Hz: pip install soxr") from error
    resampler = soxr.ResampleStream(rate, target_rate, channels, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block.T, dtype=np.float32)).T
    yield resampler.resample_chunk(np.zeros((0, channels), dtype=np.float32), last=True).T


def mix_blocks(dry: Iterable[np.ndarray], wet: Iterator[np.ndarray], share: float) -> Iterator[np.ndarray]:
    """(1 - share) wet + share dry in the blocks of `dry`; `wet` must hold as many samples in all, or more."""
    ready = next(wet)
    for block in dry:
        while ready.shape[1] < block.shape[1]:
            ready = np.concatenate([ready, next(wet)], axis=1)
        enhanced, ready = np.split(ready, [block.shape[1]], axis=1)
        yield (1 - share) * enhanced + share * block


__all__ = ["ChunkedEnhancer"]
