"""PESQ-WB in a form that has a gradient, as a training loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLING_RATE = 16000
FFT_SIZE, HOP = 512, 256  # samples: 32 ms, half overlapped, Hann
# the bands of wide-band P.862: bins of each; width in Bark; threshold of hearing in dB; Hz in a Bark
BINS = (
    1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 3, 4, 5, 4, 5, 6, 6, 7, 8,
    9, 9, 12, 12, 15, 16, 18, 21, 25, 20,
)  # fmt: skip
WIDTHS = (
    0.1573, 0.3180, 0.3224, 0.3269, 0.3315, 0.3361, 0.3407, 0.3454, 0.3501, 0.3549, 0.3597, 0.3646, 0.3695, 0.3745,
    0.3796, 0.3847, 0.3898, 0.3950, 0.4002, 0.4055, 0.4109, 0.4163, 0.4218, 0.4273, 0.4329, 0.4385, 0.4442, 0.4500,
    0.4558, 0.4616, 0.4676, 0.4736, 0.4796, 0.4857, 0.4919, 0.4982, 0.5045, 0.5108, 0.5173, 0.5237, 0.5303, 0.5369,
    0.5436, 0.5504, 0.5572, 0.5641, 0.5711, 0.5781, 0.5852,
)  # fmt: skip
THRESHOLDS = (
    77.1, 63.9, 48.5, 36.9, 30.7, 25.9, 20.3, 16.6, 12.5, 9.9, 6.9, 4.9, 2.8, 1.0, -0.1, -1.4, -2.5, -3.4, -4.1, -4.8,
    -5.3, -5.7, -5.9, -6.0, -6.0, -6.0, -6.0, -5.8, -5.4, -5.1, -4.7, -4.3, -4.0, -3.6, -3.3, -3.1, -3.0, -3.0, -2.9,
    -2.8, -2.8, -2.8, -2.9, -3.2, -3.7, -4.3, -4.4, -3.8, -2.7,
)  # fmt: skip
HERTZ_PER_BARK = (
    100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 106.1, 110, 118, 130, 137.5, 140, 142.9, 150,
    153.7, 161.9, 177.3, 191.6, 204.5, 217.6, 226.8, 233.5, 242.9, 256.5, 271.9, 295.3, 322.2, 355.1, 393.1, 429.8,
    465.2, 513, 577.1, 651.7, 733.4, 826.2, 909.6, 1001.3, 1115.9, 1374.6, 1590.9,
)  # fmt: skip
POWER_SCALE, LOUDNESS_SCALE = 6.910853e-6, 0.1866055  # from digital to heard power, and to sone
LEVEL = 1e7  # power of both signals between 325 and 3250 Hz
PADDING = 5120  # samples that the length counts more when the level is taken
NUMERATOR, DENOMINATOR = (2.740826, -5.4816519, 2.740826), (1.0, -1.9444777, 0.94597794)  # P.862.2's input filter
FILTER_RING = 1024  # samples, after which that filter has died away
SILENT = 1e7  # audible power of a frame below which it says nothing of the channel
DEAD_ZONE = 0.25  # of the smaller loudness: a difference below it is masked
ASYMMETRY_FLOOR, ASYMMETRY_CEILING = 3.0, 12.0
LARGEST = 45.0  # disturbance of a frame, of either kind
SYLLABLE, SYLLABLE_HOP = 20, 10  # frames
SYMMETRIC_WEIGHT, ASYMMETRIC_WEIGHT = 0.1, 0.0309
EPS = 1e-8


def pesq_loss(enhanced: Tensor, clean: Tensor) -> Tensor:
    """
    - PESQ-WB (P.862.2 MOS-LQO, 1 to 4.64), mean over the batch. Silent speech counts as 0.

    Follows ITU-T P.862 and P.862.2 with their constants, from level alignment to the mapping of the score; left out is
    what has no gradient or no use here: the alignment in time, and the second look at bad intervals. That PESQ can be a
    loss was shown by Martín-Doñas et al. (2018), that all of P.862 but the alignment can, by torch-pesq (Schmidt 2022).
    To measure, use `metrics.pesq`. A model trained on this is no longer measured independently by PESQ.

    Args:
        enhanced, clean: audio (B, T) at 16 kHz, aligned.
    """
    return -torch.where(clean.square().mean(dim=-1) > EPS**2, pesq_score(enhanced, clean), 0.0).mean()


def pesq_score(enhanced: Tensor, clean: Tensor) -> Tensor:
    """Differentiable estimate of PESQ-WB for each item, (B, T) and (B, T) to (B,)."""
    with torch.autocast(enhanced.device.type, enabled=False):
        symmetric, asymmetric = disturbances(*equalised(*(band_powers(audio.float()) for audio in (enhanced, clean))))
        raw = 4.5 - SYMMETRIC_WEIGHT * over_time(symmetric) - ASYMMETRIC_WEIGHT * over_time(asymmetric)
        return 0.999 + 4 * torch.sigmoid(1.3669 * raw - 3.8224)


def band_powers(audio: Tensor) -> Tensor:
    """Power in each band and frame of audio brought to the listening level, (B, T) to (B, frames, 49)."""
    samples, device = audio.shape[-1], audio.device
    size = samples + FILTER_RING
    spectrum = torch.fft.rfft(audio, size)
    frequency = torch.arange(size // 2 + 1, device=device) / size
    heard = (frequency * SAMPLING_RATE > 325) & (frequency * SAMPLING_RATE < 3250)
    energies = torch.view_as_real(spectrum).square().sum(dim=-1)
    power = (energies * heard).sum(dim=-1, keepdim=True) * (2 / size) / (samples + PADDING)
    delay = torch.exp(-2j * torch.pi * frequency)  # z^-1
    above, below = (a + b * delay + c * delay**2 for a, b, c in (NUMERATOR, DENOMINATOR))
    filtered = torch.fft.irfft(spectrum * (above / below), size)[..., :samples]
    window = torch.hann_window(FFT_SIZE, device=device)
    frames = torch.stft(filtered, FFT_SIZE, HOP, window=window, pad_mode="constant", return_complex=True)
    # (B, bins, frames) -> (B, frames, bins) -> (B, frames, bands); what is constant or at 8 kHz is in no band
    bins = torch.view_as_real(frames).square().sum(dim=-1).transpose(1, 2)
    bins = F.pad(bins[..., 1:-1], (1, 0)) * (LEVEL / (power[..., None] + EPS))
    counts = torch.tensor(BINS, device=device)
    bank = F.one_hot(torch.arange(len(BINS), device=device).repeat_interleave(counts)).float() / counts
    return bins @ (bank * torch.tensor(HERTZ_PER_BARK, device=device) * POWER_SCALE)


def audible(powers: Tensor, above: float = 1.0) -> Tensor:
    """`powers` (B, frames, bands) that pass the threshold of hearing so many times, zeros elsewhere."""
    return powers * (powers > above * thresholds(powers.device))


def equalised(degraded: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both (B, frames, bands) after taking out what is hardly heard: a filter, and gains that change slowly."""
    speaks = (audible(reference, 100).sum(dim=-1, keepdim=True) >= SILENT).float()
    ours, theirs = ((audible(powers, 100) * speaks).mean(dim=1, keepdim=True) for powers in (degraded, reference))
    reference = reference * ((ours + 1000) / (theirs + 1000)).clamp(0.01, 100)
    gain = (audible(reference).sum(dim=-1) + 5e3) / (audible(degraded).sum(dim=-1) + 5e3)
    # a smoother that keeps 0.2 of the gain before: (B, frames), its first gains repeated to the left
    taps = 0.8 * 0.2 ** torch.arange(3, -1, -1, device=gain.device)
    smooth = F.conv1d(F.pad(gain[:, None], (3, 0), mode="replicate"), (taps / taps.sum())[None, None])[:, 0]
    return degraded * smooth.clamp(3e-4, 5)[..., None], reference


