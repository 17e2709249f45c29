"""Mixtures: ratio and level measured on the result, and the same mixture for an index whoever asks, whenever."""

import numpy as np
import pytest
import soundfile
from torch.utils.data import DataLoader

from mvat_hf.data.audio import AudioError, read_mono, resample
from mvat_hf.data.augment import Augmentation
from mvat_hf.data.dns import mixtures
from mvat_hf.data.mixing import Mixer, MixingOptions, UnreadableFileWarning, draw, mix, read_span
from mvat_hf.data.reverb import ResponseFiles


def noise(length=8000, scale=0.1, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)


def decibels(audio):
    return 10 * np.log10(np.mean(audio.astype(np.float64) ** 2))


@pytest.mark.parametrize("snr", [-10.0, 0.0, 7.5, 40.0])
@pytest.mark.parametrize("level", [-35.0, -18.0])
def test_ratio_and_level_are_what_was_asked_for(snr, level):
    clean, noisy = mix(noise(scale=0.3), noise(scale=0.002, seed=1), snr, level)
    assert clean.dtype == noisy.dtype == np.float32 and clean.shape == noisy.shape == (8000,)
    assert decibels(clean) - decibels(noisy.astype(np.float64) - clean) == pytest.approx(snr, abs=0.02)
    assert decibels(noisy) == pytest.approx(level, abs=0.01)


def test_both_sides_are_only_scaled():
    speech, interference = noise(), noise(seed=1)
    clean, noisy = mix(speech, interference, 5, -25)
    for part, source in ((clean, speech), (noisy - clean, interference)):
        gain = float(part @ source / (source @ source))
        assert gain > 0
        np.testing.assert_allclose(part, gain * source, atol=1e-6)


def test_inputs_are_left_alone():
    speech, interference = noise(), noise(seed=1)
    mix(speech, interference, 5, -25)
    np.testing.assert_array_equal(speech, noise())
    np.testing.assert_array_equal(interference, noise(seed=1))


def test_a_peak_past_full_scale_lowers_the_pair():
    speech = noise()
    speech[100] = 20  # a click far above the rest
    clean, noisy = mix(speech, noise(seed=1), 10, -15)
    assert np.abs(noisy).max() == pytest.approx(0.99, abs=1e-3)
    assert decibels(noisy) < -15
    assert decibels(clean) - decibels(noisy.astype(np.float64) - clean) == pytest.approx(10, abs=0.02)


def test_level_where_the_peak_allows_it():
    quiet = mix(noise(), noise(seed=1), 10, -15)[1]
    assert np.abs(quiet).max() < 0.99 and decibels(quiet) == pytest.approx(-15, abs=0.01)


def test_silence_mixes_without_accident():
    silence = np.zeros(8000, dtype=np.float32)
    clean, noisy = mix(silence, noise(), 10, -25)
    assert not clean.any() and decibels(noisy) == pytest.approx(-25, abs=0.01)
    clean, noisy = mix(noise(), silence, 10, -25)
    np.testing.assert_array_equal(clean, noisy)
    assert decibels(noisy) == pytest.approx(-25, abs=0.01)
    assert not any(side.any() for side in mix(silence, silence, 10, -25))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seconds": 0}, "seconds must be above 0, got 0"),
        ({"seconds": -1.0}, "seconds must be above 0, got -1"),
        ({"snr_db": (20.0, 0.0)}, r"snr_db must be \(low, high\), got \(20.0, 0.0\)"),
        ({"level_dbfs": (-15, -35)}, r"level_dbfs must be \(low, high\), got \(-15, -35\)"),
        ({"silence_seconds": -1}, "silence_seconds must be at least 0, got -1"),
        ({"speaker_power": 1.5}, "speaker_power must be from 0 to 1, got 1.5"),
    ],
)
def test_options_out_of_order(options, says):
    with pytest.raises(ValueError, match=says):
        MixingOptions(**options)


