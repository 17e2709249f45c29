"""Online distillation among peers, without a frozen teacher.

Our reading of Shin, Lee, Kim, Park and Han, "MetricGAN-OKD: Multi-Metric Optimization of MetricGAN via Online Knowledge
Distillation for Speech Enhancement" (ICML 2023), from its abstract: several networks, each trained for one metric,
mimic one another. The metrics are here losses with a gradient in place of MetricGAN's discriminators.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses import TERMS, enhancement_loss
from .activations import Activations
from .base import DistillationMethod, choices, register


@register("peers")
class OnlineDistillation(DistillationMethod):
    """
    Peers of the student's shape train beside it, each for L_SE and a target of its own, and all learn from one another.

    mimicry = mean |student - mean of the peers| of the waveforms; peers = mean over peers of L_SE + target_weight x the
    peer's target + mean |peer - mean of the others|. Nobody's gradient passes through what it learns from. Only the
    student is saved as the model; the peers are in the checkpoints.

    Args:
        targets: of each peer: snr, compressed or pesq.
        target_weight: weight of the peer's target beside L_SE.
        noise: deviation that is added to a peer's first weights, relative to their own, so that peers differ.
    """

    reads = ("audio_values",)
    needs_teacher = False
    autocast = True  # in half precision the peers run as the student does, for a like cost

    def __init__(self, targets: Sequence[str] = ("snr", "compressed"), target_weight: float = 0.1, noise: float = 0.1):
        super().__init__()
        if target_weight < 0 or noise < 0:
            raise ValueError(f"target_weight and noise must be at least 0, got {target_weight} and {noise}")
        self.targets, self.target_weight, self.noise = choices("targets", targets, tuple(TERMS)), target_weight, noise
        self.peers = nn.ModuleList()

    @torch.no_grad()
    def prepare(self, student: nn.Module, teacher: nn.Module | None) -> None:
        self.peers = nn.ModuleList(copy.deepcopy(student) for _ in self.targets)
        for parameter in self.peers.parameters():
            deviation = parameter.std(correction=0)
            parameter.requires_grad_(True).add_(self.noise * deviation * torch.randn_like(parameter))
        self.peers.train()

    def forward(self, student: Activations, teacher: Activations, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        models: list[Any] = list(self.peers)
        noisy = inputs["input_values"]
        clean, mixture = (models[0].high_passed(audio) for audio in (inputs["labels"], noisy))
        outputs = [student["audio_values"], *(peer(noisy)["audio_values"].float() for peer in models)]
        own = []
        for index, target in enumerate(self.targets, start=1):
            loss, _ = enhancement_loss(outputs[index], clean, mixture)
            own.append(loss + self.target_weight * TERMS[target](outputs[index], clean) + mimicry(outputs, index))
        return {"mimicry": mimicry(outputs, 0), "peers": torch.stack(own).mean()}


def mimicry(outputs: Sequence[Tensor], index: int) -> Tensor:
    """Mean |own - mean of the others| of waveforms (B, T), the others without gradient."""
    others = torch.stack([audio.detach() for place, audio in enumerate(outputs) if place != index]).mean(dim=0)
    return F.l1_loss(outputs[index], others)
