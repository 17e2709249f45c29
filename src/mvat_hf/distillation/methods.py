"""The seam where a distillation method plugs in.

A method says what it keeps of the teacher's output (`targets`) and how far the student's is from that (`distance`);
`forward_options` says what both models are to return for it. To add one: write its module here or beside, and name it
in `METHODS`. Nothing else changes.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ..models.manner.configuration_manner import MannerConfig
from ..models.manner.modeling_manner import MannerOutput
from .attention_transfer import SIDES, VIEWS, block_energies, shared_blocks, summed_distance, view_energies


class DistillationMethod(nn.Module):
    """What the student's loss gains from the teacher: forward(student, teacher) gives a scalar; no parameters."""

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

    def targets(self, teacher: MannerOutput) -> dict[str, Tensor]:
        """What is kept of the teacher's output: tensors (B, …) by name, small enough to be stored for every clip."""
        raise NotImplementedError

    def distance(self, student: MannerOutput, targets: Mapping[str, Tensor]) -> Tensor:
        """Scalar distance of the student's output to a teacher's targets."""
        raise NotImplementedError

    def forward(self, student: MannerOutput, teacher: MannerOutput) -> Tensor:
        return self.distance(student, self.targets(teacher))


class OutputDistillation(DistillationMethod):
    """Mean absolute distance to the teacher's waveform."""

    def targets(self, teacher: MannerOutput) -> dict[str, Tensor]:
        return {"audio_values": teacher["audio_values"]}

    def distance(self, student: MannerOutput, targets: Mapping[str, Tensor]) -> Tensor:
        return F.l1_loss(student["audio_values"], targets["audio_values"].detach())


class LevelMatching(DistillationMethod):
    """Base of the methods that compare attention maps of U-Net levels, matched by their time resolution."""

    def __init__(self, p: float = 2):
        super().__init__()
        if p < 1:
            raise ValueError(f"p must be at least 1, got {p}: below, |F|^p has no gradient where features are 0")
        self.p = p

    def check(self, student: MannerConfig, teacher: MannerConfig) -> None:
        super().check(student, teacher)
        for name in ("stride", "kernel_size"):
            if getattr(student, name) != getattr(teacher, name):
                raise ValueError(
                    f"levels are matched by time resolution: {name} must be the same, got {getattr(teacher, name)} "
                    f"(teacher) and {getattr(student, name)} (student)"
                )

    def distance(self, student: MannerOutput, targets: Mapping[str, Tensor]) -> Tensor:
        return summed_distance(self.targets(student), targets)


class AttentionTransfer(LevelMatching):
    """Attention transfer on the output of every shared U-Net level (one view)."""

    forward_options: ClassVar[dict[str, bool]] = {"output_hidden_states": True}

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        return 0

    def targets(self, teacher: MannerOutput) -> dict[str, Tensor]:
        return block_energies(teacher["hidden_states"], self.p)


class MultiViewAttentionTransfer(LevelMatching):
    """MV-AT: attention transfer on the three views of every shared attention block."""

    forward_options: ClassVar[dict[str, bool]] = {"output_view_features": True}

    def __init__(self, p: float = 2, views: Sequence[str] = VIEWS, sides: Sequence[str] = SIDES):
        super().__init__(p)
        for what, chosen, known in (("views", views, VIEWS), ("sides", sides, SIDES)):
            if not chosen or not set(chosen) <= set(known):
                raise ValueError(f"{what} must be one or more of {', '.join(known)}, got {', '.join(chosen) or 'none'}")
        self.views, self.sides = views, sides

    def check(self, student: MannerConfig, teacher: MannerConfig) -> None:
        super().check(student, teacher)
        blocks = [{f"encoder.{level}": level for level in config.attended_levels} for config in (student, teacher)]
        shared_blocks(*blocks)

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        return min(set(student.attended_levels) & set(teacher.attended_levels))

    def targets(self, teacher: MannerOutput) -> dict[str, Tensor]:
        return view_energies(teacher["view_features"], self.p, self.views, self.sides)


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
