"""PESQ, STOI, ESTOI and SI-SDR: metrics that compare a degraded recording with its clean reference."""

import warnings

import numpy as np

from ..utils.errors import extra

# of the code of P.862: the utterances that it holds, and in windows of 4 ms the longest pause that it bridges, the
# longest click that it ignores, and the shortest utterance but for the 2 windows that it adds on either side
MOST_UTTERANCES = 50
WINDOW_SECONDS, BRIDGED, IGNORED, SHORTEST = 0.004, 50, 4, 46


ROUNDING = float(np.finfo(np.float32).eps)  # relative: what is no larger may be rounding alone, of audio in 32 bits
FAINTEST = 1e-10  # peak, -200 dBFS: what is fainter is lost in what metrics add to their denominators


class UnscorableError(ValueError):
    """A pair on which a metric is not defined, silence for example; count it, never give it a score."""


class UsageError(ValueError):
    """A sampling rate or mode that a metric does not have: a mistake of the caller, whatever the pair."""


def check_signal(audio: np.ndarray, name: str) -> np.ndarray:
    """`audio` as float64 (time,), finite, not silent and not constant; UnscorableError says what is wrong."""
    audio = np.asarray(audio, dtype=np.float64)
    if audio.ndim != 1:
        raise UnscorableError(f"the {name} is of shape {audio.shape}, expected (time,)")
    if not np.isfinite(audio).all():
        raise UnscorableError(f"the {name} holds NaN or infinity")
    peak = np.abs(audio).max(initial=0)
    if peak < FAINTEST:
        raise UnscorableError(f"the {name} is silent" + (f": its peak is {peak:.1g}" if peak else ""))
    if np.ptp(audio) <= 2 * ROUNDING * peak:
        raise UnscorableError(f"the {name} is constant: silence with an offset")
    return audio


