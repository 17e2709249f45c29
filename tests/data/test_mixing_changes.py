"""What a mixer changes in speech and noise, if asked to: other noises, rooms, speeds, mixtures without one of both."""

import numpy as np
import pytest

from mixtures import decibels, mixed, noise, write_files
from mvat_hf.data.augment import Augmentation
from mvat_hf.data.mixing import Mixer, MixingOptions


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("scale", [1e-3, 0.1])
@pytest.mark.parametrize(("kind", "low", "high"), [("second", -10, 0), ("narrow", -15, 10)])
def test_another_noise_is_as_loud_as_it_may_be_beside_the_first(kind, low, high, scale, files):
    augmentation = Augmentation(**{f"{kind}_noise_probability": 1.0})
    mixer, first = Mixer(*files, MixingOptions(augmentation=augmentation)), noise(8000, scale=scale)
    add = getattr(mixer, f"add_{kind}_noise")
    levels = [decibels(add(index, first) - first) - decibels(first) for index in range(30)]
    assert low - 0.1 < min(levels) < (low + high) / 2 < max(levels) < high + 0.1


def test_made_noise_is_of_all_colours_from_white_to_brown(files):
    augmentation = Augmentation(coloured_noise_probability=1.0)
    mixer = Mixer(*files, MixingOptions(augmentation=augmentation))
    octaves = np.log2(np.arange(50, 4000))
    slopes = []
    for index in range(20):
        made = mixer.recorded_or_made(index, noise(16000))
        power = np.log2(np.square(np.abs(np.fft.rfft(made)[50:4000])))
        slopes.append(np.polyfit(octaves, power, 1)[0])
    assert -2.2 < min(slopes) < -1.5 and -0.5 < max(slopes) < 0.2


def test_babble_is_of_several_voices_each_at_a_level_of_its_own(files, monkeypatch):
    voices = []

    def one_voice(self, samples, rng, changes):
        voices.append(np.zeros(samples, dtype=np.float32))
        voices[-1][len(voices) - 1 :: 16] = 0.01 * len(voices)  # a comb: no two share a sample
        return voices[-1]

    monkeypatch.setattr(Mixer, "speech", one_voice)
    babble = Mixer(*files).babble(16000, np.random.default_rng(0))
    levels = [decibels(np.where(voice == 0, 0, babble)) for voice in voices]
    assert 5 <= len(voices) <= 12 and all(-6.01 <= level <= 0.01 for level in levels)
    assert max(levels) - min(levels) > 2 and sorted(levels) != levels


def test_speech_and_noise_have_either_polarity_each(files):
    signs = []
    for (clean, noisy), (before, noisy_before) in zip(
        mixed(files, polarity_probability=0.5), mixed(files), strict=True
    ):
        pairs = (clean, before), (noisy - clean, noisy_before - before)
        signs.append([float(np.sign(changed @ plain)) for changed, plain in pairs])
        for sign, (changed, plain) in zip(signs[-1], pairs, strict=True):
            gain = sign * np.linalg.norm(changed) / np.linalg.norm(plain)  # the level is that of another mixture
            np.testing.assert_allclose(changed, gain * plain, atol=1e-5)
    kinds = [signs.count([of_speech, of_noise]) for of_speech in (1, -1) for of_noise in (1, -1)]
    assert min(kinds) > 3, kinds


def test_some_mixtures_lack_noise_or_speech(files):
    plain, changed = mixed(files), mixed(files, clean_probability=0.3, noise_probability=0.3)
    kinds = []
    for (clean, noisy), before in zip(changed, plain, strict=True):
        if not clean.any():
            assert noisy.any()
            kinds.append("noise")
        elif np.array_equal(clean, noisy):
            kinds.append("clean")
        else:
            np.testing.assert_array_equal(noisy, before[1])
            kinds.append("both")
    assert min(kinds.count(kind) for kind in ("noise", "clean", "both")) > 5
    assert all(not clean.any() for clean, _ in mixed(files, 5, noise_probability=1))


def test_the_room_is_heard_and_the_direct_path_wanted(files):
    room = np.zeros(200, dtype=np.float32)
    room[[50, 150]] = 1, 0.5
    plain, rooms = mixed(files, 10), mixed(files, 10, [room], reverb_probability=1, early_ms=0)
    for (clean, _), (target, noisy) in zip(plain, rooms, strict=True):
        gain = float(target @ clean / (clean @ clean))
        np.testing.assert_allclose(target, gain * clean, atol=1e-5)  # where the speech was
        heard = target + 0.5 * np.pad(target, (100, 0))[:-100]
        assert decibels(heard) - decibels(noisy - heard) == pytest.approx(5, abs=0.05)
    some = mixed(files, responses=[room], reverb_probability=0.5)
    same = sum(np.array_equal(one[1], other[1]) for one, other in zip(some, mixed(files), strict=True))
    assert 8 < same < 32


def test_echoes_within_so_many_milliseconds_are_wanted_too(files):
    room = np.zeros(400, dtype=np.float32)
    room[[50, 150, 350]] = 1, 0.5, 0.25  # after 6 and 19 ms
    plain, rooms = mixed(files, 5), mixed(files, 5, [room], reverb_probability=1, early_ms=10)
    for (clean, _), (target, _) in zip(plain, rooms, strict=True):
        wanted = clean + 0.5 * np.pad(clean, (100, 0))[:-100]
        np.testing.assert_allclose(target, float(target @ wanted / (wanted @ wanted)) * wanted, atol=1e-5)


def test_reverberation_needs_responses(files):
    with pytest.raises(ValueError, match="expected impulse responses, got none"):
        mixed(files, reverb_probability=0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"speed_change": 0.1},
        {"noise_speed_change": 0.4},
        {"equaliser_probability": 1},
        {"second_noise_probability": 1},
        {"coloured_noise_probability": 1},
        {"babble_probability": 1},
        {"level_change_probability": 1},
        {"narrow_noise_probability": 1},
    ],
)
def test_changes_keep_the_ratio_the_length_and_the_determinism(options, files):
    first, again, plain = mixed(files, **options), mixed(files, **options), mixed(files)
    changed = 0
    for (clean, noisy), same, before in zip(first, again, plain, strict=True):
        assert clean.shape == noisy.shape == (1600,) and clean.dtype == noisy.dtype == np.float32
        assert decibels(clean) - decibels(noisy - clean) == pytest.approx(5, abs=0.02)
        np.testing.assert_array_equal(noisy, same[1])
        changed += not np.allclose(noisy, before[1], atol=1e-3)
    assert changed > 12  # one of the two noises twice is the same noise


def test_the_noise_alone_is_played_at_other_speeds(files):
    for (clean, noisy), (before, noisy_before) in zip(
        mixed(files, 10, noise_speed_change=0.5), mixed(files, 10), strict=True
    ):
        assert np.corrcoef(clean, before)[0, 1] == pytest.approx(1, abs=1e-5)
        assert np.corrcoef(noisy - clean, noisy_before - before)[0, 1] < 0.99
