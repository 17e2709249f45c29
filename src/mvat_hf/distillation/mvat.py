"""MV-AT as a method (Shin et al., Interspeech 2022, arXiv 2208.10367), see `attention_transfer`."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..models.manner.configuration_manner import MannerConfig
from .activations import Activations
from .attention_transfer import (
    SIDES,
    VIEWS,
    as_one_channel,
    check_exponent,
    multi_view_attention_transfer,
    shared_blocks,
)
from .base import choices, register
from .levels import LevelMatching


@register("mvat")
class MultiViewAttentionTransfer(LevelMatching):
    """
    mvat = `multi_view_attention_transfer`: the three views of every shared attention block.

    Args:
        p: exponent of the attention maps.
        views: the views to transfer: channel_view, global_view, local_view.
        sides: of the U-Net to transfer from: encoder, decoder.
    """

    def __init__(self, p: float = 2, views: Sequence[str] = VIEWS, sides: Sequence[str] = SIDES):
        super().__init__()
        self.reads = ("view_features",)
        self.p = check_exponent(p)
        self.views, self.sides = choices("views", views, VIEWS), choices("sides", sides, SIDES)

    def check(self, student: MannerConfig, teacher: MannerConfig) -> None:
        super().check(student, teacher)
        blocks = [{f"encoder.{level}": level for level in config.attended_levels} for config in (student, teacher)]
        shared_blocks(*blocks)

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        return min(set(student.attended_levels) & set(teacher.attended_levels))

    def forward(self, student: Activations, teacher: Activations, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mine, theirs = student["view_features"], teacher["view_features"]
        return {"mvat": multi_view_attention_transfer(mine, theirs, self.p, self.views, self.sides)}

    def compact(self, teacher: Activations) -> Activations:
        blocks = {
            block: {view: as_one_channel(features[view], self.p) for view in self.views}
            for block, features in teacher["view_features"].items()
            if block.partition(".")[0] in self.sides
        }
        return {**teacher, "view_features": blocks}
