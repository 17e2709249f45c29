"""Each layer against PyTorch's own with the same parameters."""

import pytest
import torch
from torch import nn

from mvat_hf.models.manner import convolutions_manner as convolutions
from mvat_hf.models.manner.convolutions_manner import DepthwiseConv1d, FromOneChannel, PointwiseConv, ToOneChannel

LAYERS = {
    "pointwise": (lambda: PointwiseConv(5, 7), 5),
    "pointwise without bias": (lambda: PointwiseConv(5, 7, bias=False), 5),
    "from one channel": (lambda: FromOneChannel(6, 3), 1),
    "to one channel": (lambda: ToOneChannel(6, 5), 6),
    "depthwise": (lambda: DepthwiseConv1d(6, 31), 6),
}


@pytest.mark.parametrize("frames", [1, 31, 32, 1000])
@pytest.mark.parametrize("name", LAYERS)
def test_output_and_gradients_are_those_of_pytorch(name, frames):
    build, channels = LAYERS[name]
    torch.manual_seed(0)
    layer = build()
    hidden = torch.randn(3, channels, frames, requires_grad=True)
    inputs = (hidden, *layer.parameters())
    outputs = layer(hidden), nn.Conv1d.forward(layer, hidden)
    upstream = torch.randn_like(outputs[0])
    found, expected = ((output, *torch.autograd.grad(output, inputs, upstream)) for output in outputs)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_gradient_of_depthwise_is_that_of_its_output():
    torch.manual_seed(0)
    hidden = torch.randn(2, 3, 70, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolutions.Depthwise.apply, (hidden, weight))


@pytest.mark.parametrize("name", ["from one channel", "to one channel", "depthwise"])
def test_other_types_take_pytorchs_own_way(name):
    build, channels = LAYERS[name]
    layer = build().double()
    hidden = torch.randn(2, channels, 40, dtype=torch.float64)
    assert torch.equal(layer(hidden), nn.Conv1d.forward(layer, hidden))
