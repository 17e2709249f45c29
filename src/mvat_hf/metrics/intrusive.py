"""PESQ, STOI and SI-SDR: metrics that compare a degraded recording with its clean reference."""

import warnings

import numpy as np


class UnscorableError(ValueError):
    """A pair on which a metric is not defined, silence for example; count it, never give it a score."""


def check_pair(reference: np.ndarray, degraded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (time,) of one length, finite and not silent; UnscorableError says what is wrong."""
    reference, degraded = np.asarray(reference, dtype=np.float64), np.asarray(degraded, dtype=np.float64)
    if reference.ndim != 1 or reference.shape != degraded.shape:
        raise UnscorableError(f"expected two arrays (time,) of one length, got {reference.shape} and {degraded.shape}")
    for name, audio in (("reference", reference), ("degraded", degraded)):
        if not np.isfinite(audio).all():
            raise UnscorableError(f"the {name} holds NaN or infinity")
        if not audio.any():
            raise UnscorableError(f"the {name} is silent")
    return reference, degraded


def pesq(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int, mode: str = "wb") -> float:
    """PESQ, mean opinion score of about 1.0 to 4.64: ITU-T P.862.2 ("wb", 16 kHz) or P.862 ("nb", 8 or 16 kHz).

    Raises:
        UnscorableError: silence, no utterance found, too short. ValueError: mode or rate not of the standard.
    """
    import pesq as package

    rates = {"wb": (16000,), "nb": (8000, 16000)}
    if mode not in rates or sampling_rate not in rates[mode]:
        got = f'"{mode}" at {sampling_rate} Hz'
        raise ValueError(f'PESQ is defined for "wb" at 16000 Hz and "nb" at 8000 or 16000 Hz, got {got}')
    reference, degraded = check_pair(reference, degraded)
    try:
        return float(package.pesq(sampling_rate, reference, degraded, mode))
    except package.PesqError as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise UnscorableError(f"PESQ: {reason.decode() if isinstance(reason, bytes) else reason}") from error


def stoi(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int, extended: bool = False) -> float:
    """STOI (Taal et al. 2011), or ESTOI (Jensen and Taal 2016) when `extended`: about 0 to 1.

    Raises:
        UnscorableError: silence, or less than about 0.4 s of speech.
    """
    import pystoi

    reference, degraded = check_pair(reference, degraded)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns and returns 1e-5 when there is too little speech
        try:
            return float(pystoi.stoi(reference, degraded, sampling_rate, extended=extended))
        except (RuntimeWarning, ValueError) as error:
            raise UnscorableError("STOI: too little speech, it needs about 0.4 s") from error


def si_sdr(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int | None = None) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), means removed.

    10 log10(|s|^2 / |s - e|^2) with s = reference scaled by <e, reference> / |reference|^2. The rate does not matter.

    Raises:
        UnscorableError: a constant signal, or a degraded one that is exactly the scaled reference (infinite ratio).
    """
    reference, degraded = check_pair(reference, degraded)
    if np.ptp(reference) == 0:
        raise UnscorableError("the reference is constant")
    reference, degraded = reference - reference.mean(), degraded - degraded.mean()
    energy = reference @ reference
    target = (degraded @ reference) / energy * reference
    distortion = degraded - target
    if not distortion.any() or not target.any():
        raise UnscorableError("SI-SDR is infinite: the degraded signal is the reference, or orthogonal to it")
    return float(10 * np.log10((target @ target) / (distortion @ distortion)))
