"""Perceptual disturbance as a training loss: what PESQ counts, in a form that has a gradient."""

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLING_RATE = 16000
FFT_SIZE, HOP = 512, 256  # samples: 32 ms, half overlapped, Hann
BANDS = 49
LISTENING_LEVEL = 79.0  # dB SPL, that of clean speech
LOUDNESS_SCALE, EXPONENT = 0.18660, 0.23  # Zwicker's law
DEAD_ZONE = 0.25  # of the smaller loudness: a difference below it is masked
ASYMMETRY_FLOOR, ASYMMETRY_CEILING = 3.0, 12.0
LARGEST = 45.0  # disturbance of a frame, of either kind
SYMMETRIC_WEIGHT, ASYMMETRIC_WEIGHT = 0.1, 0.0309  # of PESQ's score
EPS = 1e-8


def disturbance_loss(enhanced: Tensor, clean: Tensor) -> Tensor:
    """
    0.1 D + 0.0309 A, the symmetric and the asymmetric disturbance of ITU-T P.862 in units of its score; batch mean.

    Both spectra go through critical bands to loudness. D is the L2 norm over bands of the difference in loudness less a
    dead zone; A is the L1 norm of the same, weighted by how far power was added (not removed). Frames count alike, as
    in Martín-Doñas et al., "A deep learning loss function based on the perceptual evaluation of the speech quality"
    (2018), and quiet ones more. Left out of P.862: alignment, equalisation, norms over time; its tables of bands and
    thresholds are formulas here (Traunmüller 1990; Terhardt 1979). A guide for training, no measurement of PESQ.

    Args:
        enhanced, clean: audio (B, T) at 16 kHz. The level does not matter; items of silent speech count as 0.
    """
    level = clean.square().mean(dim=-1, keepdim=True).sqrt()
    audible = level > EPS
    scale = torch.where(audible, level, 1.0)
    # (B, T) -> (B, frames, bands)
    degraded, reference = (band_powers(audio / scale) for audio in (enhanced, clean))
    heard, wanted = loudness(degraded), loudness(reference)
    difference = F.relu((heard - wanted).abs() - DEAD_ZONE * torch.minimum(heard, wanted))
    ratio = ((degraded + 50) / (reference + 50)).pow(1.2)
    asymmetry = torch.where(ratio < ASYMMETRY_FLOOR, 0.0, ratio.clamp_max(ASYMMETRY_CEILING)).detach()
    widths = band_widths(clean.device)
    symmetric = ((difference * widths).square().sum(dim=-1) + EPS).sqrt()
    asymmetric = (difference * asymmetry * widths).sum(dim=-1)
    quiet = ((reference.sum(dim=-1) + 1e5) / 1e7).pow(-0.04)
    symmetric, asymmetric = ((norm * quiet).clamp_max(LARGEST) for norm in (symmetric, asymmetric))
    disturbance = SYMMETRIC_WEIGHT * symmetric + ASYMMETRIC_WEIGHT * asymmetric
    return torch.where(audible, disturbance, 0.0).mean()


def band_powers(audio: Tensor) -> Tensor:
    """Power in each critical band and frame, (B, T) to (B, frames, 49); at RMS 1 the bands sum to 79 dB SPL."""
    window = torch.hann_window(FFT_SIZE, device=audio.device)
    # float32 whatever autocast says
    spectrum = torch.view_as_real(torch.stft(audio.float(), FFT_SIZE, HOP, window=window, return_complex=True))
    unit = 10 ** (LISTENING_LEVEL / 10) * 2 / (FFT_SIZE * window.square().sum())
    with torch.autocast(audio.device.type, enabled=False):
        return spectrum.square().sum(dim=-1).transpose(1, 2) @ filterbank(audio.device) * unit


def bark(frequency: Tensor) -> Tensor:
    """Critical-band rate of a frequency in Hz."""
    return 26.81 * frequency / (1960 + frequency) - 0.53


def filterbank(device: torch.device) -> Tensor:
    """(bins, bands): triangles of half-overlapping neighbours, one Bark-equal band apart, that sum to 1 in each bin."""
    rates = bark(torch.linspace(0, SAMPLING_RATE / 2, FFT_SIZE // 2 + 1, device=device))
    position = (rates - rates[0]) / (rates[-1] - rates[0]) * (BANDS - 1)
    return F.relu(1 - (position[:, None] - torch.arange(BANDS, device=device)).abs())


def band_centres(device: torch.device) -> Tensor:
    """Centre frequencies of the bands in Hz."""
    low, high = bark(torch.tensor([0.0, SAMPLING_RATE / 2], device=device))
    rates = torch.linspace(0, 1, BANDS, device=device) * (high - low) + low
    return 1960 * (rates + 0.53) / (26.28 - rates)


def band_widths(device: torch.device) -> Tensor:
    """Width of a band in Bark, the same for all: (1,)."""
    low, high = bark(torch.tensor([0.0, SAMPLING_RATE / 2], device=device))
    return ((high - low) / (BANDS - 1)).unsqueeze(0)


def loudness(powers: Tensor) -> Tensor:
    """Zwicker's law: S (P0 / 0.5)^0.23 ((0.5 + 0.5 P / P0)^0.23 - 1), 0 below the threshold of hearing P0."""
    kilohertz = band_centres(powers.device).clamp_min(20) / 1000
    decibels = 3.64 * kilohertz**-0.8 - 6.5 * torch.exp(-0.6 * (kilohertz - 3.3) ** 2) + 1e-3 * kilohertz**4
    threshold = 10 ** (decibels.clamp_max(60) / 10)
    above = (powers / threshold).clamp_min(1)
    return LOUDNESS_SCALE * (threshold / 0.5).pow(EXPONENT) * ((0.5 + 0.5 * above).pow(EXPONENT) - 1)


__all__ = ["disturbance_loss"]
