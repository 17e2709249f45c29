"""Arrays and tensors of any length, rate and type are enhanced, and unusable ones refused."""

import numpy as np
import pytest
import soundfile
import torch

from fake_model import RATES, SHORT, Fake, noise
from mvat_hf.data.audio import AudioError
from mvat_hf.inference.enhancing import BLOCK_FRAMES, enhance
from mvat_hf.inference.folders import enhance_folder


@pytest.mark.parametrize("length", [1, 2, 799, 801, 3999, 4000, 4001, 7200, 7201, 8000, BLOCK_FRAMES + 1])
def test_identity_returns_the_input(length):
    audio = noise(2, length)
    np.testing.assert_allclose(enhance(Fake(), audio, 16000, **SHORT), audio, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_no_delay_at_any_rate(rate):
    """Noise below 3 kHz comes back as and where it was through resamplers, chunks and a model that does nothing."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(rate))
    spectrum[3000:] = 0
    audio = 0.1 * np.fft.irfft(spectrum, rate)
    output = enhance(Fake(), audio, rate, **SHORT)
    correlation = np.fft.irfft(np.fft.rfft(output) * np.fft.rfft(audio).conj(), rate)
    assert correlation.argmax() == 0
    np.testing.assert_allclose(output[1000:-1000], audio[1000:-1000], atol=1e-4)


@pytest.mark.parametrize("rate", [*RATES, 11025, 96000, 15999])
def test_length_is_kept_at_any_rate(rate):
    for length in (1, 2, 3, 5, 100, 101, 9001):
        assert enhance(Fake(), noise(length), rate, **SHORT).shape == (length,)


def test_channels_and_recordings_do_not_touch_each_other(manner):
    audio = noise(2, 3, 6000) * np.array([1, 0.1, 10], dtype=np.float32)[:, None]
    output = enhance(manner, audio, 22050, **SHORT)
    assert output.shape == audio.shape
    for index in np.ndindex(2, 3):
        alone = enhance(manner, audio[index], 22050, **SHORT)
        np.testing.assert_allclose(output[index], alone, atol=1e-4 * np.abs(alone).max())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "int32"])
def test_types_are_kept(dtype):
    scale = {"int16": 2**15, "int32": 2**31}.get(dtype, 1)
    audio = (noise(5000, 2) * scale).astype(dtype).T  # a view that is not contiguous
    before = audio.copy()
    for given in (audio, torch.from_numpy(audio)):
        output = enhance(Fake(), given, 16000, **SHORT)
        assert type(output) is type(given) and output.dtype == given.dtype
        np.testing.assert_allclose(np.asarray(output) / scale, audio / scale, atol=1e-6)
    np.testing.assert_array_equal(audio, before)


def test_bfloat16_tensors_with_a_gradient():
    audio = torch.from_numpy(noise(2, 1000)).bfloat16().requires_grad_()
    output = enhance(Fake(), audio, 16000)
    assert output.dtype == torch.bfloat16 and not output.requires_grad and torch.equal(output, audio)


def test_integers_are_rounded_and_clipped_not_wrapped():
    audio = np.array([-30000, -101, 101, 30000], dtype=np.int16)
    assert enhance(Fake(lambda values: 1.7 * values), audio, 16000).tolist() == [-32768, -172, 172, 32767]


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_silence_stays_silence(manner, rate, dtype):
    assert not enhance(manner, np.zeros((2, 9000), dtype), rate, **SHORT).any()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_all_dry_is_the_input(manner, dtype):
    audio = 0.1 * np.random.default_rng(0).standard_normal((2, 9000))  # more digits than float32 holds
    audio = (audio * (2**15 if dtype == "int16" else 1)).astype(dtype)
    np.testing.assert_array_equal(enhance(manner, audio, 44100, dry=1, **SHORT), audio)
    np.testing.assert_array_equal(enhance(manner, audio, 44100, attenuation_limit=0, **SHORT), audio)


@pytest.mark.parametrize(
    "options, share",
    [
        ({"dry": 0.3}, 0.3),
        ({"attenuation_limit": 20}, 0.1),
        ({"attenuation_limit": 6}, 0.501187),
        ({"dry": 0.3, "attenuation_limit": 20}, 0.3),
        ({"dry": 0.05, "attenuation_limit": 20}, 0.1),
        ({"attenuation_limit": float("inf")}, 0),
    ],
)
@pytest.mark.parametrize("rate", [16000, 48000])
def test_share_of_the_input(manner, options, share, rate):
    audio = noise(2, 9000)
    wet = enhance(manner, audio, rate, **SHORT)
    mixed = enhance(manner, audio, rate, **options, **SHORT)
    np.testing.assert_allclose(mixed, (1 - share) * wet + share * audio, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"dry": -0.1},
        {"dry": 1.1},
        {"dry": float("nan")},
        {"attenuation_limit": -1},
        {"attenuation_limit": float("nan")},
        {"chunk_seconds": 0},
        {"chunk_seconds": float("nan")},
        {"chunk_seconds": 1.0, "overlap_seconds": 1.0},
        {"overlap_seconds": -1},
        {"chunk_seconds": 1e-6, "overlap_seconds": 0},
    ],
)
def test_options_out_of_range(options, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(100), 16000)
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*got"):
        enhance(Fake(), noise(100), 16000, **options)
    with pytest.raises(ValueError, match="got"):
        enhance_folder(Fake(), tmp_path, tmp_path / "out", **options)


@pytest.mark.parametrize(
    "audio, rate, message",
    [
        (noise(100), None, "sampling_rate.*got None"),
        (noise(100), 0, "sampling_rate.*got 0"),
        (noise(100), np.inf, "sampling_rate.*got inf"),
        (noise(100), np.nan, "sampling_rate.*got nan"),
        (noise(100), 1e12, "sampling_rate.*from 1 to 2.31 Hz, got 1000000000000.0"),
        (noise(100), 1e-3, "sampling_rate.*got 0.001"),
        (noise(100), 10**400, "sampling_rate.*got 1000"),
        (noise(100), "16000", "sampling_rate.*got '16000'"),
        (noise(0), 16000, r"got \(0,\)"),
        (noise(2, 0), 16000, r"got \(2, 0\)"),
        (np.float32(1.0), 16000, "got float32"),
        (np.array(1.0), 16000, r"got \(\)"),
        (noise(1, 1, 1, 100), 16000, r"got \(1, 1, 1, 100\)"),
        (noise(100, 2), 16000, r"at most 64 channels, got \(100, 2\)"),
        (noise(3, 100, 2), 16000, r"at most 64 channels, got \(3, 100, 2\)"),
        (np.array([0.0, np.nan, np.inf]), 16000, "^audio holds 2 NaN or infinite"),
        (torch.tensor([0.0, float("nan")]), 16000, "^audio holds 1 NaN or infinite"),
        (np.zeros(100, np.uint8), 16000, "got uint8"),
        (np.zeros(100, complex), 16000, "got complex128"),
        ([0.0, 0.1], 16000, "got list"),
    ],
)
def test_unusable_arrays(audio, rate, message):
    with pytest.raises(AudioError, match=message) as error:
        enhance(Fake(), audio, rate)
    assert "\n" not in str(error.value)


def test_a_model_that_overflows_is_an_error():
    with pytest.raises(AudioError, match="enhanced audio holds 100 NaN"):
        enhance(Fake(lambda values: values / 0), noise(100), 16000)


def test_weights_are_loaded_from_a_folder(manner, tmp_path):
    manner.save_pretrained(tmp_path)
    np.testing.assert_array_equal(enhance(str(tmp_path), noise(2000), 16000), enhance(manner, noise(2000), 16000))
