"""Terms beside L_SE, by their names and weights."""

from collections.abc import Callable, Mapping

from torch import Tensor

from .compressed_spectrum import compressed_spectral_loss
from .pesq import pesq_loss
from .snr import snr_loss

# scalars to minimise, of enhanced and clean audio (B, T)
TERMS: dict[str, Callable[..., Tensor]] = {
    "snr": snr_loss,
    "compressed": compressed_spectral_loss,
    "pesq": pesq_loss,
}
NEGATIVE = ("snr", "pesq")  # terms that are the negative of a quantity that is to rise; the quantity is logged


def with_terms(
    loss: Tensor, enhanced: Tensor, clean: Tensor, weights: Mapping[str, float], compressed_log: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """
    `loss` plus the terms of `weights`, and the terms for logging.

    Args:
        loss: a scalar.
        enhanced, clean: audio (B, T).
        weights: by name of the term, see `TERMS`; terms are added in that order.
        compressed_log: see `compressed_spectral_loss`.
    """
    terms = {}
    for name, term in TERMS.items():
        if weights.get(name, 0) > 0:
            value = term(enhanced, clean, compressed_log) if name == "compressed" else term(enhanced, clean)
            loss = loss + weights[name] * value
            terms[name] = -value if name in NEGATIVE else value
    return loss, terms


__all__ = ["TERMS", "with_terms"]