def check_pair(reference: np.ndarray, degraded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (time,) of one length, as `check_signal` asks of each; UnscorableError says what is wrong."""
    if np.shape(reference) != np.shape(degraded):
        shapes = f"{np.shape(reference)} and {np.shape(degraded)}"
        raise UnscorableError(f"expected two arrays (time,) of one length, got {shapes}")
    return check_signal(reference, "reference"), check_signal(degraded, "degraded")


def pesq(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int, mode: str = "wb") -> float:
    """
    PESQ, mean opinion score of about 1.0 to 4.64 (`mode` "wb", ITU-T P.862.2) or 4.56 ("nb", P.862 with P.862.1).

    The modes are different scales, "nb" being the higher; papers on enhancement at 16 kHz mean "wb" unless they say
    narrow-band. PESQ aligns time and level itself, so a constant delay or gain costs little. Nothing is trimmed here:
    cutting silence at the ends changes the score. Nothing above 16 kHz is defined: resample both signals alike.

    Args:
        reference, degraded: (time,) at `sampling_rate`, 16000 Hz for "wb", 8000 or 16000 Hz for "nb".

    Raises:
        UnscorableError: silence, no utterance found, too short, perhaps more than 50 utterances. UsageError: mode or
            rate not of the standard.
    """
    with extra("evaluation"):
        import pesq as package

    rates = {"wb": (16000,), "nb": (8000, 16000)}
    if mode not in rates or sampling_rate not in rates[mode]:
        got = f'"{mode}" at {sampling_rate} Hz'
        raise UsageError(f'PESQ is defined for "wb" at 16000 Hz and "nb" at 8000 or 16000 Hz, got {got}')
    reference, degraded = check_pair(reference, degraded)
    check_utterances(reference, sampling_rate)
    try:
        return float(package.pesq(sampling_rate, reference, degraded, mode))
    except package.PesqError as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise UnscorableError(f"PESQ: {reason.decode() if isinstance(reason, bytes) else reason}") from error


def check_utterances(reference: np.ndarray, sampling_rate: int) -> None:
    """UnscorableError where `reference` (time,) may have as many utterances as the code of P.862 holds: it does not
    check, and writes beyond its memory."""
    seconds = len(reference) / sampling_rate
    shortest = (SHORTEST * MOST_UTTERANCES + BRIDGED * (MOST_UTTERANCES - 1)) * WINDOW_SECONDS
    if seconds >= shortest and most_stretches(reference, sampling_rate) >= MOST_UTTERANCES:
        raise UnscorableError(
            f"PESQ holds {MOST_UTTERANCES} utterances, {seconds:.0f} s may have more: cut the recording"
        )


def most_stretches(reference: np.ndarray, sampling_rate: int) -> int:
    """The most utterances that P.862 may find in `reference` (time,): of all thresholds within its 40 dB below the
    loudest window, in the whole band and in that of a telephone, which is about what its filters leave."""
    with extra("evaluation"):
        from scipy.signal import butter, sosfilt

    size = round(WINDOW_SECONDS * sampling_rate)
    band = sosfilt(butter(2, (300, 3400), "bandpass", fs=sampling_rate, output="sos"), reference)
    most = 0
    for audio in (reference, band):
        power = np.square(audio[: len(audio) // size * size]).reshape(-1, size).mean(axis=1)
        for threshold in power.max() * 10 ** np.arange(-4, 0, 0.05):
            most = max(most, stretches(power, threshold), stretches(power, threshold, weakest=3 * threshold))
    return most


def stretches(power: np.ndarray, threshold: float, weakest: float = 0.0) -> int:
    """Stretches of windows (count,) above `threshold`, as long as an utterance once pauses are bridged; clicks, and
    runs whose mean is below `weakest`, do not count."""
    edges = np.flatnonzero(np.diff(power > threshold, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    total = np.concatenate([[0], np.cumsum(power)])
    loud = (total[ends] - total[starts] >= weakest * (ends - starts)) & (ends - starts > IGNORED)
    starts, ends = starts[loud], ends[loud]
    pauses = np.flatnonzero(starts[1:] - ends[:-1] > BRIDGED)
    first, last = np.concatenate([[0], pauses + 1]), np.concatenate([pauses, [len(ends) - 1]])
    return int((ends[last] - starts[first] >= SHORTEST).sum()) if len(starts) else 0


def stoi(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> float:
    """
    STOI, short-time objective intelligibility (Taal et al. 2011): about 0 to 1; papers often give it in percent.

    Both signals are resampled to 10 kHz, so nothing above 5 kHz counts, and frames in which the reference lies 40 dB
    below its loudest frame are left out. A gain costs nothing; a delay does, as nothing is aligned.

    Raises:
        UnscorableError: silence, or less than about 0.4 s of speech.
    """
    return intelligibility(reference, degraded, sampling_rate, extended=False)


def estoi(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> float:
    """
    Extended STOI (Jensen and Taal 2016), about 0 to 1: with correlation across bands, for noises that fluctuate.

    Everything else is as in `stoi`; the values are lower, and papers that write STOI do not mean it.
    """
    return intelligibility(reference, degraded, sampling_rate, extended=True)


def intelligibility(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int, extended: bool) -> float:
    """STOI or ESTOI by pystoi, which returns 1e-5 with a warning where there is too little speech: UnscorableError."""
    with extra("evaluation"):
        import pystoi

    reference, degraded = check_pair(reference, degraded)
    generator = np.random.get_state()
    np.random.seed(0)  # pystoi adds noise of 1e-16 to what it normalises for ESTOI: the same one to every pair
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            return float(pystoi.stoi(reference, degraded, sampling_rate, extended=extended))
    except (RuntimeWarning, ValueError) as error:
        raise UnscorableError("STOI: too little speech, it needs about 0.4 s") from error
    finally:
        np.random.set_state(generator)


def si_sdr(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int | None = None) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), means removed.

    10 log10(|s|^2 / |s - e|^2) with s = reference scaled by <e, reference> / |reference|^2. The rate does not matter.
    A gain costs nothing, but a delay of a single sample ruins it: remove a system's constant delay before.

    Beyond 138 dB either way what is left may be the rounding of 32-bit samples: one such file would lift the mean of a
    test set by several dB.

    Raises:
        UnscorableError: a constant signal, or a degraded one that but for rounding is the scaled reference (infinite
            ratio), or has no part of it.
    """
    reference, degraded = check_pair(reference, degraded)
    stored = degraded @ degraded, reference @ reference  # with their means, which samples are rounded with
    reference, degraded = reference - reference.mean(), degraded - degraded.mean()
    gain = (degraded @ reference) / (reference @ reference)
    target = gain * reference
    distortion = degraded - target
    signal, rest = target @ target, distortion @ distortion
    if rest <= ROUNDING**2 * max(stored[0], gain**2 * stored[1]) or signal <= ROUNDING**2 * rest:
        raise UnscorableError("SI-SDR is infinite: the degraded signal is the scaled reference, or orthogonal to it")
    return float(10 * np.log10(signal / rest))
