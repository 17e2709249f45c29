"""MV-AT beside output distillation: of our own, from `mvat` and `output`."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..models.manner.configuration_manner import MannerConfig
from .activations import Activations
from .attention_transfer import SIDES, VIEWS
from .base import register
from .mvat import MultiViewAttentionTransfer
from .output import OutputDistillation


@register("mvat-output")
class MultiViewAttentionTransferAndOutput(MultiViewAttentionTransfer):
    """
    mvat + output_weight x output: the teacher's views and its waveform.

    Args:
        output_weight: weight of the waveform's term, which is logged with it.
        p, views, sides: as of `MultiViewAttentionTransfer`.
    """

    def __init__(
        self, output_weight: float = 1.0, p: float = 2, views: Sequence[str] = VIEWS, sides: Sequence[str] = SIDES
    ):
        if output_weight < 0:
            raise ValueError(f"output_weight must be at least 0, got {output_weight}")
        super().__init__(p, views, sides)
        self.reads = ("view_features", "audio_values")
        self.output_weight = output_weight
        self.output = OutputDistillation()

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        return None

    def forward(self, student: Activations, teacher: Activations, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        terms = super().forward(student, teacher, inputs)
        return {**terms, "output": self.output_weight * self.output(student, teacher, inputs)["output"]}
