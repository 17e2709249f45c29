"""MV-AT with a privileged teacher: of our own, after learning with privileged information (Vapnik, Vashist 2009)."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from .attention_transfer import SIDES, VIEWS
from .base import register
from .mvat import MultiViewAttentionTransfer


@register("mvat-privileged")
class PrivilegedMultiViewAttentionTransfer(MultiViewAttentionTransfer):
    """
    mvat, of a teacher that hears the same speech at a better signal-to-noise ratio.

    The teacher hears clean + g (noisy - clean), g = 10^(-snr_gain / 20): where its attention lies is told by more of
    the speech than the student hears. Needs the clean audio, as all training does.

    Args:
        snr_gain: by how much the teacher's SNR is better, in dB; 0 is MV-AT.
        p, views, sides: as of `MultiViewAttentionTransfer`.
    """

    def __init__(
        self, snr_gain: float = 10.0, p: float = 2, views: Sequence[str] = VIEWS, sides: Sequence[str] = SIDES
    ):
        if snr_gain < 0:
            raise ValueError(f"snr_gain must be at least 0 dB, got {snr_gain}")
        super().__init__(p, views, sides)
        self.snr_gain = snr_gain

    def teacher_input(self, inputs: Mapping[str, Tensor]) -> Tensor:
        noisy = inputs["input_values"]
        if self.snr_gain == 0:
            return noisy
        if "labels" not in inputs:
            raise ValueError(f"mvat-privileged needs the clean audio (labels), got {', '.join(inputs)}")
        clean = inputs["labels"]
        return clean + 10 ** (-self.snr_gain / 20) * (noisy - clean)
