"""The spectral terms of L_SE with their gradient written out: in one real factor per bin it takes half the time."""

import torch
from torch import Tensor

EPS = 1e-7  # of powers, as in `loss_manner`


def power(spectra: Tensor) -> Tensor:
    """|spectra|^2 of complex spectra; on CPUs in a fourth of the time of their `abs`."""
    parts = torch.view_as_real(spectra)
    real, imaginary = parts[..., 0], parts[..., 1]
    return torch.addcmul(real * real, imaginary, imaginary)


class SpectralTerms(torch.autograd.Function):
    """`loss_manner.spectral_terms`, with a gradient of the estimate alone."""

    @staticmethod
    def forward(ctx, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        magnitude, wanted = (power(spectra).clamp_min(EPS).sqrt() for spectra in (estimate, target))
        difference, log_ratio = magnitude - wanted, (magnitude / wanted).log()
        distance, norm = (torch.linalg.vector_norm(values, dim=(1, 2)) for values in (difference, wanted))
        ctx.save_for_backward(estimate, magnitude, difference, log_ratio, distance * norm)
        return distance / norm, log_ratio.abs().mean(dim=(1, 2))

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        estimate, magnitude, difference, log_ratio, norms = ctx.saved_tensors
        of_distance = torch.where(norms > 0, gradients[0] / norms, 0.0)[:, None, None]
        of_logarithm = (gradients[1] / log_ratio[0].numel())[:, None, None]
        # d M / d spectrum = spectrum / M, and 0 where M is at its bound
        factor = (of_distance * difference + of_logarithm * log_ratio.sign() / magnitude) / magnitude
        factor = torch.where(magnitude > EPS**0.5, factor, 0.0)[..., None]
        return torch.view_as_complex(torch.view_as_real(estimate) * factor), None


def quick_terms(estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return SpectralTerms.apply(estimate, target)


__all__ = ["quick_terms"]
