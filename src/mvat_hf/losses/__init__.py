"""Losses, all of (batch, …) tensors to a scalar.

`enhancement_loss`: L_SE, the loss of `MannerModel(labels=…)`; `attention_transfer`: the maps and distances of AT and
MV-AT as pure functions; `snr_loss`, `compressed_spectral_loss` and `pesq_loss`: terms that can stand beside
L_SE; `distillation`: the methods a student can be distilled by.
"""

from ..distillation.attention_transfer import (
    attention_distance,
    attention_map,
    attention_transfer,
    multi_view_attention_transfer,
)
from ..distillation.methods import (
    METHODS,
    AttentionTransfer,
    DistillationMethod,
    MultiViewAttentionTransfer,
    OutputDistillation,
    build_method,
)
from ..models.manner.loss_manner import enhancement_loss
from .compressed_spectrum import compressed_spectral_loss
from .pesq import pesq_loss
from .snr import snr_loss

__all__ = [
    "METHODS",
    "AttentionTransfer",
    "DistillationMethod",
    "MultiViewAttentionTransfer",
    "OutputDistillation",
    "attention_distance",
    "attention_map",
    "attention_transfer",
    "build_method",
    "compressed_spectral_loss",
    "pesq_loss",
    "enhancement_loss",
    "multi_view_attention_transfer",
    "snr_loss",
]
