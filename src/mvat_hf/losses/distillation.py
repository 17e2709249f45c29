"""The seam where a distillation method plugs in.

A method is a module that reads both models' outputs and returns one scalar; `forward_options` says what it needs them
to return. To add one: write its module here or beside, and name it in `METHODS`. Nothing else changes.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ..models.manner.configuration_manner import MannerConfig
from ..models.manner.modeling_manner import MannerOutput
from .attention_transfer import VIEWS, attention_transfer, multi_view_attention_transfer, shared_blocks


class DistillationMethod(nn.Module):
    """What the student's loss gains from the teacher: forward(student, teacher) gives a scalar."""

    forward_options: ClassVar[dict[str, bool]] = {}  # for the forward pass of both models

    def check(self, student: MannerConfig, teacher: MannerConfig) -> None:
        """Raise ValueError where the method cannot work between these two."""
        if student.sampling_rate != teacher.sampling_rate:
            raise ValueError(
                "teacher and student must share a sampling rate, "
                f"got {teacher.sampling_rate} and {student.sampling_rate} Hz"
            )

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        """Decoder level that the teacher's pass may end at (see `MannerModel.forward`); None: it is needed whole."""
        return None

    def forward(self, student: MannerOutput, teacher: MannerOutput) -> Tensor:
        raise NotImplementedError


class OutputDistillation(DistillationMethod):
    """Mean absolute distance to the teacher's waveform."""

    def forward(self, student: MannerOutput, teacher: MannerOutput) -> Tensor:
        return F.l1_loss(student["audio_values"], teacher["audio_values"].detach())


class LevelMatching(DistillationMethod):
    """Base of the methods that match U-Net levels by their time resolution."""

    def __init__(self, p: float = 2):
        super().__init__()
        self.p = p

    def check(self, student: MannerConfig, teacher: MannerConfig) -> None:
        super().check(student, teacher)
        for name in ("stride", "kernel_size"):
            if getattr(student, name) != getattr(teacher, name):
                raise ValueError(
                    f"levels are matched by time resolution: {name} must be the same, got {getattr(teacher, name)} "
                    f"(teacher) and {getattr(student, name)} (student)"
                )


class AttentionTransfer(LevelMatching):
    """Attention transfer on the output of every shared U-Net level (one view)."""

    forward_options: ClassVar[dict[str, bool]] = {"output_hidden_states": True}

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        return 0

    def forward(self, student: MannerOutput, teacher: MannerOutput) -> Tensor:
        return attention_transfer(student["hidden_states"], teacher["hidden_states"], self.p)


class MultiViewAttentionTransfer(LevelMatching):
    """MV-AT: attention transfer on the three views of every shared attention block."""

    forward_options: ClassVar[dict[str, bool]] = {"output_view_features": True}

    def __init__(self, p: float = 2, views: tuple[str, ...] = VIEWS):
        super().__init__(p)
        self.views = views

    def check(self, student: MannerConfig, teacher: MannerConfig) -> None:
        super().check(student, teacher)
        blocks = [{f"encoder.{level}": level for level in config.attended_levels} for config in (student, teacher)]
        shared_blocks(*blocks)

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        return min(set(student.attended_levels) & set(teacher.attended_levels))

    def forward(self, student: MannerOutput, teacher: MannerOutput) -> Tensor:
        return multi_view_attention_transfer(student["view_features"], teacher["view_features"], self.p, self.views)


METHODS: dict[str, type[DistillationMethod] | None] = {
    "none": None,
    "output": OutputDistillation,
    "at": AttentionTransfer,
    "mvat": MultiViewAttentionTransfer,
}


def build_method(name: str, **options) -> DistillationMethod | None:
    """The method of a name in `METHODS`, `options` to its constructor; None for "none".

    Raises:
        ValueError: unknown name.
    """
    if name not in METHODS:
        raise ValueError(f'unknown distillation method "{name}", expected one of: {", ".join(METHODS)}')
    method = METHODS[name]
    return None if method is None else method(**options)
