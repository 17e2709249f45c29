"""Attention transfer as a method (Zagoruyko and Komodakis, ICLR 2017), see `attention_transfer`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .activations import Activations
from .attention_transfer import as_one_channel, attention_energy, attention_transfer, check_exponent, energy_distance
from .base import register
from .levels import LevelMatching, same_length


@register("at")
class AttentionTransfer(LevelMatching):
    """
    at = `attention_transfer`: one view, the output of every shared U-Net level.

    Args:
        p: exponent of the attention maps.
        modules: see `LevelMatching`. Of two maps, the one with more frames is averaged down to the other's.
    """

    def __init__(self, p: float = 2, modules: Mapping[str, str] | None = None):
        super().__init__(modules)
        self.p = check_exponent(p)

    def forward(self, student: Activations, teacher: Activations, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.modules_by_name is None:
            return {"at": attention_transfer(student["hidden_states"], teacher["hidden_states"], self.p)}
        distances = []
        for pair in self.pairs(student, teacher).values():
            energies = (attention_energy(features, self.p) for features in pair)
            distances.append(energy_distance(*same_length(*energies)))
        return {"at": torch.stack(distances).sum()}

    def compact(self, teacher: Activations) -> Activations:
        if self.modules_by_name is not None:
            return teacher
        states: Mapping[str, Any] = teacher["hidden_states"]
        return {"hidden_states": {block: as_one_channel(features, self.p) for block, features in states.items()}}
