"""Folding is exact, reversible, and leaves training, gradients and what is saved alone."""

import copy
import gc
import pickle
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import prune

from closeness import assert_close
from configurations import CONFIGS
from mvat_hf import MannerModel
from mvat_hf.acceleration import folded as folded_network
from mvat_hf.acceleration.folded_layers import PRIVATE, packs
from mvat_hf.acceleration.folding import folded_copy, unknown_part
from mvat_hf.inference import chunks
from mvat_hf.inference.enhancing import enhance
from mvat_hf.models.manner.chunking_manner import ChunkedEnhancer
from mvat_hf.models.manner.pipeline_manner import best_enhancer
from mvat_hf.models.snapshots import SNAPSHOTS


@torch.no_grad()
def outputs(model, audio):
    """(ordinary, folded) output of a model."""
    ordinary = model.unfuse()(audio).audio_values
    folded = model.fuse()(audio).audio_values
    return ordinary, folded


@pytest.mark.parametrize(("length", "tile"), [(1, 2**17), (611, 2**17), (4099, 1)])  # 1: tiles of 64 frames
@pytest.mark.parametrize("config", CONFIGS)
def test_folded_is_ordinary_at_any_length(config, length, tile, tiny_model, monkeypatch):
    monkeypatch.setattr(folded_network, "TILE_ELEMENTS", tile)
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


def test_bfloat16_on_several_threads_comes_to_an_end(forks):
    """Where CPUs compute in it, see `FoldedConv`; in a process of its own, as nothing else ends such a convolution."""
    program = (
        "import signal, sys, torch; from mvat_hf import MannerModel\n"
        "signal.alarm(120)\n"
        "model = MannerModel.from_pretrained(sys.argv[1]).fuse(torch.bfloat16)\n"
        "for threads in (2, 3, 4):\n"
        "    torch.set_num_threads(threads)\n"
        "    with torch.no_grad(): print(model(torch.randn(1, 16000)).audio_values.shape)"
    )
    done = forks.run(program, str(SNAPSHOTS / "manner-s-8.1gf"))
    assert done.status == 0, done.stderr
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
@pytest.mark.parametrize("change", ["step", "data", "optimizer", "load", "assign", "swap", "statistics", "dtype"])
def test_the_folded_copy_follows_the_weights(change, tiny_model):
    model, audio = tiny_model(seed=0).fuse(), torch.randn(1, 3000)
    before = model(audio).audio_values
    if change == "step":
        model.mask.out.weight.mul_(2)
    elif change == "data":
        model.mask.out.weight.data.mul_(2)
    elif change == "optimizer":  # a fused one writes without a word to autograd
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        torch.optim.AdamW(model.parameters(), lr=0.05, fused=True).step()
    elif change == "swap":
        model.mask.out = tiny_model(seed=1).mask.out
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


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@torch.no_grad()
def test_copies_of_a_used_model_fold_their_own_weights(duplicate, tiny_model):
    model, audio = tiny_model().fuse(), torch.randn(1, 2000)
    before = model(audio).audio_values
    twin = duplicate(model)
    assert torch.equal(twin(audio).audio_values, before)
    twin.mask.out.weight.mul_(2)
    assert not torch.equal(twin(audio).audio_values, before) and torch.equal(model(audio).audio_values, before)


def test_enhancing_folds_once_and_leaves_the_model_as_it_was(tiny_model):
    model, audio = tiny_model(), 0.1 * torch.randn(5000)
    options = {"chunk_seconds": 0.1, "overlap_seconds": 0.02}
    first, copy_made = enhance(model, audio, 16000, **options), folded_copy(model)
    second = enhance(model, audio, 16000, **options)
    assert not model.fused and folded_copy(model) is copy_made and torch.equal(first, second)
    enhance(model.fuse(), audio, 16000, **options)
    assert model.fused
    modes = [module.train(number % 2 == 0).training for number, module in enumerate(model.modules())]
    enhance(model, audio, 16000, **options)
    assert [module.training for module in model.modules()] == modes


def test_a_copy_is_for_as_long_as_its_model(tiny_model):
    model = tiny_model()
    enhance(model, np.zeros(1000), 16000)
    held = weakref.ref(folded_copy(model))
    del model
    gc.collect()
    assert held() is None


class Adapted(nn.Module):
    """As adapters wrap a layer: the layer, and a little beside it."""

    def __init__(self, layer):
        super().__init__()
        self.base_layer = layer
        self.adapter = copy.deepcopy(layer)

    def forward(self, hidden):
        return self.base_layer(hidden) + 0.3 * self.adapter(hidden)


class Louder(MannerModel):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.audio_values = 2 * output.audio_values
        return output


class LouderInput(MannerModel):
    def normalize(self, audio):
        return super().normalize(2 * audio)


