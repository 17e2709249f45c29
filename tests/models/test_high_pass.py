"""The high-pass filter against its reference, and a model that hears through it."""

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfiltfilt
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mvat_hf.models.manner.modeling_manner import high_pass

RATE = 16000


def test_it_is_a_butterworth_filter_forwards_and_backwards():
    audio = np.random.default_rng(0).standard_normal((2, 3 * RATE))
    surrounded = np.pad(audio - audio.mean(axis=-1, keepdims=True), ((0, 0), (RATE, RATE)))
    expected = sosfiltfilt(butter(8, 70, "highpass", fs=RATE, output="sos"), surrounded)[:, RATE:-RATE]
    difference = high_pass(torch.from_numpy(audio), 70, RATE).numpy() - expected
    assert np.abs(difference).max() < 2e-3 * expected.std()  # butter warps frequencies, this does not


@pytest.mark.parametrize(
    ("hertz", "decibels"), [(0, -120), (35, -90), (50, -46.8), (60, -22.1), (70, -6.0), (80, -1.0)]
)
def test_a_tone_is_turned_down_by_its_distance_from_the_corner(hertz, decibels):
    tone = torch.cos(2 * torch.pi * hertz * torch.arange(4 * RATE, dtype=torch.float64) / RATE)[None].float()
    inside = slice(RATE, -RATE)
    left = 20 * np.log10((high_pass(tone, 70, RATE)[:, inside].norm() / tone[:, inside].norm()).item() + 1e-9)
    assert left < decibels if decibels < -80 else left == pytest.approx(decibels, abs=0.2)


@pytest.mark.parametrize("samples", [1, 2, 100, 4001, 33333])
def test_any_length_comes_out_as_long_and_finite(samples):
    audio = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    filtered = high_pass(audio, 70, RATE)
    assert filtered.shape == audio.shape and filtered.dtype == audio.dtype and filtered.isfinite().all()
    assert high_pass(audio, 0, RATE) is audio


class Finite(TorchDispatchMode):
    """Every tensor that any operation gives is finite."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(given):
            assert not isinstance(tensor, torch.Tensor) or tensor.isfinite().all(), function
        return given


@pytest.mark.parametrize("hertz", [1, 70, 7999])
def test_nothing_infinite_on_the_way(hertz):
    """What torch makes of a complex number divided by infinity is another thing in each version."""
    audio = torch.randn(2, 4001) + 1
    with Finite():
        filtered = high_pass(audio, hertz, RATE)
    spectrum = torch.fft.rfft(high_pass(audio, hertz, RATE), 3 * 4001)
    assert filtered.isfinite().all() and (spectrum[:, 0].abs() < 0.1 * 4001).all()


def test_what_is_far_above_stays_to_its_ends():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)[None]
    torch.testing.assert_close(high_pass(tone, 70, RATE), tone, atol=0.05, rtol=0)


@pytest.mark.parametrize("fused", [False, True])
def test_a_model_does_not_hear_what_is_below(tiny_model, fused):
    model = tiny_model(seed=1, high_pass_hz=70)
    plain = tiny_model(seed=1)
    plain.load_state_dict(model.state_dict())
    if fused:
        model.fuse(), plain.fuse()
    voice = torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    hum = 3 * torch.sin(2 * torch.pi * 50 * torch.arange(RATE) / RATE)
    with torch.no_grad():
        heard, alone = model(voice + hum).audio_values, model(voice).audio_values
        expected = plain(high_pass(voice, 70, RATE)).audio_values
    assert torch.equal(alone, expected)
    inside = slice(RATE // 4, -RATE // 4)
    assert (heard - alone)[:, inside].norm() < 0.03 * alone[:, inside].norm()
