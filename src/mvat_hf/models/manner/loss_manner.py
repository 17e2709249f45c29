"""The enhancement loss L_SE of MANNER: time domain plus multi-resolution STFT, on speech and on noise.

It lives beside the model because `MannerModel(labels=...)` computes it wherever the model travels. The transform is
linear: spectra of the noise and of its estimate are differences of those of the mixture, the speech and the output.
"""

import torch
from torch import Tensor

# (FFT size, hop, window length) in samples at 16 kHz, Hann windows
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
MIN_SAMPLES = max(size for size, _, _ in STFT_RESOLUTIONS) // 2 + 1  # samples that the loss needs
SPECTRAL_WEIGHT = 0.5
EPS = 1e-7  # of powers: that of a bin is bounded below so that its logarithm exists


def spectrum(audio: Tensor, fft_size: int, hop: int, window_length: int) -> Tensor:
    """Complex short-time spectra, (B, T) to (B, frequencies, frames)."""
    window = torch.hann_window(window_length, device=audio.device)
    # float32 whatever autocast says: a half-precision spectrum loses the quiet bins
    return torch.stft(audio.float(), fft_size, hop, window_length, window, return_complex=True)


def spectral_terms(estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """
    Spectral convergence ||M_t - M_e||_F / ||M_t||_F and log magnitude distance mean |log M_t - log M_e|, each per item
    (B,), of complex spectra (B, frequencies, frames) of estimate and target, M = max(|spectrum|, sqrt(EPS)).
    """
    magnitude, wanted = (spectra.abs().clamp_min(EPS**0.5) for spectra in (estimate, target))
    distance, norm = (torch.linalg.vector_norm(values, dim=(1, 2)) for values in (wanted - magnitude, wanted))
    return distance / norm, (wanted / magnitude).log().abs().mean(dim=(1, 2))


try:
    from mvat_hf.models.spectral_terms import quick_terms
except ImportError:  # the code came with a checkpoint and stands alone
    quick_terms = spectral_terms


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
    if clean.shape[-1] < MIN_SAMPLES:
        raise ValueError(f"the spectral loss needs at least {MIN_SAMPLES} samples, got {clean.shape[-1]}")
    clean, noisy = clean.detach(), noisy.detach()
    speech_power, noise_power = clean.square().sum(dim=-1), (noisy - clean).square().sum(dim=-1)
    share = speech_power / (speech_power + noise_power).clamp_min(EPS)
    spectral_distances = []  # (2, B) of each resolution
    for resolution in STFT_RESOLUTIONS:
        speech, mixture = spectrum(torch.cat([clean, noisy]), *resolution).chunk(2)
        output = spectrum(enhanced, *resolution)
        on_speech = torch.stack(quick_terms(output, speech))
        on_noise = torch.stack(quick_terms(mixture - output, mixture - speech))
        spectral_distances.append(share * on_speech + (1 - share) * on_noise)
    convergence, log_magnitude = torch.stack(spectral_distances).mean(dim=(0, 2))
    # the estimate of the noise is as far from the noise as that of the speech is from the speech
    l1 = (enhanced - clean).abs().mean()
    terms = {"l1": l1, "spectral_convergence": convergence, "log_magnitude": log_magnitude}
    loss = l1 + SPECTRAL_WEIGHT * (convergence + log_magnitude)
    return loss, {name: term.detach() for name, term in terms.items()}


__all__ = ["MIN_SAMPLES", "STFT_RESOLUTIONS", "enhancement_loss", "spectral_terms", "spectrum"]
