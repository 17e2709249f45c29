"""Latent feature augmentation.

Our reading of Gholami, El-Khamy and Lee, "Knowledge Distillation for Tiny Speech Enhancement with Latent Feature
Augmentation" (Interspeech 2024), from its abstract: the student learns from the latent features inside the teacher, by
way of augmented features. Which augmentation it is, the abstract does not say; here parts of the student's latents are
hidden and noise is added, and a small trained network is to make the teacher's latents of what is left.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.manner.configuration_manner import MannerConfig
from .activations import Activations, activations, forward_options, recording
from .base import register
from .levels import LevelMatching, as_frames, same_length


@register("latent-augmentation")
class LatentFeatureAugmentation(LevelMatching):
    """
    latent = mean over pairs of mean (R(A(F_S)) - F_T)^2: F of zero mean and unit deviation per item, A the augmentation
    of the student's latents, R (convolution, ReLU, 1x1 convolution) trained with the student.

    Args:
        hidden_share: share of the frames that A sets to zero, from 0 to below 1.
        noise: deviation of the noise that A adds.
        modules: see `LevelMatching`; None: the deepest level of the encoder that both have.
    """

    def __init__(self, hidden_share: float = 0.25, noise: float = 0.1, modules: Mapping[str, str] | None = None):
        super().__init__(modules)
        if not 0 <= hidden_share < 1 or noise < 0:
            raise ValueError(
                f"hidden_share must be from 0 to below 1 and noise at least 0, got {hidden_share} and {noise}"
            )
        self.hidden_share, self.noise = hidden_share, noise
        self.recover = nn.ModuleList()  # one of each pair, made by `prepare`

    def pairs(self, student: Activations, teacher: Activations) -> dict[str, tuple[Tensor, Tensor]]:
        pairs = super().pairs(student, teacher)
        if self.modules_by_name is not None:
            return pairs
        encoder = [name for name in pairs if name.startswith("encoder.")]
        deepest = max(encoder, key=lambda name: int(name.rpartition(".")[2]))
        return {deepest: pairs[deepest]}

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        return teacher.depth - 1 if self.modules_by_name is None else None  # the encoder is all that is read

    @torch.no_grad()
    def prepare(self, student: nn.Module, teacher: nn.Module | None) -> None:
        assert teacher is not None
        read = []
        for model, names in ((student, self.reads), (teacher, self.read_of_teacher)):
            weight = next(model.parameters(), torch.zeros(()))
            training = model.training
            with recording(model.eval(), names) as seen:
                options = forward_options(names) if self.modules_by_name is None else {}
                output = model(torch.zeros(1, 4096, device=weight.device), **options)
                read.append(activations(model, output, names, seen))
            model.train(training)
        pairs = self.pairs(*read).values()
        self.recover = nn.ModuleList(recovery(mine.shape[1], theirs.shape[1]) for mine, theirs in pairs)

    def augmented(self, features: Tensor) -> Tensor:
        """A: (B, C, L) with some frames at zero, and noise; the frames are those of PyTorch's generator."""
        shown = torch.rand_like(features[:, :1]) >= self.hidden_share
        return features * shown + self.noise * torch.randn_like(features)

    def forward(self, student: Activations, teacher: Activations, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        distances = []
        for recover, (mine, theirs) in zip(self.recover, self.pairs(student, teacher).values(), strict=True):
            recovered, target = recover(self.augmented(standardised(mine))), standardised(theirs)
            one, other = same_length(recovered, target)
            distances.append(F.mse_loss(one, other))
        return {"latent": torch.stack(distances).mean()}

    def compact(self, teacher: Activations) -> Activations:
        if self.modules_by_name is not None:
            return teacher
        states = teacher["hidden_states"]
        return {"hidden_states": {block: hidden for block, hidden in states.items() if block.startswith("encoder.")}}


def recovery(inner: int, outer: int) -> nn.Sequential:
    """R: (B, inner, L) to (B, outer, L)."""
    return nn.Sequential(nn.Conv1d(inner, outer, 3, padding=1), nn.ReLU(), nn.Conv1d(outer, outer, 1))


def standardised(features: Tensor) -> Tensor:
    """Features (B, C, L) with zero mean and unit deviation per item."""
    hidden = as_frames(features.float())
    return F.layer_norm(hidden, hidden.shape[1:])
