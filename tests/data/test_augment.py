"""Changes to speech and noise: measured on tones and impulses, and the same for the same generator."""

import numpy as np
import pytest

from mvat_hf.data.augment import (
    Augmentation,
    change_level,
    change_speed,
    coloured_noise,
    equalise,
    narrow_noise,
    random_speed,
)


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clean_probability": 1.1}, "clean_probability must be from 0 to 1, got 1.1"),
        ({"reverb_probability": -0.1}, "reverb_probability must be from 0 to 1, got -0.1"),
        ({"clean_probability": 0.6, "noise_probability": 0.5}, "at most 1 together, got 0.6 and 0.5"),
        ({"speed_change": 0.9}, "speed_change must be from 0 to 0.5, got 0.9"),
        ({"noise_speed_change": -0.1}, "noise_speed_change must be from 0 to 0.5, got -0.1"),
        ({"early_ms": -1}, "early_ms must be at least 0, got -1"),
    ],
)
def test_options_that_cannot_be(options, says):
    with pytest.raises(ValueError, match=says):
        Augmentation(**options)


def test_speeds_lie_in_their_range_and_use_it():
    rates = {random_speed(0.1, 16000, generator(seed)) for seed in range(300)}
    assert min(rates) == 14400 and max(rates) == 17600 and len(rates) == 21
    assert random_speed(0, 16000, generator()) == 16000


@pytest.mark.parametrize("percent", [80, 95, 110])
def test_a_tone_played_faster_is_higher_and_shorter(percent):
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    played = change_speed(tone, 160 * percent, 16000)
    assert len(played) == round(16000 * 100 / percent)
    peak = np.abs(np.fft.rfft(played[:8000])).argmax() * 2  # Hz
    assert peak == pytest.approx(10 * percent, abs=2)


def test_an_equaliser_is_the_filter_of_its_recursion():
    audio = generator(1).standard_normal(1500).astype(np.float32)
    filtered = equalise(audio, generator(3))
    above, below = generator(3).uniform(-3 / 8, 3 / 8, (2, 2))
    expected = np.zeros(1502)
    padded = np.concatenate([np.zeros(2), audio])
    for n in range(2, 1502):
        expected[n] = padded[n] + above @ padded[[n - 1, n - 2]] - below @ expected[[n - 1, n - 2]]
    np.testing.assert_allclose(filtered, expected[2:], atol=1e-5)
    assert filtered.dtype == np.float32 and not np.allclose(filtered, equalise(audio, generator(4)), atol=1e-2)


def test_a_change_of_level_leaves_one_side_as_it_is():
    sides, audio = set(), np.ones(16000, np.float32)
    for seed in range(40):
        changed = change_level(audio, 16000, generator(seed))
        assert changed.dtype == np.float32 and changed.min() >= 0.1 - 1e-6 and changed.max() == 1
        ramp = np.flatnonzero(np.diff(changed))
        assert len(ramp) <= 801 and (not len(ramp) or np.ptp(ramp) == len(ramp) - 1)  # one change, in 50 ms
        sides.add(bool(changed[0] > changed[-1]))
    assert sides == {True, False}


@pytest.mark.parametrize(("slope", "decibels"), [(0, 0), (1, -3), (2, -6)])
def test_coloured_noise_falls_by_its_slope_an_octave(slope, decibels):
    noise = coloured_noise(2**17, slope, 16000, np.random.default_rng(0))
    power, frequency = np.abs(np.fft.rfft(noise)) ** 2, np.fft.rfftfreq(len(noise), 1 / 16000)
    octaves = [power[(frequency >= low) & (frequency < 2 * low)].mean() for low in (250, 500, 1000, 2000)]
    assert np.diff(10 * np.log10(octaves)) == pytest.approx(decibels, abs=0.3)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("sampling_rate", [8000, 16000])
def test_narrow_noise_is_a_few_bands_from_hum_to_whistles(sampling_rate):
    loudest, widths = [], []
    for seed in range(100):
        noise = narrow_noise(2 * sampling_rate, sampling_rate, generator(seed))
        assert noise.shape == (2 * sampling_rate,) and noise.dtype == np.float32
        assert np.sqrt(np.mean(noise**2)) == pytest.approx(1, abs=1e-3)
        power = np.abs(np.fft.rfft(noise * np.hanning(len(noise)))) ** 2
        loudest.append(power.argmax() / 2)  # bins of 0.5 Hz
        widths.append((np.sort(power)[::-1].cumsum() < 0.5 * power.sum()).sum() / 2)
    assert min(loudest) < 60 and max(loudest) > 2000
    assert np.median(widths) < 200 and np.mean(np.array(widths) < 10) > 0.2  # white noise: half of all
