"""Each convolution for training against PyTorch's own with the same parameters."""

import copy

import pytest
import torch
from torch import nn

from configurations import CONFIGS
from mvat_hf.acceleration import convolutions
from mvat_hf.acceleration.convolutions import PLAIN, training_kind, use_training_convolutions
from mvat_hf.acceleration.folding import unknown_part

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
    layer = use_training_convolutions(build())
    assert type(layer).__name__ == name.split()[0]
    hidden = torch.randn(3, channels, frames, requires_grad=True)
    inputs = (hidden, *layer.parameters())
    outputs = layer(hidden), nn.Conv1d.forward(layer, hidden)
    upstream = torch.randn_like(outputs[0])
    found, expected = ((output, *torch.autograd.grad(output, inputs, upstream)) for output in outputs)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_other_convolutions_are_left_alone(name):
    assert training_kind(LEFT_ALONE[name]) is None


def test_gradient_of_depthwise_is_that_of_its_output():
    torch.manual_seed(0)
    hidden = torch.randn(2, 3, 70, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolutions.Depthwise.apply, (hidden, weight))


@pytest.mark.parametrize("name", ["FromOneChannel", "ToOneChannel", "DepthwiseConv1d"])
def test_other_types_take_pytorchs_own_way(name):
    build, channels = LAYERS[name]
    layer = use_training_convolutions(build()).double()
    hidden = torch.randn(2, channels, 40, dtype=torch.float64)
    assert torch.equal(layer(hidden), nn.Conv1d.forward(layer, hidden))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_model_keeps_its_weights_and_output(config, tiny_model):
    """Every 1x1 and depthwise convolution is another, their parameters are the same ones; again changes nothing."""
    model, audio = tiny_model(**config), torch.randn(2, 2000)
    plain, weights = copy.deepcopy(model), dict(model.state_dict(keep_vars=True))
    assert use_training_convolutions(use_training_convolutions(model)) is model
    kinds = {type(module) for module in model.modules()}
    assert set(PLAIN) <= kinds and not {type(module) for module in plain.modules()} & set(PLAIN)
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
    use_training_convolutions(model).save_pretrained(tmp_path / "swapped")
    for path in (tmp_path / "plain").iterdir():
        assert path.read_bytes() == (tmp_path / "swapped" / path.name).read_bytes()
