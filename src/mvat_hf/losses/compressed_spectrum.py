"""Compressed spectral distance as a training loss: weighs quiet bins as hearing does; L_SE goes by their ratio."""

import torch
from torch import Tensor

from ..models.manner.loss_manner import spectrum as short_time_spectrum

FFT_SIZE, HOP = 512, 128  # samples at 16 kHz, Hann window
EXPONENT = 0.3
COMPLEX_SHARE = 0.3
EPS = 1e-8
FLOOR = 0.01  # of a distance under the logarithm: below it hardly anything is heard, and little is gained


def compressed_spectral_loss(enhanced: Tensor, clean: Tensor, logarithmic: bool = False) -> Tensor:
    """
    0.7 mean (|E|^0.3 - |C|^0.3)^2 + 0.3 mean ||E|^0.3 e^(i arg E) - |C|^0.3 e^(i arg C)|^2 over bins, frames and batch,
    with E and C the spectra of both signals divided by the RMS of `clean`: the level of a recording does not matter.

    Source: Braun and Tashev, "A consolidated view of loss functions for supervised deep learning-based speech
    enhancement" (2021). An item of silent speech counts by its own level.

    Args:
        enhanced, clean: audio (B, T).
        logarithmic: the batch's mean of log(0.01 + distance) instead: what is left of a mixture with little noise then
            counts as much as the larger rest of a noisy one, as in the SNR.
    """
    level = clean.square().mean(dim=-1, keepdim=True).sqrt()
    scale = torch.where(level > EPS, level, 1.0)
    compressed, magnitudes = zip(*(compress(audio / scale) for audio in (enhanced, clean)), strict=True)
    magnitude = (magnitudes[0] - magnitudes[1]).square().mean(dim=(1, 2))
    difference = (compressed[0] - compressed[1]).square().sum(dim=-1).mean(dim=(1, 2))
    distance = (1 - COMPLEX_SHARE) * magnitude + COMPLEX_SHARE * difference
    return (FLOOR + distance).log().mean() if logarithmic else distance.mean()


def compress(audio: Tensor) -> tuple[Tensor, Tensor]:
    """Spectrum of `audio` (B, T) with its magnitudes to the power 0.3, (B, bins, frames, 2), and these magnitudes."""
    spectrum = torch.view_as_real(short_time_spectrum(audio, FFT_SIZE, HOP, FFT_SIZE))
    power = spectrum.square().sum(dim=-1) + EPS  # above 0, where the root has a gradient
    return spectrum * power.pow((EXPONENT - 1) / 2)[..., None], power.pow(EXPONENT / 2)


__all__ = ["compressed_spectral_loss"]
