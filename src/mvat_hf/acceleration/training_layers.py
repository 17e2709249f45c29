"""Layers that train faster on CPUs: `torch.nn`'s convolutions with their parameters, and attention, as matrix products.

PyTorch's own kernels are slow on CPUs where layers are as narrow as here and signals as long, above all backwards:
together these layers halve the time of a training step. Outputs and gradients differ from PyTorch's by rounding. On
other devices and in other types than float32 and bfloat16, all but the 1x1 convolution are PyTorch's.

Shapes: B batch, I and O channels in and out, L frames, K kernel, S stride.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..models.manner.attention_manner import GlobalView

TOEPLITZ_BLOCK = 32  # frames of output that the gradient of a depthwise kernel is summed over at once


def for_products(hidden: Tensor) -> Tensor | None:
    """What is convolved, in the type that autocast asks for; None where matrix products are not the faster way."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
    quick = hidden.device.type == "cpu" and dtype in (torch.float32, torch.bfloat16)
    return hidden.to(dtype) if quick else None


class PointwiseConv(nn.Conv1d):
    """1x1 convolution as the batched matrix product it is, on any device."""

    def forward(self, hidden: Tensor) -> Tensor:
        # (B, I, L) -> (B, O, L)
        weight = self.weight.squeeze(-1).expand(hidden.shape[0], -1, -1)
        if self.bias is None:
            return torch.bmm(weight, hidden)
        return torch.baddbmm(self.bias.unsqueeze(-1).expand(hidden.shape[0], -1, 1), weight, hidden)


class FromOneChannel(nn.Conv1d):
    """Convolution of one channel to many by an odd kernel, the length kept: a product with the shifted inputs."""

    bias: Tensor
    padding: tuple[int]

    def forward(self, hidden: Tensor) -> Tensor:
        if (audio := for_products(hidden)) is None:
            return super().forward(hidden)
        reach, batch = self.padding[0], audio.shape[0]
        # (B, 1, L) -> (B, K, L): what each tap sees; -> (B, O, L)
        seen = F.pad(audio, (reach, reach)).unfold(-1, audio.shape[-1], 1).squeeze(1)
        weight = self.weight.squeeze(1).expand(batch, -1, -1)
        return torch.baddbmm(self.bias.unsqueeze(-1).expand(batch, -1, 1), weight, seen)


class ToOneChannel(nn.Conv1d):
    """Convolution of many channels to one by an odd kernel, the length kept: a product for each tap, shifted sums."""

    bias: Tensor
    padding: tuple[int]

    def forward(self, hidden: Tensor) -> Tensor:
        if (features := for_products(hidden)) is None:
            return super().forward(hidden)
        # (B, I, L) -> (B, K, L) -> (B, 1, L), tap k from k - K/2 frames away
        reach, frames = self.padding[0], features.shape[-1]
        taps = F.pad(torch.bmm(self.weight.squeeze(0).t().expand(len(features), -1, -1), features), (reach, reach))
        shifted = [tap[..., k : k + frames] for k, tap in enumerate(taps.split(1, dim=1))]
        return torch.stack(shifted).sum(dim=0) + self.bias


