"""The feature extractor: what comes out is what went in, batched, and what the model cannot use is refused."""

import numpy as np
import pytest
import torch

from mvat_hf import MannerFeatureExtractor

AUDIO = np.random.default_rng(0).standard_normal(500).astype(np.float32)


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, np.ndarray.tolist, np.float64])
def test_one_recording_is_a_batch_of_one(form):
    values = MannerFeatureExtractor()(form(AUDIO), sampling_rate=16000)["input_values"]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, AUDIO[None])


def test_a_bfloat16_tensor():
    tensor = torch.from_numpy(AUDIO).bfloat16()
    values = MannerFeatureExtractor()(tensor, sampling_rate=16000)["input_values"]
    np.testing.assert_array_equal(values, tensor.float()[None].numpy())


@pytest.mark.parametrize("form", [list, tuple, np.stack, lambda rows: [torch.from_numpy(row) for row in rows]])
def test_batches_keep_their_order(form):
    rows = [AUDIO, -AUDIO, 2 * AUDIO]
    values = MannerFeatureExtractor()(form(rows), sampling_rate=16000)["input_values"]
    np.testing.assert_array_equal(values, np.stack(rows))


def test_nested_lists_are_a_batch():
    values = MannerFeatureExtractor()([[0.0, 1.0], [2.0, 3.0]], sampling_rate=16000)["input_values"]
    np.testing.assert_array_equal(values, [[0, 1], [2, 3]])


def test_the_result_is_a_copy():
    audio = AUDIO.copy()
    MannerFeatureExtractor()(audio, sampling_rate=16000)["input_values"][:] = 0
    np.testing.assert_array_equal(audio, AUDIO)


def test_tensors_on_request():
    values = MannerFeatureExtractor()([AUDIO, AUDIO], sampling_rate=16000, return_tensors="pt")["input_values"]
    assert values.dtype == torch.float32
    assert torch.equal(values, torch.from_numpy(np.stack([AUDIO, AUDIO])))


def test_padding_is_zeros_on_the_right():
    values = MannerFeatureExtractor()([AUDIO, AUDIO[:200]], sampling_rate=16000, padding=True)["input_values"]
    assert values.shape == (2, 500)
    np.testing.assert_array_equal(values[0], AUDIO)
    np.testing.assert_array_equal(values[1, :200], AUDIO[:200])
    assert not values[1, 200:].any()


def test_unequal_lengths_need_padding():
    with pytest.raises(ValueError, match=r"\[500, 200\].*padding=True"):
        MannerFeatureExtractor()([AUDIO, AUDIO[:200]], sampling_rate=16000)


@pytest.mark.parametrize(("rate", "got"), [(None, "no sampling_rate"), (48000, "48000 Hz"), (8000, "8000 Hz")])
def test_the_rate_must_be_said_and_right(rate, got):
    with pytest.raises(ValueError, match=f"expected audio at 16000 Hz, got {got}"):
        MannerFeatureExtractor()(AUDIO, sampling_rate=rate)


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (np.zeros(0), r"\(0,\)"),
        ([], r"\(0,\)"),
        ([AUDIO, AUDIO[:0]], r"\(0,\)"),
        (np.zeros((0, 100)), "got none"),
        (np.zeros((1, 2, 100)), r"\(1, 2, 100\)"),
        ([np.zeros((2, 100))], r"\(2, 100\)"),
        (np.float32(1), r"\(\)"),
        (np.array([0, np.nan]), "NaN"),
        (np.array([[0, 0], [0, -np.inf]]), "infinity"),
    ],
)
def test_unusable_audio_is_refused(audio, says):
    with pytest.raises(ValueError, match=says):
        MannerFeatureExtractor()(audio, sampling_rate=16000, padding=True)


def test_save_and_load(tmp_path):
    MannerFeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path)
    loaded = MannerFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.sampling_rate == 8000
    assert loaded(AUDIO, sampling_rate=8000)["input_values"].shape == (1, 500)
    with pytest.raises(ValueError, match="8000 Hz, got 16000 Hz"):
        loaded(AUDIO, sampling_rate=16000)
