"""The band above the model's own is kept, with the gain that the model gives the band just below at that moment.

That band of a recording at a higher rate is the recording less its copy resampled to the model's rate and back. The
gain is that of the model on the upper half of its own band, sqrt(power out / power in), smoothed: speech and noise
there are assumed to reach into the band above.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ..models.manner.chunking_manner import ChunkedEnhancer, recut_blocks, resample_blocks

JUDGED = (1 / 4, 7 / 16)  # of the model's rate: the band that the gain is read from, below the resampler's slope
HOP_SECONDS = 0.01  # between two frames, each of which is twice as long
SMOOTHING_HOPS = 2  # on either side of a frame, in a Hann window
BLOCK_HOPS = 256  # that are done at once


def stream(
    enhancer: ChunkedEnhancer, blocks: Iterable[np.ndarray], rate: float, channels: int, full_band: bool = True
) -> Iterator[np.ndarray]:
    """`ChunkedEnhancer.stream`; if `full_band`, and `rate` is above the model's, the band above is kept."""
    if full_band and rate > enhancer.rate:
        return stream_full_band(enhancer, blocks, rate, channels)
    return enhancer.stream(blocks, rate, channels)


def stream_full_band(
    enhancer: ChunkedEnhancer, blocks: Iterable[np.ndarray], rate: float, channels: int
) -> Iterator[np.ndarray]:
    """`stream` at a higher rate than the model's."""
    blocks, whole = itertools.tee(blocks)
    low, heard = itertools.tee(resample_blocks(blocks, rate, enhancer.rate, channels))
    # (2 channels, n): what the model makes of its band, and that band as it was
    both, judged = itertools.tee(beside(enhancer.enhance_blocks(low), heard))
    # resampled to and fro, a signal may come out a sample short: two zeros follow it
    padded = itertools.chain(both, [np.zeros((2 * channels, 2), dtype=np.float32)])
    draw_both = drawing(resample_blocks(padded, enhancer.rate, rate, 2 * channels))
    hop = round(HOP_SECONDS * enhancer.rate)
    draw_gain = drawing(interpolate(band_gains(judged, hop, channels), hop * rate / enhancer.rate))
    for block in whole:
        samples = block.shape[1]
        enhanced, before = np.split(draw_both(samples), 2)
        wet = enhanced + draw_gain(samples) * (block - before)
        yield (1 - enhancer.share) * wet + enhancer.share * block


def band_gains(blocks: Iterable[np.ndarray], hop: int, channels: int) -> Iterator[np.ndarray]:
    """Gains (channels, frames), 0 to 1, of blocks (2 channels, n) out of and into the model; frame k is at k `hop`."""
    reach = SMOOTHING_HOPS
    weights = np.hanning(2 * reach + 3)[1:-1]
    # frames to smooth over before the first and after the last
    ends = np.zeros((2 * channels, reach))
    powers = itertools.chain([ends], band_powers(blocks, hop, 2 * channels), [ends])
    for held in overlapping(powers, 1, 2 * reach):
        smooth = np.lib.stride_tricks.sliding_window_view(held, 2 * reach + 1, axis=1) @ weights
        after, before = np.split(smooth, 2)
        ratio = np.divide(after, before, out=np.zeros_like(after), where=before > 0)
        yield np.sqrt(np.minimum(ratio, 1))


def band_powers(blocks: Iterable[np.ndarray], hop: int, rows: int) -> Iterator[np.ndarray]:
    """Power (rows, frames) in the judged band of blocks (rows, n); frame k is 2 `hop` long about sample k `hop`."""
    first, last = (round(2 * hop * share) for share in JUDGED)
    window = np.hanning(2 * hop + 1)[:-1]
    padded = itertools.chain([np.zeros((rows, hop))], blocks, [np.zeros((rows, 3 * hop))])
    for held in overlapping(padded, hop, hop):
        frames = np.lib.stride_tricks.sliding_window_view(held, 2 * hop, axis=1)[:, ::hop]
        spectrum = np.fft.rfft(frames * window)[..., first:last]
        yield (spectrum.real**2 + spectrum.imag**2).sum(axis=-1)


def interpolate(frames: Iterable[np.ndarray], hop: float) -> Iterator[np.ndarray]:
    """Frames (channels, n) that are `hop` samples apart to samples, linearly; those before the last frame."""
    done, start = 0, 0  # samples and frames given out
    for held in overlapping(frames, 1, 1):
        end = start + held.shape[1] - 1
        samples = np.arange(done, int(np.ceil(end * hop)))
        place = samples / hop - start
        left = np.clip(place.astype(int), 0, held.shape[1] - 2)
        yield held[:, left] + (place - left) * (held[:, left + 1] - held[:, left])
        done, start = done + len(samples), end


def overlapping(blocks: Iterable[np.ndarray], step: int, overlap: int) -> Iterator[np.ndarray]:
    """Pieces of whole `step`s that begin with the last `overlap` samples of the one before; the rest is dropped."""
    held = None
    for block in recut_blocks(blocks, BLOCK_HOPS * step, BLOCK_HOPS * step):
        held = block if held is None else np.concatenate([held, block], axis=1)
        whole = (held.shape[1] - overlap) // step * step
        if whole > 0:
            yield held[:, : whole + overlap]
            held = held[:, whole:]


def beside(blocks: Iterable[np.ndarray], others: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Each of the blocks (rows, n) above as much of another stream of the same length: (2 rows, n)."""
    draw = drawing(others)
    for block in blocks:
        yield np.concatenate([block, draw(block.shape[1])])


def drawing(blocks: Iterable[np.ndarray]) -> Callable[[int], np.ndarray]:
    """A function that gives the next so many samples of a stream, which must hold them."""
    stream = iter(blocks)
    ready = next(stream)

    def draw(samples: int) -> np.ndarray:
        nonlocal ready
        while ready.shape[1] < samples:
            ready = np.concatenate([ready, next(stream)], axis=1)
        taken, ready = np.split(ready, [samples], axis=1)
        return taken

    return draw


__all__ = ["stream"]
