"""RMS levels of audio in dB, over the whole or where noise is active."""

import numpy as np

EPS = 1e-12
ACTIVE = 10 ** (-25 / 20)  # RMS of an active window relative to the peak of the whole


def rms_db(audio: np.ndarray) -> float:
    """Root mean square of `audio` (time,) in dB relative to full scale."""
    return 10 * float(np.log10(np.mean(np.square(audio, dtype=np.float64)) + EPS))


def at_level(audio: np.ndarray, level_db: float) -> np.ndarray:
    """`audio` (time,) scaled to an RMS level in dB relative to full scale."""
    return audio * 10 ** ((level_db - rms_db(audio)) / 20)


def active_db(speech: np.ndarray, noise: np.ndarray, window: int) -> tuple[float, float]:
    """
    RMS levels (dB) of speech and noise over the windows in which the noise is active.

    After `active_rms` of the challenge's synthesiser: windows of 100 ms count whose noise has an RMS above -25 dB of
    the noise's peak (written there as -50, of 20 log10 of a mean square). Over the whole where the noise has no such
    window, or speech is silent in all of them.

    Args:
        speech, noise: (time,), of one length.
        window: samples of a window; the last one may be shorter.
    """
    starts = np.arange(0, len(noise), window)
    counts = np.diff(starts, append=len(noise))
    of_speech, of_noise = (
        np.add.reduceat(np.square(part, dtype=np.float64), starts) / counts for part in (speech, noise)
    )
    active = of_noise > (ACTIVE * np.abs(noise).max()) ** 2
    if not of_speech[active].any():
        return rms_db(speech), rms_db(noise)
    weights = counts[active] / counts[active].sum()
    speech_power, noise_power = of_speech[active] @ weights, of_noise[active] @ weights
    return 10 * float(np.log10(speech_power + EPS)), 10 * float(np.log10(noise_power + EPS))
