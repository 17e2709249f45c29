"""Negative SNR as a training loss: what keeps the waveform, phase and all, where L_SE mostly watches magnitudes."""

import torch
from torch import Tensor

EPS = 1e-8
CEILING = 1e-3  # of the target's energy, added to the distortion: nothing is gained above 30 dB


def snr_loss(enhanced: Tensor, clean: Tensor) -> Tensor:
    """
    - 10 log10(|clean|^2 / (|clean - enhanced|^2 + 0.001 |clean|^2)) in dB; batch mean. Silent speech counts as 0.

    The ceiling is that of Wisdom et al. (2020). Not SI-SDR: that is blind to the sign, and a model trained on it can
    end with its output inverted, which neither PESQ nor STOI nor SI-SDR notices.

    Args:
        enhanced, clean: audio (B, T).
    """
    energy = clean.square().sum(dim=-1)
    distortion = (clean - enhanced).square().sum(dim=-1)
    ratio = 10 * torch.log10((energy + EPS) / (distortion + CEILING * energy + EPS))
    return -torch.where(energy > EPS, ratio, 0.0).mean()


__all__ = ["snr_loss"]