def negate(module, *values):
    return tuple(-value for value in values[0]) if len(values) == 1 else -values[1]


def adapt(model, name):
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, Adapted(model.get_submodule(name)))


def quantize(model):
    if not hasattr(torch.ao, "quantization"):
        pytest.skip("this torch has no quantize_dynamic")
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, inplace=True)


def replace_forward(model):
    forward = model.bottleneck.forward
    model.bottleneck.forward = lambda hidden: 0.5 * forward(hidden)


CHANGES = {
    "adapter of a linear map": lambda model: adapt(model, "bottleneck"),
    "adapter of a convolution": lambda model: adapt(model, "encoder.0.residual.project"),
    "quantised": quantize,
    "weight norm": lambda model: [
        nn.utils.parametrizations.weight_norm(model.mask.out),
        model.mask.out.parametrizations.weight.original0.data.mul_(2),
    ],
    "weight norm of old": lambda model: [nn.utils.weight_norm(model.mask.out), model.mask.out.weight_g.data.mul_(2)],
    "pruned": lambda model: prune.random_unstructured(model.mask.out, "weight", 0.5),
    "hook": lambda model: model.mask.register_forward_hook(negate),
    "hook before": lambda model: model.mask.register_forward_pre_hook(negate),
    "hook on the model": lambda model: model.register_forward_pre_hook(negate),
    "forward of an instance": replace_forward,
    "another activation": lambda model: setattr(model.encoder[0].residual.depthwise, "activation", nn.ReLU()),
    "dropped": lambda model: delattr(model.encoder[0].residual.depthwise, "activation"),
    "another option": lambda model: setattr(model.input_norm, "eps", 0.5),
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_what_is_not_a_manners_own_is_never_folded(change, tiny_model):
    model, audio = tiny_model(), torch.randn(1, 3000)
    before = enhance(model, audio, 16000)
    CHANGES[change](model)
    expected = model(audio).audio_values
    assert torch.equal(enhance(model, audio, 16000), expected) and torch.equal(
        model.fuse()(audio).audio_values, expected
    )
    assert (expected - before).abs().max() > 1e-3 * before.abs().max()


@pytest.mark.parametrize("kind", [Louder, LouderInput])
@torch.no_grad()
def test_an_overridden_method_is_heard(kind, tiny_model):
    plain, audio = tiny_model(), torch.randn(1, 3000)
    model = kind(plain.config).eval()
    model.load_state_dict(plain.state_dict())
    expected = model(audio).audio_values
    assert torch.equal(enhance(model, audio, 16000), expected)
    assert not torch.allclose(expected, plain(audio).audio_values)


@torch.no_grad()
def test_a_subclass_that_computes_the_same_is_folded(tiny_model):
    plain, audio = tiny_model(), torch.randn(1, 3000)
    model = type("Named", (MannerModel,), {"describe": lambda self: "mine"})(plain.config).eval()
    model.load_state_dict(plain.state_dict())
    assert unknown_part(model) is None and torch.equal(enhance(model, audio, 16000), enhance(plain, audio, 16000))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_model_as_it_is_made_is_known(config, tiny_model):
    assert unknown_part(tiny_model(**config)) is None


def test_a_momentum_changes_nothing(tiny_model):
    model = tiny_model()
    model.input_norm.momentum = 0.5
    assert unknown_part(model.train()) is None


@torch.no_grad()
@pytest.mark.parametrize("name", PRIVATE)
def test_a_torch_without_the_private_operators_takes_its_own(name, tiny_model, monkeypatch):
    """They are asked for by name before they are used, and whatever is there of them is not half used."""
    left = SimpleNamespace(**{other: getattr(torch.ops.mkldnn, other) for other in PRIVATE if other != name})
    model, audio = tiny_model(), torch.randn(1, 2000)
    expected = model(audio).audio_values
    monkeypatch.setattr(torch.ops, "mkldnn", left)
    assert not packs(torch.device("cpu"), torch.float32)
    assert_close(model.fuse()(audio).audio_values, expected)


@torch.no_grad()
def test_the_remote_pipeline_is_as_fast_as_the_packages(tiny_model):
    """It runs on the package's folded weights where the package is there: the same to the bit."""
    model, audio = tiny_model(), 0.1 * torch.randn(5000)
    assert best_enhancer() is chunks.FastChunkedEnhancer
    plain, folded = (
        kind(model).enhance_chunk(audio[None].numpy()) for kind in (ChunkedEnhancer, chunks.FastChunkedEnhancer)
    )
    assert np.array_equal(folded[0], enhance(model, audio.numpy(), 16000)) and not np.array_equal(folded, plain)
    assert_close(torch.from_numpy(folded), torch.from_numpy(plain))