def disturbances(degraded: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric and asymmetric disturbance of every frame, (B, frames, bands) to (B, frames)."""
    heard, wanted = loudness(degraded), loudness(reference)
    difference = F.relu((heard - wanted).abs() - DEAD_ZONE * torch.minimum(heard, wanted))
    asymmetry = ((degraded + 50) / (reference + 50)).pow(1.2)
    asymmetry = torch.where(asymmetry < ASYMMETRY_FLOOR, 0.0, asymmetry.clamp_max(ASYMMETRY_CEILING))
    widths = torch.tensor(WIDTHS, device=degraded.device)[1:]  # the lowest band does not count
    difference, asymmetry = difference[..., 1:] * widths, asymmetry[..., 1:]
    symmetric = ((difference.square().sum(dim=-1) + EPS) * widths.sum()).sqrt()
    asymmetric = (difference * asymmetry).sum(dim=-1)
    quiet = ((audible(reference).sum(dim=-1) + 1e5) / 1e7).pow(-0.04)
    symmetric, asymmetric = ((norm * quiet).clamp_max(LARGEST) for norm in (symmetric, asymmetric))
    return symmetric, asymmetric


def over_time(disturbance: Tensor) -> Tensor:
    """The L2 norm over half-overlapping syllables of 0.3 s of the L6 norm in each, (B, frames) to (B,)."""
    length = min(SYLLABLE, disturbance.shape[-1])
    sixth = F.avg_pool1d((disturbance / LARGEST).pow(6)[:, None], length, SYLLABLE_HOP, ceil_mode=True)[:, 0]
    return LARGEST * (sixth + 1e-24).pow(1 / 3).mean(dim=-1).sqrt()


def loudness(powers: Tensor) -> Tensor:
    """Zwicker's law in sone: S (P0 / 0.5)^g ((0.5 + 0.5 P / P0)^g - 1), 0 below the threshold P0; g of 0.23 or so."""
    threshold = thresholds(powers.device)
    widths = torch.tensor(WIDTHS, device=powers.device)
    centres = widths.cumsum(dim=0) - widths / 2
    exponent = 0.23 * (6 / (centres + 2)).clamp(1, 2).pow(0.15)  # more for low frequencies
    above = (powers / threshold).clamp_min(1)
    return LOUDNESS_SCALE * (threshold / 0.5).pow(exponent) * ((0.5 + 0.5 * above).pow(exponent) - 1)


def thresholds(device: torch.device) -> Tensor:
    """The threshold of hearing of every band, as power (49,)."""
    return 10 ** (torch.tensor(THRESHOLDS, device=device) / 10)


__all__ = ["pesq_loss", "pesq_score"]
