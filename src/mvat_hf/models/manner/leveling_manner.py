"""Levels of a chunk before the model, which divides all of it by one deviation: what is quiet is lifted.

`lift` is for a chunk that is quiet as a whole, `evening` for quiet speech beside loud sound. The gains are undone after
the model. They are exactly 1 where nothing needs them.
"""

import math

import numpy as np

# deviations of full scale: below QUIET the model turns down what it is given, at AMPLE by less than 0.1 dB
QUIET, AMPLE = 10 ** (-45 / 20), 10 ** (-20 / 20)
LIFT_SLOPE, MAX_LIFT, FAINT = 4, 1e6, 1e-4
ROUNDING = 1e-5  # of an offset: what resampling and float32 leave beside it
# of `evening`. Speech DEPTH dB below the level of its chunk loses next to nothing in the model, at 25 dB it loses 10 dB
FRAME_SECONDS = 0.05
DEPTH, MOST_DEPTH = 9.0, 30.0  # dB: so far below nothing is done; so much is done at most
NEAR, FAR, SMOOTHING = 7, 20, 4  # frames on either side that are kept from loud sound, searched for pauses, smoothed
LIVELY = 9.0  # dB by which speech rises above its pauses; steady noise does not


def heard_deviation(chunk: np.ndarray, rate: float, high_pass_hz: float) -> np.ndarray:
    """Standard deviation (channels, 1) of (channels, n) above `high_pass_hz`, without an offset; 0 where it is so faint
    beside what is left out that lifting it would lift rounding errors."""
    samples = chunk.shape[1]
    varying = chunk - chunk.mean(axis=1, keepdims=True, dtype=np.float64).astype(chunk.dtype)
    spectrum = np.fft.rfft(varying)[:, first_heard(samples, rate, high_pass_hz) :]
    deviation = np.sqrt(2 * np.square(np.abs(spectrum)).sum(axis=1, keepdims=True)) / samples
    peak, varying_peak = (np.abs(audio).max(axis=1, keepdims=True) for audio in (chunk, varying))
    return np.where(deviation > np.maximum(FAINT * varying_peak, ROUNDING * peak), deviation, 0)


def first_heard(samples: int, rate: float, high_pass_hz: float) -> int:
    """The first bin of a spectrum of so many samples that the model hears: none of an offset."""
    return max(1, math.ceil(high_pass_hz * samples / rate))


def lift(deviation: np.ndarray) -> np.ndarray:
    """
    Float32 gains that bring quiet audio, by its deviation as the model hears it, to where its level does not matter.

    The model divides by the deviation plus 1e-3 and multiplies by the deviation, so below -45 dB of full scale its
    output is turned down. There what lies n dB below comes to lie `LIFT_SLOPE` n dB above, to at most -20 dB: the gain
    has no step. From -45 dB up it is exactly 1, and of silence too.
    """
    depth = QUIET / np.clip(deviation, AMPLE / MAX_LIFT, QUIET)
    gain = np.minimum(depth**LIFT_SLOPE * QUIET, AMPLE) / QUIET * depth
    return np.where((deviation > 0) & (deviation < QUIET), gain, 1).astype(np.float32)


def evening(chunk: np.ndarray, rate: float, high_pass_hz: float) -> np.ndarray:
    """
    Float32 gains (channels, n), at least 1, that bring speech far below the level of its chunk (channels, n) up to
    `DEPTH` dB below it: of a second speaker who is further away, or after a bang.

    Such speech rises and falls by `LIVELY` dB within a second and has no loud sound near it. All else has a gain of
    exactly 1. `rate` is in Hz. An offset, and what lies below `high_pass_hz`, are no sound.
    """
    samples, hop = chunk.shape[1], round(FRAME_SECONDS * rate)
    count = samples // hop  # what is over counts as the last frame
    if count < 2 * FAR:
        return np.ones((len(chunk), 1), dtype=np.float32)
    spectrum = np.fft.rfft(chunk)
    spectrum[:, : first_heard(samples, rate, high_pass_hz)] = 0
    # of the two that is less: the filter rings where the audio is silent
    power = np.minimum(
        *(frame_power(audio[:, : count * hop], hop) for audio in (np.fft.irfft(spectrum, samples), chunk))
    )
    loudest = around(power, NEAR).max(axis=2)
    # digital silence, as in a gap, is no pause: steady noise stops there, too
    lowest = around(around(np.where(power > 0, power, np.inf), 1).mean(axis=2), FAR).min(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):  # of silence
        depth = 10 * np.log10(power.mean(axis=1, keepdims=True) / loudest) - DEPTH
        lively = loudest >= 10 ** (LIVELY / 10) * lowest
    depth = np.where(lively & (loudest > 0), depth.clip(0, MOST_DEPTH), 0)
    if not depth.any():
        return np.ones((len(chunk), 1), dtype=np.float32)
    window = np.hanning(2 * SMOOTHING + 3)[1:-1]
    depth = around(depth, SMOOTHING) @ (window / window.sum())
    place = (np.arange(samples) + 0.5) / hop - 0.5
    decibels = np.stack([np.interp(place, np.arange(count), row) for row in depth])
    return (10 ** (decibels / 20)).astype(np.float32)


def frame_power(audio: np.ndarray, hop: int) -> np.ndarray:
    """Mean square (channels, n) of every `hop` samples of (channels, hop n)."""
    return np.square(audio.reshape(len(audio), -1, hop), dtype=np.float64).mean(axis=2)


def around(frames: np.ndarray, reach: int) -> np.ndarray:
    """Every frame of (channels, n) with `reach` on either side, (channels, n, 2 reach + 1); the ends are repeated."""
    padded = np.pad(frames, ((0, 0), (reach, reach)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1)
