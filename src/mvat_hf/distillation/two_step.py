"""Two-step distillation with similarity-preserving Gram matrices.

Our reading of Nathoo, Kegler and Stamenovic, "Two-Step Knowledge Distillation for Tiny Speech Enhancement" (2023, arXiv
2309.08144), from its abstract: the student is first trained on the distillation alone, which matches the Gram matrices
within its activations to the teacher's, then on the enhancement loss alone. Not a quotation of the paper's equations.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .activations import Activations
from .base import Stage, register
from .levels import LevelMatching


def gram_matrix(features: Tensor, bins: int) -> Tensor:
    """How alike the moments of a recording are: (B, C, L) to (B, M, M), M = `bins` or L if that is less.

    Frames are averaged to M moments; G = cosine similarities of their channels, each row of unit norm.
    """
    moments = F.normalize(averaged(features, bins), dim=1)
    return F.normalize(moments.mT @ moments, dim=-1)


def averaged(features: Tensor, bins: int) -> Tensor:
    """(B, C, L) averaged over time to (B, C, M), M = `bins` or L if that is less."""
    return F.adaptive_avg_pool1d(features.float(), min(bins, features.shape[-1]))


def gram_distance(student: Tensor, teacher: Tensor, bins: int = 64) -> Tensor:
    """mean over the batch and moments of ||row of G_S - row of G_T||^2, of features with any widths and lengths."""
    moments = min(bins, student.shape[-1], teacher.shape[-1])
    mine, theirs = (gram_matrix(features, moments) for features in (student, teacher.detach()))
    return (mine - theirs).square().sum(dim=-1).mean()


@register("two-step")
class TwoStepDistillation(LevelMatching):
    """
    gram = mean over shared levels of `gram_distance`: alone in the first part of the run, then L_SE alone.

    Args:
        first: share of the run that the first step takes, from 0 to 1.
        bins: moments of a recording that are compared, at most.
        modules: see `LevelMatching`.
    """

    def __init__(self, first: float = 0.5, bins: int = 64, modules: Mapping[str, str] | None = None):
        super().__init__(modules)
        if not 0 <= first <= 1:
            raise ValueError(f"first must be a share of the run from 0 to 1, got {first}")
        if bins < 2:
            raise ValueError(f"bins must be at least 2, got {bins}")
        self.first, self.bins = first, bins

    def stage(self, progress: float) -> Stage:
        return Stage(enhancement=0, distillation=1) if progress < self.first else Stage(enhancement=1, distillation=0)

    def forward(self, student: Activations, teacher: Activations, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pairs = self.pairs(student, teacher).values()
        return {"gram": torch.stack([gram_distance(mine, theirs, self.bins) for mine, theirs in pairs]).mean()}

    def compact(self, teacher: Activations) -> Activations:
        if self.modules_by_name is not None:  # of other lengths than the student's: averaged twice they would differ
            return teacher
        states = teacher["hidden_states"]
        return {"hidden_states": {block: averaged(features, self.bins) for block, features in states.items()}}
