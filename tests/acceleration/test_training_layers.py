"""Each layer for training against PyTorch's own with the same parameters."""

import copy

import pytest
import torch
from torch import nn

from configurations import CONFIGS
from mvat_hf.acceleration import training_layers
from mvat_hf.acceleration.folding import unknown_part
from mvat_hf.acceleration.training_layers import PLAIN, training_kind, use_training_layers
from mvat_hf.models.manner.attention_manner import GlobalView

LAYERS = {
    "PointwiseConv": (lambda: nn.Conv1d(5, 7, 1), 5),
    "PointwiseConv without bias": (lambda: nn.Conv1d(5, 7, 1, bias=False), 5),
    "FromOneChannel": (lambda: nn.Conv1d(1, 6, 3, padding=1), 1),
    "ToOneChannel": (lambda: nn.Conv1d(6, 1, 5, padding=2), 6),
    "DepthwiseConv1d": (lambda: nn.Conv1d(6, 6, 31, padding=15, groups=6, bias=False), 6),
}
LEFT_ALONE = {
    "even kernel": nn.Conv1d(1, 6, 4, padding=2),
    "shorter output": nn.Conv1d(1, 6, 3),
    "stride": nn.Conv1d(5, 7, 1, stride=2),
    "dilation": nn.Conv1d(1, 6, 3, padding=1, dilation=2),
    "mirrored ends": nn.Conv1d(1, 6, 3, padding=1, padding_mode="reflect"),
    "padding by name": nn.Conv1d(1, 6, 3, padding="same"),
    "groups": nn.Conv1d(6, 6, 3, padding=1, groups=2, bias=False),
    "many to many": nn.Conv1d(6, 7, 3, padding=1),
    "no bias": nn.Conv1d(2, 1, 7, padding=3, bias=False),
}


@pytest.mark.parametrize("frames", [1, 31, 32, 1000])
@pytest.mark.parametrize("name", LAYERS)
def test_output_and_gradients_are_those_of_pytorch(name, frames):
    build, channels = LAYERS[name]
    torch.manual_seed(0)
    layer = use_training_layers(build())
    assert type(layer).__name__ == name.split()[0]
    hidden = torch.randn(3, channels, frames, requires_grad=True)
    inputs = (hidden, *layer.parameters())
    outputs = layer(hidden), nn.Conv1d.forward(layer, hidden)
    upstream = torch.randn_like(outputs[0])
    found, expected = ((output, *torch.autograd.grad(output, inputs, upstream)) for output in outputs)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_under_autocast_they_are_as_near_to_float32_as_bfloat16_is(name):
    build, channels = LAYERS[name]
    torch.manual_seed(0)
    layer = use_training_layers(build())
    hidden = torch.randn(3, channels, 1000, requires_grad=True)
    inputs = (hidden, *layer.parameters())
    expected = nn.Conv1d.forward(layer, hidden)
    upstream = torch.randn_like(expected)
    expected = (expected, *torch.autograd.grad(expected, inputs, upstream))
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(hidden)
    found = (output, *torch.autograd.grad(output, inputs, upstream.to(output.dtype)))
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 1e-2 * other.norm()
    assert not torch.equal(found[0], expected[0])


def test_no_bfloat16_reaches_the_kernel_that_never_ends(monkeypatch):
    """oneDNN's for depthwise convolutions in that layout; nothing but the end of the process ends it."""
    seen = []
    plain = torch.nn.functional.conv2d

    def conv2d(*tensors, **options):
        seen.extend(tensors)
        return plain(*tensors, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    hidden = torch.randn(8, 6, 200, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = use_training_layers(nn.Conv1d(6, 6, 31, padding=15, groups=6, bias=False))(hidden)
    output.sum().backward()
    assert [tensor.dtype for tensor in seen] == [torch.float32] * 4  # forwards and backwards


@pytest.mark.parametrize(("bfloat16", "error"), [(False, 0), (True, 2e-2)])
def test_the_global_view_and_its_gradients_are_pytorchs(bfloat16, error):
    torch.manual_seed(0)
    plain = GlobalView(segment_len=8, num_heads=2)
    chunks, upstream = torch.randn(2, 3, 20, 8, requires_grad=True), torch.randn(2, 3, 20, 8)
    results = []
    for view in (plain, use_training_layers(copy.deepcopy(plain))):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            output = view(chunks)
        inputs = [chunks, *view.parameters()]
        results.append((output, *torch.autograd.grad(output, inputs, upstream.to(output.dtype))))
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype and (one - other).norm() <= error * one.norm()


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_other_convolutions_are_left_alone(name):
    assert training_kind(LEFT_ALONE[name]) is None


def test_gradient_of_depthwise_is_that_of_its_output():
    torch.manual_seed(0)
    hidden = torch.randn(2, 3, 70, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(training_layers.Depthwise.apply, (hidden, weight))


@pytest.mark.parametrize("name", ["FromOneChannel", "ToOneChannel", "DepthwiseConv1d"])
def test_other_types_take_pytorchs_own_way(name):
    build, channels = LAYERS[name]
    layer = use_training_layers(build()).double()
    hidden = torch.randn(2, channels, 40, dtype=torch.float64)
    assert torch.equal(layer(hidden), nn.Conv1d.forward(layer, hidden))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_model_keeps_its_weights_and_output(config, tiny_model):
    """Every layer that has a quicker form takes it, with the same parameters; again changes nothing."""
    model, audio = tiny_model(**config), torch.randn(2, 2000)
    plain, weights = copy.deepcopy(model), dict(model.state_dict(keep_vars=True))
    assert use_training_layers(use_training_layers(model)) is model
    kinds = {type(module) for module in model.modules()}
    plain_kinds = {type(module) for module in plain.modules()}
    assert {quick for quick, kind in PLAIN.items() if kind in plain_kinds} <= kinds and not plain_kinds & set(PLAIN)
    kept = model.state_dict(keep_vars=True)
    assert kept.keys() == weights.keys() and all(kept[name] is weights[name] for name in weights)
    output, expected = model(audio).audio_values.detach(), plain(audio).audio_values.detach()
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert unknown_part(model) is None
    with torch.no_grad():
        assert torch.equal(model.fuse()(audio).audio_values, plain.fuse()(audio).audio_values)


def test_what_is_saved_is_the_same(tiny_model, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "plain")
    use_training_layers(model).save_pretrained(tmp_path / "swapped")
    for path in (tmp_path / "plain").iterdir():
        assert path.read_bytes() == (tmp_path / "swapped" / path.name).read_bytes()
