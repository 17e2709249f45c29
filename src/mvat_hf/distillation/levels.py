"""Base of the methods that compare U-Net levels, or modules that stand for them."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from ..models.manner.configuration_manner import MannerConfig
from .activations import OUTPUTS, Activations
from .attention_transfer import shared_blocks
from .base import DistillationMethod


class LevelMatching(DistillationMethod):
    """
    Compares levels of student and teacher, matched by their time resolution; or modules, by name.

    Args:
        modules: pairs {module of the student: module of the teacher} whose outputs (B, channels, frames) are compared,
            for a teacher that is no `MannerModel`; None: the outputs of all shared levels.
    """

    def __init__(self, modules: Mapping[str, str] | None = None):
        super().__init__()
        if modules is not None and not modules:
            raise ValueError("modules must have a pair of a student's and a teacher's module, got none")
        self.modules_by_name = None if modules is None else dict(modules)
        if self.modules_by_name is None:
            self.reads = ("hidden_states",)
        else:
            self.reads, self.teacher_reads = tuple(self.modules_by_name), tuple(self.modules_by_name.values())
            if named := [name for name in (*self.reads, *self.teacher_reads) if name in OUTPUTS]:
                raise ValueError(f"modules must be names of modules, got {', '.join(named)}")

    def check(self, student: MannerConfig, teacher: MannerConfig) -> None:
        super().check(student, teacher)
        if self.modules_by_name is not None:
            return
        for name in ("stride", "kernel_size"):
            if getattr(student, name) != getattr(teacher, name):
                raise ValueError(
                    f"levels are matched by time resolution: {name} must be the same, got {getattr(teacher, name)} "
                    f"(teacher) and {getattr(student, name)} (student)"
                )

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        return 0 if self.modules_by_name is None else None

    def pairs(self, student: Activations, teacher: Activations) -> dict[str, tuple[Tensor, Tensor]]:
        """Features (B, channels, frames) of student and teacher, the latter without gradient, by the student's name."""
        if self.modules_by_name is not None:
            names = self.modules_by_name.items()
            found = {mine: (student[mine], teacher[theirs]) for mine, theirs in names}
        else:
            mine, theirs = student["hidden_states"], teacher["hidden_states"]
            found = {block: (mine[block], theirs[block]) for block in shared_blocks(mine, theirs)}
        return {name: (as_frames(one), as_frames(other.detach())) for name, (one, other) in found.items()}


def as_frames(features: Tensor) -> Tensor:
    """(B, channels, …, frames) to (B, channels x …, frames); ValueError for what has no frames."""
    if features.ndim < 3:
        raise ValueError(f"features must be (batch, channels, frames), got {tuple(features.shape)}")
    return features.flatten(1, -2)


def same_length(*features: Tensor) -> list[Tensor]:
    """Features (…, N) of unlike N, averaged to the shortest."""
    length = min(each.shape[-1] for each in features)
    return [F.adaptive_avg_pool1d(each, length) for each in features]
