"""Terms of the enhancement loss, all of (batch, time) tensors to a scalar.

`enhancement_loss`: L_SE, the loss of `MannerModel(labels=…)`; `snr_loss`, `compressed_spectral_loss` and `pesq_loss`:
terms that can stand beside it, as `with_terms` adds them. What a student learns from a teacher is in `distillation`.
"""

from ..models.manner.loss_manner import enhancement_loss
from .compressed_spectrum import compressed_spectral_loss
from .pesq import pesq_loss
from .snr import snr_loss
from .weighted import TERMS, with_terms

__all__ = ["TERMS", "compressed_spectral_loss", "enhancement_loss", "pesq_loss", "snr_loss", "with_terms"]
