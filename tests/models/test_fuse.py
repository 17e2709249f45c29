"""Folding is exact, reversible, and leaves training, gradients and what is saved alone."""

import copy
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from test_modeling import CONFIGS

from mvat_hf import MannerModel
from mvat_hf.inference import enhance
from mvat_hf.models.manner import folded_manner
from mvat_hf.models.manner.snapshot_manner import SNAPSHOTS


def assert_close(output, expected, tolerance=1e-5):
    """To `tolerance` of the peak of what is expected."""
    torch.testing.assert_close(output, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@torch.no_grad()
def outputs(model, audio):
    """(ordinary, folded) output of a model."""
    ordinary = model.unfuse()(audio).audio_values
    folded = model.fuse()(audio).audio_values
    return ordinary, folded


@pytest.mark.parametrize(("length", "tile"), [(1, 2**17), (611, 2**17), (4099, 1)])  # 1: tiles of 64 frames
@pytest.mark.parametrize("config", CONFIGS)
def test_folded_is_ordinary_at_any_length(config, length, tile, tiny_model, monkeypatch):
    monkeypatch.setattr(folded_manner, "TILE_ELEMENTS", tile)
    model = tiny_model(**config)
    audio = torch.randn(2, length) * torch.tensor([[1.0], [1e-2]])
    ordinary, folded = outputs(model, audio)
    assert folded.shape == ordinary.shape and folded.dtype == ordinary.dtype
    for row in range(2):
        assert_close(folded[row], ordinary[row])
        assert ordinary[row].abs().max() > 0


def test_real_weights_and_speech(speech):
    model = MannerModel.from_pretrained(SNAPSHOTS / "manner-s-8.1gf")
    ordinary, folded = outputs(model, torch.from_numpy(speech[0])[None])
    assert_close(folded, ordinary)


def test_in_float64_only_rounding_differs(tiny_model):
    ordinary, folded = outputs(tiny_model(depth=3).double(), torch.randn(1, 3000, dtype=torch.float64))
    assert_close(folded, ordinary, 1e-12)


def test_bfloat16_is_near_and_gives_the_models_dtype(speech):
    model = MannerModel.from_pretrained(SNAPSHOTS / "manner-s-8.1gf")
    audio = torch.from_numpy(speech[0])[None]
    with torch.no_grad():
        ordinary, near = model(audio).audio_values, model.fuse(torch.bfloat16)(audio).audio_values
    assert near.dtype == torch.float32
    error = (near - ordinary).abs().max() / ordinary.abs().max()
    assert 1e-6 < error < 0.05


def test_bfloat16_on_several_threads_comes_to_an_end():
    """Where CPUs compute in it, see `FoldedConv`; in a process of its own, as nothing else ends such a convolution."""
    program = (
        "import sys, torch; from mvat_hf import MannerModel\n"
        "model = MannerModel.from_pretrained(sys.argv[1]).fuse(torch.bfloat16)\n"
        "for threads in (2, 3, 4):\n"
        "    torch.set_num_threads(threads)\n"
        "    with torch.no_grad(): print(model(torch.randn(1, 16000)).audio_values.shape)"
    )
    command = [sys.executable, "-c", program, str(SNAPSHOTS / "manner-s-8.1gf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.count("torch.Size([1, 16000])") == 3


@pytest.mark.parametrize("name", ["input.weight", "decoder.1.attention.gate.content.bias", "input_norm.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(name, value, tiny_model):
    model = tiny_model()
    model.state_dict()[name].flatten()[0] = value
    with pytest.raises(ValueError, match=f"{name} hold NaN or infinity"):
        model.fuse()


def test_saved_and_loaded_weights_are_the_models_own(tiny_model, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "before")
    model.fuse().save_pretrained(tmp_path / "fused")
    before, fused = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "fused"))
    assert before.keys() == fused.keys() and all(torch.equal(before[name], fused[name]) for name in before)


def test_unfused_is_to_the_bit_what_it_was(tiny_model):
    model, audio = tiny_model(), torch.randn(1, 3000)
    with torch.no_grad():
        before = model(audio).audio_values
        fused = model.fuse()(audio).audio_values
        assert torch.equal(model.unfuse()(audio).audio_values, before)
    assert model.fuse() is model and not torch.equal(fused, before)


def test_training_refuses_and_undoes(tiny_model):
    model = tiny_model().fuse()
    assert not model.train().fused
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        model.fuse()


def test_gradients_take_the_ordinary_path(tiny_model):
    model, audio = tiny_model(), torch.randn(1, 2000)
    expected = model(audio).audio_values
    output = model.fuse()(audio).audio_values
    assert torch.equal(output, expected) and output.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("last_level", [None, 0, 1])
@pytest.mark.parametrize("config", CONFIGS)
def test_folded_views_and_hidden_states_are_the_ordinary_ones(config, last_level, tiny_model):
    model, audio = tiny_model(**config), torch.randn(2, 2000)
    if last_level is not None and last_level >= model.config.depth:
        pytest.skip("no such level")
    options = {"output_view_features": True, "output_hidden_states": True, "last_level": last_level}
    expected = model(audio, **options)
    output = model.fuse()(audio, **options)
    assert output.hidden_states.keys() == expected.hidden_states.keys()
    assert output.view_features.keys() == expected.view_features.keys()
    for name, hidden in expected.hidden_states.items():
        assert_close(output.hidden_states[name], hidden)
    for name, views in expected.view_features.items():
        for view, expected_view in views.items():
            assert_close(output.view_features[name][view], expected_view)
    if last_level is None:
        assert_close(output.audio_values, expected.audio_values)
    else:
        assert output.audio_values is None


@torch.no_grad()
@pytest.mark.parametrize("change", ["step", "load", "assign", "statistics", "dtype"])
def test_the_folded_copy_follows_the_weights(change, tiny_model):
    model, audio = tiny_model(seed=0).fuse(), torch.randn(1, 3000)
    before = model(audio).audio_values
    if change == "step":
        model.mask.out.weight.mul_(2)
    elif change == "load":
        model.load_state_dict(tiny_model(seed=1).state_dict())
    elif change == "assign":
        model.load_state_dict(tiny_model(seed=1).state_dict(), assign=True)
    elif change == "statistics":
        model.input_norm.running_var.mul_(2)
    else:
        model, audio, before = model.double(), audio.double(), before.double()
        model.fuse()
    ordinary, folded = outputs(model, audio)
    assert_close(folded, ordinary, 1e-12 if change == "dtype" else 1e-5)
    assert change == "dtype" or (folded - before).abs().max() > 0.01 * before.abs().max()


def test_copies_of_a_fused_model_are_ordinary_models(tiny_model):
    model = tiny_model().fuse()
    twin = copy.deepcopy(model)
    assert not twin.fused and model.fused
    audio = torch.randn(1, 2000)
    assert torch.equal(twin(audio).audio_values, model(audio).audio_values)


def test_enhancing_folds_once_and_puts_back(tiny_model):
    model, audio = tiny_model(), 0.1 * torch.randn(5000)
    options = {"chunk_seconds": 0.1, "overlap_seconds": 0.02}
    first, copy_made = enhance(model, audio, 16000, **options), model.folded()
    second = enhance(model, audio, 16000, **options)
    assert not model.fused and model.folded() is copy_made and torch.equal(first, second)
    enhance(model.fuse(), audio, 16000, **options)
    assert model.fused