class Depthwise(torch.autograd.Function):
    """Depthwise convolution of (B, C, L) with weights (C, K), K odd, the length kept."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return channels_last_depthwise(hidden, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        hidden, weight = ctx.saved_tensors
        return channels_last_depthwise(gradient, weight.flip(-1)), depthwise_weight_gradient(hidden, gradient, weight)


def channels_last_depthwise(hidden: Tensor, weight: Tensor) -> Tensor:
    """(B, C, L) and (C, K) to (B, C, L), in the layout that oneDNN's fast kernel is for. In float32 where they are
    bfloat16: oneDNN 3.12 never ends preparing some such kernels."""
    dtype = torch.float32 if hidden.dtype == torch.bfloat16 else hidden.dtype
    image = hidden.unsqueeze(2).to(dtype, memory_format=torch.channels_last)
    with torch.autocast("cpu", enabled=False):
        output = F.conv2d(
            image, weight.to(dtype)[:, None, None], padding=(0, weight.shape[-1] // 2), groups=len(weight)
        )
    return output.squeeze(2).to(hidden.dtype, memory_format=torch.contiguous_format)


def depthwise_weight_gradient(hidden: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """
    sum over items and frames t of gradient[t] hidden[t + k - K/2], (C, K).

    In blocks of frames: the product of a channel's blocks of `gradient` with the stretches of `hidden` that they saw
    holds, along its diagonals, every term of the sum.
    """
    taps, block = weight.shape[-1], TOEPLITZ_BLOCK
    short = -gradient.shape[-1] % block
    stretch = block + taps - 1
    # (B, C, L) -> (B, C, L/block, block) -> (C, B L/block, block)
    columns = F.pad(gradient, (0, short)).unflatten(-1, (-1, block)).transpose(0, 1).flatten(1, 2)
    # (B, C, L) -> (B, C, L/block, stretch) -> (C, B L/block, stretch)
    seen = F.pad(hidden, (taps // 2, taps // 2 + short)).unfold(-1, stretch, block).transpose(0, 1).flatten(1, 2)
    products = torch.bmm(columns.transpose(1, 2), seen)  # (C, block, stretch)
    diagonals = products.as_strided((weight.shape[0], block, taps), (block * stretch, stretch + 1, 1))
    return diagonals.sum(dim=1)


class DepthwiseConv1d(nn.Conv1d):
    """Depthwise convolution of an odd kernel without bias that keeps the length."""

    def forward(self, hidden: Tensor) -> Tensor:
        if (features := for_products(hidden)) is None:
            return super().forward(hidden)
        return Depthwise.apply(features, self.weight.squeeze(1).to(features.dtype))


class ProductGlobalView(GlobalView):
    """The global view in bfloat16, where PyTorch's attention takes three times as long as its two products."""

    def forward(self, chunks: Tensor) -> Tensor:
        if (tokens := for_products(chunks)) is None or tokens.dtype != torch.bfloat16:
            return super().forward(chunks)
        query, key, value = (self.heads_of(project(tokens)) for project in (self.query, self.key, self.value))
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.mT)
        mixed = torch.matmul(torch.softmax(scores, dim=-1).to(value.dtype), value)
        # (B * C, heads, P, width of a head) -> (B, C, P, S)
        return self.out(mixed.transpose(1, 2).flatten(-2)).view_as(chunks)


PLAIN: dict[type, type] = {
    **dict.fromkeys((PointwiseConv, FromOneChannel, ToOneChannel, DepthwiseConv1d), nn.Conv1d),
    ProductGlobalView: GlobalView,
}


def training_kind(conv: nn.Conv1d) -> type[nn.Conv1d] | None:
    """The class here that computes what `conv` does; None if there is none."""
    kernel_size, biased = conv.kernel_size[0], conv.bias is not None
    kept = kernel_size % 2 == 1 and conv.padding == (kernel_size // 2,) and conv.padding_mode == "zeros"
    if type(conv) is not nn.Conv1d or not kept or conv.stride != (1,) or conv.dilation != (1,):
        return None
    if conv.groups > 1:
        return DepthwiseConv1d if conv.groups == conv.in_channels == conv.out_channels and not biased else None
    if kernel_size == 1:
        return PointwiseConv
    if biased and conv.in_channels == 1:
        return FromOneChannel
    return ToOneChannel if biased and conv.out_channels == 1 else None


def use_training_layers(model: nn.Module) -> nn.Module:
    """
    Let the convolutions and the global views of `model` compute by what is here, in place; the model is given back.

    They stay the same modules: parameters, hooks, names and what is saved are as they were.
    """
    for module in model.modules():
        if type(module) is GlobalView:
            module.__class__ = ProductGlobalView
        if isinstance(module, nn.Conv1d) and (kind := training_kind(module)) is not None:
            module.__class__ = kind
    return model


__all__ = ["PLAIN", "use_training_layers"]
