"""Negative SI-SDR as a training loss: what keeps the waveform, phase and all, where L_SE mostly watches magnitudes."""

import torch
from torch import Tensor

EPS = 1e-8
CEILING = 1e-3  # of the target's energy, added to the distortion: nothing is gained above 30 dB


def si_sdr_loss(enhanced: Tensor, clean: Tensor) -> Tensor:
    """
    - 10 log10(|s|^2 / (|s - e|^2 + 0.001 |s|^2)) in dB, s = clean scaled by <e, clean> / |clean|^2; batch mean.

    SI-SDR (Le Roux et al. 2019) with the soft ceiling of Wisdom et al. (2020). Silent speech counts as 0.

    Args:
        enhanced, clean: audio (B, T).
    """
    energy = clean.square().sum(dim=-1, keepdim=True)
    target = clean * (enhanced * clean).sum(dim=-1, keepdim=True) / (energy + EPS)
    wanted = target.square().sum(dim=-1)
    distortion = (enhanced - target).square().sum(dim=-1)
    ratio = 10 * torch.log10((wanted + EPS) / (distortion + CEILING * wanted + EPS))
    return -torch.where(energy.squeeze(-1) > EPS, ratio, 0.0).mean()
