"""CSIG, CBAK and COVL, the composite measures of Hu and Loizou (IEEE TASLP 2008), and their parts.

Frames are 30 ms with a Hann window and a hop of a quarter. As the field computes them: at 16 kHz; with PESQ-WB in a
regression that was fitted with narrow-band PESQ; LLR and WSS averaged over the 95 % best frames, where LLR takes a
frame of digital silence as 0; segmental SNR after removing means and matching the peaks of both signals.
"""

import numpy as np

from ..utils.errors import extra
from .intrusive import check_pair, pesq

FRAME_SECONDS = 0.03
KEPT_SHARE = 0.95  # of the frames of LLR and WSS, the lowest
SEGMENTAL_SNR_RANGE = (-10.0, 35.0)  # dB, of a frame
EPS = np.finfo(np.float64).eps

# centre frequencies and widths of the 25 critical bands of WSS (Klatt 1982), Hz
# fmt: off
BAND_CENTRES = np.array([
    50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30, 1288.72, 1442.54,
    1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63,
])
BAND_WIDTHS = np.array([
    70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823, 168.154,
    183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136,
])
# fmt: on


def composite(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """
    {"csig", "cbak", "covl"}, mean opinion scores from 1 to 5, with the parts {"pesq", "llr", "wss", "ssnr"}.

    Args:
        reference, degraded: (time,) at `sampling_rate` of 16000 Hz.

    Raises:
        UnscorableError, ValueError: see `pesq`; also for less than one frame of 30 ms.
    """
    measures = (pesq, llr, wss, segmental_snr)
    quality, distance, slope, ssnr = (measure(reference, degraded, sampling_rate) for measure in measures)
    scores = opinions(quality, distance, slope, ssnr)
    return {**scores, "pesq": quality, "llr": distance, "wss": slope, "ssnr": ssnr}


def opinions(quality: float, distance: float, slope: float, ssnr: float) -> dict[str, float]:
    """{"csig", "cbak", "covl"}: Hu and Loizou's regressions on PESQ-WB, LLR, WSS and segmental SNR, cut to 1 to 5."""
    scores = {
        "csig": 3.093 - 1.029 * distance + 0.603 * quality - 0.009 * slope,
        "cbak": 1.634 + 0.478 * quality - 0.007 * slope + 0.063 * ssnr,
        "covl": 1.594 + 0.805 * quality - 0.512 * distance - 0.007 * slope,
    }
    return {name: float(np.clip(score, 1, 5)) for name, score in scores.items()}


def segmental_snr(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> float:
    """Mean over frames of the SNR in dB, each limited to -10 to 35 dB, after removing means and matching peaks."""
    reference, degraded = check_pair(reference, degraded)
    reference, degraded = reference - reference.mean(), degraded - degraded.mean()
    degraded = degraded * (np.abs(reference).max() / max(np.abs(degraded).max(), EPS))
    signal = np.square(frames(reference, sampling_rate)).sum(axis=1)
    noise = np.square(frames(reference - degraded, sampling_rate)).sum(axis=1)
    return float(np.clip(10 * np.log10(signal / (noise + EPS) + EPS), *SEGMENTAL_SNR_RANGE).mean())


def llr(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> float:
    """Log-likelihood ratio of the frames' linear prediction (order 16, or 10 below 10 kHz), best 95 %."""
    reference, degraded = check_pair(reference, degraded)
    order = 16 if sampling_rate >= 10000 else 10
    lags = np.abs(np.subtract.outer(np.arange(order + 1), np.arange(order + 1)))
    pairs = list(zip(frames(reference, sampling_rate), frames(degraded, sampling_rate), strict=True))
    ratios = np.zeros(len(pairs))
    for index, (clean, noisy) in enumerate(pairs):
        if clean.any() and noisy.any():
            correlation, clean_filter = linear_prediction(clean, order)
            _, noisy_filter = linear_prediction(noisy, order)
            matrix = correlation[lags]
            ratios[index] = np.log((noisy_filter @ matrix @ noisy_filter) / (clean_filter @ matrix @ clean_filter))
    return mean_of_best(ratios)


def wss(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> float:
    """Weighted spectral slope distance over 25 critical bands (Klatt 1982), best 95 % of the frames."""
    reference, degraded = check_pair(reference, degraded)
    clean = band_energies(frames(reference, sampling_rate), sampling_rate)
    noisy = band_energies(frames(degraded, sampling_rate), sampling_rate)
    weight = (slope_weights(clean) + slope_weights(noisy)) / 2
    distance = (weight * np.square(np.diff(clean) - np.diff(noisy))).sum(axis=1) / weight.sum(axis=1)
    return mean_of_best(distance)


def frames(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """(time,) as windowed frames (count, length)."""
    length = round(FRAME_SECONDS * sampling_rate)
    hop = length // 4
    count = max(int(len(audio) / hop - length / hop), 1)
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, length + 1) / (length + 1)))
    padded = np.pad(audio, (0, max(length - len(audio), 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[::hop][:count] * window


def linear_prediction(frame: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Autocorrelation (order + 1,) of a frame, and its prediction error filter [1, -a_1, …] by Yule and Walker."""
    with extra("evaluation"):
        from scipy.linalg import solve_toeplitz

    correlation = np.array([frame[: len(frame) - lag] @ frame[lag:] for lag in range(order + 1)])
    return correlation, np.concatenate([[1], -solve_toeplitz(correlation[:-1], correlation[1:])])


def band_energies(windowed: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Energies (count, 25) in dB of frames (count, length) in the critical bands, at least -100 dB."""
    size = 2 ** int(np.ceil(np.log2(2 * windowed.shape[1])))
    bins = size // 2
    power = np.square(np.abs(np.fft.rfft(windowed, size)[:, :bins]))
    per_hz = bins / (sampling_rate / 2)
    offset = (np.arange(bins) - np.floor(BAND_CENTRES * per_hz)[:, None]) / (BAND_WIDTHS * per_hz)[:, None]
    filters = np.exp(-11 * offset**2 + np.log(BAND_WIDTHS[0] / BAND_WIDTHS)[:, None])
    filters[filters < np.exp(-30 / (2 * 2.303))] = 0  # the skirts, from 30 dB down
    return 10 * np.log10(np.maximum(power @ filters.T, 1e-10))


def slope_weights(energies: np.ndarray) -> np.ndarray:
    """Weights (count, 24) of the slopes: large near the frame's maximum (K = 20) and near the next peak (K = 1)."""
    here = energies[:, :-1]
    highest = energies.max(axis=1, keepdims=True)
    return 20 / (20 + highest - here) * (1 / (1 + nearest_peaks(energies) - here))


def nearest_peaks(energies: np.ndarray) -> np.ndarray:
    """For each slope of (count, 25), the energy (count, 24) at the peak it leads to.

    The walk is that of the reference implementation, which takes the band before the last rising one on the way up.
    """
    rising = np.diff(energies) > 0
    count, slopes = rising.shape
    peaks = np.empty((count, slopes))
    up = energies[:, -2].copy()
    for band in reversed(range(slopes)):  # from the right: the end of the run of rising slopes that starts here
        ends = ~rising[:, band]
        up = np.where(ends, energies[:, max(band - 1, 0)], up)
        peaks[:, band] = up
    down = energies[:, 0].copy()
    for band in range(slopes):  # from the left: the start of the run of falling slopes that ends here
        down = np.where(rising[:, band], energies[:, band + 1], down)
        peaks[:, band] = np.where(rising[:, band], peaks[:, band], down)
    return peaks


def mean_of_best(distances: np.ndarray) -> float:
    """Mean over the lowest 95 % of the frames."""
    return float(np.sort(distances)[: max(round(KEPT_SHARE * len(distances)), 1)].mean())
