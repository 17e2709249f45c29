"""What lies above the model's band: an exact complement of it, whose gain is that of the band just below."""

import numpy as np
import pytest
import soundfile

from fake_model import SHORT, Fake, noise
from mvat_hf.inference.chunks import FastChunkedEnhancer
from mvat_hf.inference.enhancing import enhance, enhance_file
from mvat_hf.inference.folders import enhance_folder
from mvat_hf.inference.full_band import band_gains, band_powers, stream

RATES = (16001, 22050, 24000, 44100, 48000, 96000)


@pytest.fixture(scope="module")
def manner(tiny_model):
    return tiny_model(attention_levels="deepest")


def run(model, audio, rate, cuts=(), full_band=True):
    blocks = iter(np.split(audio, list(cuts), axis=1))
    enhancer = FastChunkedEnhancer(model, **SHORT)
    return np.concatenate(list(stream(enhancer, blocks, rate, len(audio), full_band)), axis=1)


def tone(hertz, rate, seconds=2.0):
    return 0.1 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def halved_after_a_second(values):
    return values * np.where(np.arange(values.shape[-1]) < 16000, 1, 0.5).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_of_a_model_that_does_nothing_all_comes_back_to_the_last_sample(rate):
    audio = noise(2, rate // 2)
    np.testing.assert_allclose(enhance(Fake(), audio, rate, **SHORT), audio, atol=2e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 100, 12001])
def test_length_is_kept(length):
    audio = noise(3, length)
    assert enhance(Fake(), audio, 48000, **SHORT).shape == audio.shape


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_what_is_above_is_turned_down_when_the_band_below_is(rate):
    audio = tone(10000, rate) + tone(5000, rate)
    output = enhance(Fake(halved_after_a_second), audio, rate, chunk_seconds=None)
    edge = round(0.06 * rate)  # of frames, and of the smoothing
    np.testing.assert_allclose(output[edge : rate - edge], audio[edge : rate - edge], atol=1e-4)
    np.testing.assert_allclose(output[rate + edge : -edge], 0.5 * audio[rate + edge : -edge], atol=2e-4)
    assert np.abs(output).max() <= np.abs(audio).max() + 1e-3  # nor any step between the two


def test_nothing_is_raised_and_what_the_model_takes_away_is_gone():
    audio = noise(24000)
    louder = enhance(Fake(lambda values: 2 * values), audio, 48000, full_band=True)
    low = enhance(Fake(lambda values: 2 * values), audio, 48000, full_band=False)
    above = audio - enhance(Fake(), audio, 48000, full_band=False)
    np.testing.assert_allclose(louder - low, above, atol=2e-6)
    assert not enhance(Fake(lambda values: 0 * values), audio, 48000).any()


def test_only_the_upper_half_of_the_band_is_judged():
    """Rumble that the model removes is no reason to remove what is above."""
    audio = tone(10000, 48000) + tone(5000, 48000)

    def without_rumble(values):
        spectrum = np.fft.rfft(values.numpy())
        spectrum[..., : round(1000 * values.shape[-1] / 16000)] = 0
        return values.new_tensor(np.fft.irfft(spectrum, values.shape[-1]))

    output = enhance(Fake(without_rumble), audio + 10 * tone(100, 48000), 48000, chunk_seconds=None)
    np.testing.assert_allclose(output[4800:-4800], audio[4800:-4800], atol=1e-3)


def test_the_gain_is_that_of_powers_smoothed_over_five_frames():
    rng, hop = np.random.default_rng(0), 160
    before = rng.standard_normal((1, 16000)).astype(np.float32)
    after = before * np.where(np.arange(16000) < 8000, 1.5, 0.1).astype(np.float32)
    audio = np.concatenate([after, before])
    powers = np.concatenate(list(band_powers(iter([audio]), hop, 2)), axis=1)
    smooth = [np.convolve(row, [0.25, 0.75, 1, 0.75, 0.25], "same") for row in powers]  # Hann
    (gains,) = np.concatenate(list(band_gains(iter([audio]), hop, 1)), axis=1)
    inside = slice(5, 95)
    np.testing.assert_allclose(gains[inside], np.sqrt(np.minimum(smooth[0] / smooth[1], 1))[inside], rtol=1e-5)
    assert gains[5:45] == pytest.approx(1) and gains[56:95] == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("rate", [22050, 48000])
def test_how_the_stream_is_cut_changes_nothing(manner, rate):
    audio = noise(2, 40000)
    whole = run(manner, audio, rate)
    assert np.abs(whole - run(manner, audio, rate, full_band=False)).max() > 1e-3
    for cuts in (range(500, 40000, 500), [1, 2, 3, 39999], [0, 20000, 20000]):
        np.testing.assert_array_equal(run(manner, audio, rate, cuts), whole)


def test_channels_do_not_touch_each_other(manner):
    audio = noise(2, 20000) * np.array([[1], [0.05]], dtype=np.float32)
    both = run(manner, audio, 44100)
    for index in (0, 1):
        alone = run(manner, audio[index : index + 1], 44100)[0]
        np.testing.assert_allclose(both[index], alone, atol=1e-4 * np.abs(alone).max())


@pytest.mark.parametrize("rate", [8000, 15999, 16000])
def test_at_the_models_rate_and_below_nothing_changes(manner, rate):
    audio = noise(2, 9000)
    expected = np.concatenate(list(FastChunkedEnhancer(manner, **SHORT).stream(iter([audio]), rate, 2)), axis=1)
    np.testing.assert_array_equal(run(manner, audio, rate), expected)
    np.testing.assert_array_equal(run(manner, audio, rate, full_band=False), expected)


def test_memory_does_not_grow():
    taken, given, held = 0, 0, []

    def source():
        nonlocal taken
        for _ in range(3000):
            taken += 300
            yield noise(1, 300)

    for block in stream(FastChunkedEnhancer(Fake(), **SHORT), source(), 48000, 1):
        held.append(taken - given)
        given += block.shape[1]
    # two chunks, the frames that are done at once, and what soxr holds
    assert given == taken == 900000 and max(held) < 48000 * (0.5 + 2 * 2.56 + 0.5)


def test_files_and_folders_keep_it_or_not(manner, tmp_path):
    audio = noise(20000)
    soundfile.write(tmp_path / "a.wav", audio, 48000, subtype="FLOAT")
    for full_band in (True, False):
        expected = enhance(manner, audio, 48000, full_band=full_band)
        enhance_file(manner, tmp_path / "a.wav", tmp_path / "b.wav", full_band=full_band)
        enhance_folder(manner, tmp_path, tmp_path / f"out{full_band}", full_band=full_band)
        for path in (tmp_path / "b.wav", tmp_path / f"out{full_band}" / "a.wav"):
            np.testing.assert_allclose(soundfile.read(path)[0], expected, atol=1e-6)