def test_the_challenges_ranges_are_the_default():
    options = MixingOptions()
    assert (options.snr_db, options.level_dbfs, options.sampling_rate) == ((0, 40), (-35, -15), 16000)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Speech (three files of 0.6 s, the last at 48 kHz) and noise (two of 0.1 s), told apart by what is in them."""
    folder = tmp_path_factory.mktemp("files")
    for seed, (name, length, rate) in enumerate(
        [("c0", 9600, 16000), ("c1", 9600, 16000), ("c2", 28800, 48000), ("n0", 1600, 16000), ("n1", 1600, 16000)]
    ):
        soundfile.write(folder / f"{name}.wav", noise(length, seed=seed), rate, subtype="FLOAT")
    return sorted(folder.glob("c*.wav")), sorted(folder.glob("n*.wav"))


def test_a_span_is_a_piece_of_the_file(files):
    path = files[0][0]
    whole, starts = read_mono(path, 16000), set()
    for seed in range(20):
        span = read_span(path, 500, 16000, np.random.default_rng(seed))
        (start,) = np.flatnonzero(whole == span[0])
        np.testing.assert_array_equal(span, whole[start : start + 500])
        starts.add(int(start))
    assert len(starts) > 15  # anywhere
    np.testing.assert_array_equal(read_span(path, 99999, 16000, np.random.default_rng(0)), whole)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_a_span_is_as_long_as_asked_for_at_any_rate(rate, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(rate), rate)
    for samples in (1, 777, 8000):
        assert read_span(tmp_path / "a.wav", samples, 16000, np.random.default_rng(0)).shape == (samples,)


def test_a_span_of_numbers_only(tmp_path):
    audio = noise(100)
    audio[50] = np.nan
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav holds 1 NaN"):
        read_span(tmp_path / "a.wav", 100, 16000, np.random.default_rng(0))


@pytest.mark.filterwarnings("ignore::mvat_hf.data.mixing.UnreadableFileWarning")
def test_a_file_without_a_sample_at_the_rate_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(1), 48000)
    with pytest.raises(AudioError, match=r"a\.wav is too short"):
        draw([tmp_path / "a.wav"], 100, 16000, np.random.default_rng(0))


def test_short_files_are_joined_to_length(files):
    speech, interference = files
    audio = draw(interference, 5000, 16000, np.random.default_rng(0))
    assert audio.shape == (5000,) and audio.all()
    wholes = [read_mono(path, 16000) for path in interference]
    for start in (0, 1600, 3200):  # each file whole, the last part a span of one
        assert any(np.array_equal(audio[start : start + 1600], whole) for whole in wholes)
    assert draw(speech, 100, 16000, np.random.default_rng(0)).shape == (100,)


def test_a_mixture_depends_on_seed_and_index_alone(files):
    options = MixingOptions(seconds=0.2)
    first = [Mixer(*files, options).mixture(index) for index in range(6)]
    again, other = Mixer(*files, options), Mixer(*files, options, seed=1)
    for index in (5, 0, 3, 3, 1):
        for side in (0, 1):
            np.testing.assert_array_equal(again.mixture(index)[side], first[index][side])
    noisies = {noisy.tobytes() for _, noisy in first}
    assert len(noisies) == 6
    # another seed gives none of them, at no index
    assert not noisies & {other.mixture(index)[1].tobytes() for index in range(6)}


def test_mixtures_are_in_range(files):
    options = MixingOptions(seconds=0.3, snr_db=(3, 6), level_dbfs=(-30, -28))
    ratios = []
    for index in range(30):
        clean, noisy = Mixer(*files, options).mixture(index)
        assert clean.shape == noisy.shape == (4800,)
        ratios.append(decibels(clean) - decibels(noisy.astype(np.float64) - clean))
        assert -30.01 < decibels(noisy) < -27.99
    assert 2.98 < min(ratios) < 3.6 and 5.4 < max(ratios) < 6.02  # the range is used


def test_whole_files_are_taken_in_turn(files):
    speech, interference = files
    mixer = Mixer(speech, interference, MixingOptions(seconds=None))
    for index in range(6):
        source, (clean, noisy) = read_mono(speech[index % 3], 16000), mixer.mixture(index)
        assert clean.shape == noisy.shape == source.shape
        assert np.corrcoef(clean, source)[0, 1] > 0.9999
    # the same speech a second time, but another mixture
    assert not np.array_equal(mixer.mixture(0)[1], mixer.mixture(3)[1])


@pytest.fixture
def damaged(files, tmp_path):
    """The files with a damaged one of either kind among them."""
    speech, interference = files
    for name in ("c", "n"):
        (tmp_path / f"{name}.wav").write_bytes(b"RIFF, but no more")
    return [*speech, tmp_path / "c.wav"], [tmp_path / "n.wav", *interference]


def test_a_damaged_file_is_told_once_and_another_taken(damaged):
    with pytest.warns(UnreadableFileWarning) as warned:
        mixtures = [Mixer(*damaged, MixingOptions(seconds=0.3)).mixture(index) for index in range(20)]
    told = [str(warning.message) for warning in warned]
    assert len(told) == 2 and all("cannot be read" in text and "another file is taken" in text for text in told)
    assert all(clean.any() and noisy.any() and len(clean) == len(noisy) == 4800 for clean, noisy in mixtures)


@pytest.mark.filterwarnings("ignore::mvat_hf.data.mixing.UnreadableFileWarning")
def test_what_is_taken_depends_on_seed_and_index_alone(damaged):
    mixer = Mixer(*damaged, MixingOptions(seconds=0.3))
    first = [mixer.mixture(index)[1] for index in range(8)]
    for workers in (0, 2):
        dataset = mixtures(mixer, 8).select([7, 2, 5, 0, 1])
        items = [item for batch in DataLoader(dataset, 2, num_workers=workers, collate_fn=list) for item in batch]
        for item, index in zip(items, (7, 2, 5, 0, 1), strict=True):
            np.testing.assert_array_equal(item["noisy"], first[index])


@pytest.mark.filterwarnings("ignore::mvat_hf.data.mixing.UnreadableFileWarning")
def test_in_the_place_of_a_whole_file_stands_the_next(damaged):
    clean, _ = Mixer(*damaged, MixingOptions(seconds=None)).mixture(3)  # that of the damaged one
    assert np.corrcoef(clean, read_mono(damaged[0][0], 16000))[0, 1] > 0.9999


@pytest.mark.filterwarnings("ignore::mvat_hf.data.mixing.UnreadableFileWarning")
@pytest.mark.parametrize("seconds", [0.1, None])
def test_where_no_file_can_be_read_the_error_is_raised(seconds, damaged):
    with pytest.raises(AudioError, match=r"c\.wav cannot be read"):
        Mixer(damaged[0][-1:], damaged[1], MixingOptions(seconds=seconds)).mixture(0)
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        draw([damaged[0][0].with_name("gone.wav")], 100, 16000, np.random.default_rng(0))


@pytest.mark.filterwarnings("ignore::mvat_hf.data.mixing.UnreadableFileWarning")
def test_a_damaged_response_is_replaced(files, damaged, tmp_path):
    soundfile.write(tmp_path / "room.wav", np.eye(1, 100)[0], 16000)
    responses = ResponseFiles([damaged[0][-1], tmp_path / "room.wav"], 16000)
    for (clean, _), (target, _) in zip(mixed(files, 6), mixed(files, 6, responses, reverb_probability=1), strict=True):
        assert np.corrcoef(clean, target)[0, 1] > 0.999


@pytest.mark.parametrize("index", range(4))
def test_at_another_rate_the_speech_is_a_span_of_its_file_at_that_rate(index, files):
    clean, noisy = Mixer(*files, MixingOptions(seconds=0.25, sampling_rate=8000)).mixture(index)
    assert clean.shape == noisy.shape == (2000,)
    likeness = dict.fromkeys(files[0], 0.0)
    for path in files[0]:
        whole, rate = soundfile.read(path)
        for late in range(rate // 8000):  # a span begins at any sample of the file: between two of 8 kHz, too
            at_rate = resample(whole[None, late:], rate, 8000)[0]
            spans = np.lib.stride_tricks.sliding_window_view(at_rate, 2000)
            cosines = spans @ clean / np.linalg.norm(spans, axis=1) / np.linalg.norm(clean)
            likeness[path] = max(likeness[path], cosines.max())
    *others, best = sorted(likeness.values())
    assert best > 0.99 and max(others) < 0.3


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_order_do_not_matter(workers, files):
    mixer = Mixer(*files, MixingOptions(seconds=0.1))
    dataset = mixtures(mixer, 8).select([7, 2, 5, 0, 1])
    items = [item for batch in DataLoader(dataset, 2, num_workers=workers, collate_fn=list) for item in batch]
    assert [item["id"] for item in items] == [f"mixture_{index}" for index in (7, 2, 5, 0, 1)]
    for item, index in zip(items, (7, 2, 5, 0, 1), strict=True):
        clean, noisy = mixer.mixture(index)
        np.testing.assert_array_equal(item["clean"], clean)
        np.testing.assert_array_equal(item["noisy"], noisy)


def test_the_ratio_may_be_that_where_noise_is_active():
    speech, interference = noise(16000), noise(16000, seed=1)
    interference[:8000] = 0
    clean, noisy = mix(speech, interference, 5, -25, window=1600)
    assert decibels(clean[8000:]) - decibels((noisy - clean)[8000:]) == pytest.approx(5, abs=0.02)
    np.testing.assert_array_equal(clean[:8000], noisy[:8000])


def test_a_mixer_measures_the_ratio_where_noise_is_active_if_asked_to(tmp_path):
    pausing = noise(16000, seed=1)
    pausing[:8000] = 0
    for name, audio in (("speech", noise(16000)), ("noise", pausing)):
        soundfile.write(tmp_path / f"{name}.wav", audio, 16000, subtype="FLOAT")
    for active, expected in ((True, 5), (False, 5 - 10 * np.log10(2))):
        options = MixingOptions(seconds=1.0, snr_db=(5, 5), active_snr=active)
        clean, noisy = Mixer([tmp_path / "speech.wav"], [tmp_path / "noise.wav"], options).mixture(0)
        ratio = decibels(clean[8000:]) - decibels((noisy - clean)[8000:])
        assert ratio == pytest.approx(expected, abs=0.1)


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


def test_what_is_heard_is_mixed_and_the_target_scaled_with_it():
    target, heard = noise(), 2 * noise(seed=2)
    clean, noisy = mix(target, noise(seed=1), 5, -25, heard=heard)
    gain = float(clean @ target / (target @ target))
    np.testing.assert_allclose(clean, gain * target, atol=1e-6)
    assert decibels(gain * heard) - decibels(noisy - gain * heard) == pytest.approx(5, abs=0.02)


def test_silence_may_stand_between_joined_files(files):
    _, interference = files
    audio = draw(interference, 5000, 16000, np.random.default_rng(0), silence=300)
    assert audio.shape == (5000,)
    np.testing.assert_array_equal(np.flatnonzero(audio == 0), [*range(1600, 1900), *range(3500, 3800)])


def mixed(files, count=40, responses=(), **augmentation):
    options = MixingOptions(seconds=0.1, snr_db=(5, 5), augmentation=Augmentation(**augmentation))
    mixer = Mixer(*files, options, responses=responses)
    return [mixer.mixture(index) for index in range(count)]


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


def test_a_mixer_tells_what_it_is_made_of(files, damaged):
    options = MixingOptions(augmentation=Augmentation(reverb_probability=0.5))
    assert set(Mixer(*files).describe()) == {"speech", "noise"}
    assert Mixer(*files, options, responses=[np.ones(3)]).describe()["responses"] == {"simulated": 1}
    whole, part = Mixer(*files).describe(), Mixer(*damaged).describe()
    assert part == {kind: {**whole[kind], "unreadable": 1} for kind in whole}
