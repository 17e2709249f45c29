"""Attention transfer with a Kullback-Leibler term, AT-KL.

Our reading of Han, Xu, Zhang, Liu and Xie, "Distil-DCCRN: A Small-footprint DCCRN Leveraging Feature-based Knowledge
Distillation in Speech Enhancement" (2024, arXiv 2408.04267), from its abstract: attention transfer and Kullback-Leibler
divergence on features of the middle layers, whose channels and frames need not agree. Not a quotation of its equations.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .activations import Activations
from .attention_transfer import attention_energy, check_exponent, energy_distance
from .base import register
from .levels import LevelMatching, same_length

TINY = 1e-8  # of an energy, beside the largest


def profiles(features: Tensor, p: float = 2) -> tuple[Tensor, Tensor]:
    """Where the energy of features (B, C, L) lies: over time (B, L) and over channels (B, C)."""
    return attention_energy(features, p), attention_energy(features.mT, p)


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(P_T || P_S), mean over the batch, of the distributions P = softmax(log energy / temperature) of (B, N)."""
    logits = [
        (energy / energy.amax(dim=-1, keepdim=True).clamp_min(TINY) + TINY).log() / temperature
        for energy in (student, teacher.detach())
    ]
    mine, theirs = (F.log_softmax(logit, dim=-1) for logit in logits)
    return F.kl_div(mine, theirs, log_target=True, reduction="batchmean")


@register("at-kl")
class AttentionTransferWithDivergence(LevelMatching):
    """
    at + kl: over shared levels, and over time and channels, || Q_S - Q_T ||_2 of the attention maps, and
    kl_weight x `kl_divergence` of the same energies as distributions.

    Channels of unequal counts are ordered by their energy first: the k-th strongest of one has no other likeness to a
    channel of the other.

    Args:
        kl_weight: weight of the divergence, which is logged with it.
        temperature: over 1, of flatter distributions.
        p: exponent of the attention maps.
        modules: see `LevelMatching`.
    """

    def __init__(
        self,
        kl_weight: float = 1.0,
        temperature: float = 1.0,
        p: float = 2,
        modules: Mapping[str, str] | None = None,
    ):
        super().__init__(modules)
        if kl_weight < 0 or temperature <= 0:
            raise ValueError(f"kl_weight must be at least 0 and temperature above 0, got {kl_weight} and {temperature}")
        self.kl_weight, self.temperature, self.p = kl_weight, temperature, check_exponent(p)

    def forward(self, student: Activations, teacher: Activations, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        distances, divergences = [], []
        for mine, theirs in self.pairs(student, teacher).values():
            (my_time, my_channels), (time, channels) = profiles(mine, self.p), profiles(theirs, self.p)
            ordered = (energy.sort(dim=-1, descending=True).values for energy in (my_channels, channels))
            for one, other in (same_length(my_time, time), same_length(*ordered)):
                distances.append(energy_distance(one, other))
                divergences.append(kl_divergence(one, other, self.temperature))
        return {"at": torch.stack(distances).sum(), "kl": self.kl_weight * torch.stack(divergences).sum()}
