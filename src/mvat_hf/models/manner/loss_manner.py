"""The enhancement loss L_SE of MANNER: time domain plus multi-resolution STFT, on speech and on noise.

It lives beside the model because `MannerModel(labels=...)` computes it wherever the model travels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# (FFT size, hop, window length) in samples at 16 kHz, Hann windows
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
SPECTRAL_WEIGHT = 0.5
EPS = 1e-7


def stft_magnitude(audio: Tensor, fft_size: int, hop: int, window_length: int) -> Tensor:
    """Magnitude spectrogram, (B, T) to (B, frequencies, frames); bounded below so that its logarithm exists."""
    window = torch.hann_window(window_length, device=audio.device)
    # float32 whatever autocast says: a half-precision spectrum loses the quiet bins
    spectrum = torch.stft(audio.float(), fft_size, hop, window_length, window, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp_min(EPS).sqrt()


def reconstruction_terms(estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
    """
    Distances of `estimate` (B, T) to `target` (B, T), each per item (B,):
    `l1`: mean |estimate - target|;
    `spectral_convergence`: ||M_t - M_e||_F / ||M_t||_F; `log_magnitude`: mean |log M_t - log M_e|, both averaged over
    `STFT_RESOLUTIONS`.
    """
    convergence, log_magnitude = [], []
    for resolution in STFT_RESOLUTIONS:
        estimated, wanted = stft_magnitude(estimate, *resolution), stft_magnitude(target, *resolution)
        distance = torch.linalg.vector_norm(wanted - estimated, dim=(1, 2))
        convergence.append(distance / torch.linalg.vector_norm(wanted, dim=(1, 2)))
        log_magnitude.append(F.l1_loss(estimated.log(), wanted.log(), reduction="none").mean(dim=(1, 2)))
    return {
        "l1": (estimate - target).abs().mean(dim=-1),
        "spectral_convergence": torch.stack(convergence).mean(dim=0),
        "log_magnitude": torch.stack(log_magnitude).mean(dim=0),
    }


def enhancement_loss(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """
    L_SE = a L(clean) + (1 - a) L(noise), a = |clean|^2 / (|clean|^2 + |noise|^2) per item, noise = noisy - clean,
    L = l1 + 0.5 spectral convergence + 0.5 log magnitude; the mean over the batch.

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
    noise = noisy - clean
    speech_power, noise_power = clean.square().sum(dim=-1), noise.square().sum(dim=-1)
    share = speech_power / (speech_power + noise_power).clamp_min(EPS)
    on_speech = reconstruction_terms(enhanced, clean)
    on_noise = reconstruction_terms(noisy - enhanced, noise)
    terms = {name: (share * on_speech[name] + (1 - share) * on_noise[name]).mean() for name in on_speech}
    spectral = terms["spectral_convergence"] + terms["log_magnitude"]
    return terms["l1"] + SPECTRAL_WEIGHT * spectral, {name: term.detach() for name, term in terms.items()}


__all__ = ["STFT_RESOLUTIONS", "enhancement_loss", "reconstruction_terms", "stft_magnitude"]
