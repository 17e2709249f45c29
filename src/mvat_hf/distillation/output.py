"""Output distillation: the student's waveform is to be the teacher's."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from .activations import Activations
from .base import DistillationMethod, register


@register("output")
class OutputDistillation(DistillationMethod):
    """output = mean |student - teacher| of the waveforms."""

    def forward(self, student: Activations, teacher: Activations, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mine, theirs = student["audio_values"], teacher["audio_values"].detach()
        if mine.shape != theirs.shape:
            raise ValueError(
                f"the teacher's audio must have the shape of the student's {tuple(mine.shape)}, got "
                f"{tuple(theirs.shape)}"
            )
        return {"output": F.l1_loss(mine, theirs)}
