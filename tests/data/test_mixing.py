"""Mixtures: ratio and level measured on the result, and the same mixture for an index whoever asks, whenever."""

import numpy as np
import pytest
import soundfile
from torch.utils.data import DataLoader

from mixtures import decibels, mixed, noise, write_files
from mvat_hf.data.audio import AudioError, read_mono, resample
from mvat_hf.data.augment import Augmentation
from mvat_hf.data.dns import mixtures
from mvat_hf.data.mixing import Mixer, MixingOptions, UnreadableFileWarning, draw, mix, read_span
from mvat_hf.data.reverb import ResponseFiles


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
    return write_files(tmp_path_factory.mktemp("files"))


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


def test_what_is_heard_is_mixed_and_the_target_scaled_with_it():
    target, heard = noise(), 2 * noise(seed=2)
    clean, noisy = mix(target, noise(seed=1), 5, -25, reverberant=heard)
    gain = float(clean @ target / (target @ target))
    np.testing.assert_allclose(clean, gain * target, atol=1e-6)
    assert decibels(gain * heard) - decibels(noisy - gain * heard) == pytest.approx(5, abs=0.02)


def test_silence_may_stand_between_joined_files(files):
    _, interference = files
    audio = draw(interference, 5000, 16000, np.random.default_rng(0), silence=300)
    assert audio.shape == (5000,)
    np.testing.assert_array_equal(np.flatnonzero(audio == 0), [*range(1600, 1900), *range(3500, 3800)])


def test_a_mixer_tells_what_it_is_made_of(files, damaged):
    options = MixingOptions(augmentation=Augmentation(reverb_probability=0.5))
    assert set(Mixer(*files).describe()) == {"speech", "noise"}
    assert Mixer(*files, options, responses=[np.ones(3)]).describe()["responses"] == {"simulated": 1}
    whole, part = Mixer(*files).describe(), Mixer(*damaged).describe()
    assert part == {kind: {**whole[kind], "unreadable": 1} for kind in whole}
