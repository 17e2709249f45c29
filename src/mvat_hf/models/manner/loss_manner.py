"""The enhancement loss L_SE of MANNER: time domain plus multi-resolution STFT, on speech and on noise.

It lives beside the model because `MannerModel(labels=...)` computes it wherever the model travels. The transform is
linear: spectra of the noise and of its estimate are differences of those of the mixture, the speech and the output.
"""

import torch
from torch import Tensor

# (FFT size, hop, window length) in samples at 16 kHz, Hann windows
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
SPECTRAL_WEIGHT = 0.5
EPS = 1e-7  # of powers: that of a bin is bounded below so that its logarithm exists


def spectrum(audio: Tensor, fft_size: int, hop: int, window_length: int) -> Tensor:
    """Complex short-time spectra, (B, T) to (B, frequencies, frames)."""
    window = torch.hann_window(window_length, device=audio.device)
    # float32 whatever autocast says: a half-precision spectrum loses the quiet bins
    return torch.stft(audio.float(), fft_size, hop, window_length, window, return_complex=True)


def power(spectra: Tensor) -> Tensor:
    """|spectra|^2 of complex spectra; on CPUs in a fourth of the time of their `abs`."""
    parts = torch.view_as_real(spectra)
    real, imaginary = parts[..., 0], parts[..., 1]
    return torch.addcmul(real * real, imaginary, imaginary)


class SpectralTerms(torch.autograd.Function):
    """
    Spectral convergence ||M_t - M_e||_F / ||M_t||_F and log magnitude distance mean |log M_t - log M_e|, each per item
    (B,), of complex spectra (B, frequencies, frames) of estimate and target, M = max(|spectrum|, sqrt(EPS)).

    The gradient, of the estimate alone, is written out: in one real factor per bin it takes half the time.
    """

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


def enhancement_loss(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """
    L_SE = a L(clean) + (1 - a) L(noise), a = |clean|^2 / (|clean|^2 + |noise|^2) per item, noise = noisy - clean,
    L = l1 + 0.5 spectral convergence + 0.5 log magnitude, the spectral terms averaged over `STFT_RESOLUTIONS`; the mean
    over the batch. Gradients go to `enhanced` alone.

    Args:
        enhanced, clean, noisy: audio (B, T).

    Raises:
        ValueError: T is below 1,025 samples, which the reflected edges of the longest FFT need.

    Returns:
        The loss, and its terms weighted by a but not by 0.5, averaged over the batch and detached, for logging.
    """
    shortest = max(size for size, _, _ in STFT_RESOLUTIONS) // 2 + 1
    if clean.shape[-1] < shortest:
        raise ValueError(f"the spectral loss needs at least {shortest} samples, got {clean.shape[-1]}")
    clean, noisy = clean.detach(), noisy.detach()
    speech_power, noise_power = clean.square().sum(dim=-1), (noisy - clean).square().sum(dim=-1)
    share = speech_power / (speech_power + noise_power).clamp_min(EPS)
    convergence: list[Tensor] = []
    log_magnitude: list[Tensor] = []
    for resolution in STFT_RESOLUTIONS:
        speech, mixture = spectrum(torch.cat([clean, noisy]), *resolution).chunk(2)
        output = spectrum(enhanced, *resolution)
        on_speech = SpectralTerms.apply(output, speech)
        on_noise = SpectralTerms.apply(mixture - output, mixture - speech)
        for values, of_speech, of_noise in zip((convergence, log_magnitude), on_speech, on_noise, strict=True):
            values.append(share * of_speech + (1 - share) * of_noise)
    terms = {
        # the estimate of the noise is as far from the noise as that of the speech is from the speech
        "l1": (enhanced - clean).abs().mean(),
        "spectral_convergence": torch.stack(convergence).mean(),
        "log_magnitude": torch.stack(log_magnitude).mean(),
    }
    spectral = terms["spectral_convergence"] + terms["log_magnitude"]
    return terms["l1"] + SPECTRAL_WEIGHT * spectral, {name: term.detach() for name, term in terms.items()}


__all__ = ["STFT_RESOLUTIONS", "SpectralTerms", "enhancement_loss", "spectrum"]
