"""A high-pass filter without delay, for what recordings hold below the voice: hum of the mains, rumble, an offset."""

import math

import torch
from torch import Tensor

ORDER = 8  # of the Butterworth filter that runs forwards and backwards
SIZE_STEP = 1024  # the transform's length is a multiple of this, which is quick
REACH_SECONDS = 0.25  # of silence beside the signal, in which the filter has died away


def high_pass(audio: Tensor, hertz: float, sampling_rate: int) -> Tensor:
    """
    Audio (B, T) without its mean and without what is below `hertz`: 6 dB less there, 22 dB at 6/7 of it, 1 dB at 8/7.

    The response is that of a Butterworth filter run forwards and backwards.

    Args:
        hertz: below half the sampling rate; 0 gives `audio` itself.
        sampling_rate: of `audio`, in Hz.
    """
    if hertz == 0:
        return audio
    samples = audio.shape[-1]
    size = -(-(samples + int(REACH_SECONDS * sampling_rate)) // SIZE_STEP) * SIZE_STEP
    spectrum = torch.fft.rfft((audio - audio.mean(dim=-1, keepdim=True)).float(), size)
    # from four times as high on the response is 1 but for rounding
    turned_down = min(math.ceil(4 * hertz * size / sampling_rate), spectrum.shape[-1])
    ratio = torch.arange(turned_down, device=audio.device) * (sampling_rate / size / hertz)
    power = ratio ** (2 * ORDER)
    spectrum[..., :turned_down] *= power / (1 + power)  # 0 at 0 Hz; to divide by infinity there is NaN on torch 2.6
    return torch.fft.irfft(spectrum, size)[..., :samples].to(audio.dtype)
