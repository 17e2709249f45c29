"""Layers of the folded MANNER on (batch, time, channels), computed in tiles of time.

Shapes: B batch, L frames of a level, C channels, N, I and O those of a layer, K kernel size.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "relu", "sigmoid", "swish"]  # as oneDNN calls them
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda hidden: hidden,
    "relu": torch.relu_,
    "sigmoid": torch.sigmoid_,
    "swish": partial(F.silu, inplace=True),
}
PRIVATE = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")  # operators of torch
FEW_PRODUCTS = 2**22  # of two numbers: with less in a call of oneDNN, what it takes beside them is a fifth or more
DEPTHWISE_REACH = 15  # frames that a depthwise convolution of 31 sees on either side
Rows = Callable[[int, int], Tensor]  # (start, stop) to those frames, (B, stop - start, C)


def folded_weights(conv: Any, norm: nn.BatchNorm1d | None = None) -> tuple[Tensor, Tensor]:
    """Weight and bias in float64 of a convolution, or of it and the batch norm after it."""
    weight, channels = conv.weight.detach().double(), conv.out_channels
    bias = weight.new_zeros(channels) if conv.bias is None else conv.bias.detach().double()
    if norm is None:
        return weight, bias
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None  # as ever, unless a batch norm is told to keep no statistics
    factor = norm.weight.detach().double() / (variance.double() + norm.eps).sqrt()
    # weights are (O, I, K), those of a transposed convolution (I, O, K)
    shape = (1, -1, 1) if isinstance(conv, nn.ConvTranspose1d) else (-1, 1, 1)
    return weight * factor.view(shape), norm.bias.detach().double() + (bias - mean.double()) * factor


class Layer(nn.Module):
    """A part of a snapshot. It has no hooks, and without asking for them a call takes half the time where little is
    computed."""

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)


class FoldedLinear(Layer):
    """
    Matrix product over the last dimension (I to O); on CPUs by oneDNN, twice as fast there as `F.linear`.

    Products of few frames, as live, are `F.linear`'s even there: a call of oneDNN takes 20 microseconds more.
    """

    weight: Tensor  # None if only what is packed is used
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, packed: bool):
        super().__init__()
        weight = weight.to(dtype).contiguous()
        self.channels = len(weight)
        self.few = FEW_PRODUCTS if packed and dtype == torch.float32 else 0
        self.register_buffer("bias", None if bias is None else bias.to(dtype))
        # oneDNN's own arrangement of the weight; the operation is the one that torch.compile uses for frozen weights
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight) if packed else None
        self.register_buffer("weight", None if packed and not self.few else weight)

    def forward(self, hidden: Tensor, add: Tensor | None = None, activation: Activation = "none") -> Tensor:
        if self.packed is None or hidden.numel() * self.channels < self.few:
            return self.plain(hidden, add, activation)
        if add is None:
            return torch.ops.mkldnn._linear_pointwise(hidden, self.packed, self.bias, activation, [], "")
        output = torch.ops.mkldnn._linear_pointwise.binary(hidden, add, self.packed, self.bias, "add")
        return ACTIVATIONS[activation](output)

    def plain(self, hidden: Tensor, add: Tensor | None, activation: Activation) -> Tensor:
        """On matrices, whose product other runtimes do in one pass with what is added and the activation."""
        rows, added = hidden.flatten(0, -2), None if add is None else add.flatten(0, -2)
        if added is not None and self.bias is None:
            output = torch.addmm(added, rows, self.weight.t())
        else:
            output = F.linear(rows, self.weight, self.bias)
            output = output if added is None else output + added
        output = ACTIVATIONS[activation](output)
        return output.view(*hidden.shape[:-1], -1)


class Target:
    """
    What is folded, and into which dtype; makes the layers of a snapshot.

    Args:
        packed: matrix products by oneDNN.
        widths: numbers of channels that become others, the further ones zeros, as products like whole vectors.
        convolve_rows: see `FoldedRows`.
    """

    def __init__(
        self, dtype: torch.dtype, packed: bool, widths: Mapping[int, int] | None = None, convolve_rows: bool = False
    ):
        self.dtype, self.packed, self.widths, self.convolve_rows = dtype, packed, widths or {}, convolve_rows

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> FoldedLinear:
        return FoldedLinear(weight, bias, self.dtype, self.packed)

    def pointwise(self, conv: nn.Conv1d, norm: nn.BatchNorm1d | None = None) -> FoldedLinear:
        weight, bias = self.folded(conv, norm)
        return self.linear(weight.squeeze(-1), bias)

    def conv(self, conv: nn.Conv1d, norm: nn.BatchNorm1d) -> "FoldedConv":
        weight, bias = self.folded(conv, norm)
        return FoldedConv(weight, bias, self.dtype, depthwise=conv.groups > 1)

    def folded(self, conv: Any, norm: nn.BatchNorm1d | None = None) -> tuple[Tensor, Tensor]:
        """`folded_weights` at the widths of this target."""
        weight, bias = folded_weights(conv, norm)
        return self.widened(weight), self.widened(bias)

    def widened(self, values: Tensor) -> Tensor:
        """(O), (O, I), (O, I, K) or (I, O, K) with zeros for the further channels."""
        further = [self.widths.get(size, size) - size for size in values.shape[:2]]
        last = [0, 0] * (values.dim() - len(further))
        return F.pad(values, [*last, *(size for count in reversed(further) for size in (0, count))])


class FoldedConv(Layer):
    """Convolution along time of (B, L, C): of odd kernel, which keeps the length, or not `padded`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, depthwise: bool = False, padded: bool = True):
        super().__init__()
        # oneDNN 3.12 never ends preparing some bfloat16 depthwise convolutions of that layout, on one thread or more
        self.exact = depthwise and dtype == torch.bfloat16 and weight.device.type == "cpu"
        dtype = torch.float32 if self.exact else dtype
        # (O, I, K) -> (O, I, 1, K): the layout is known in two dimensions only
        weight = weight.to(dtype).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias.to(dtype))
        self.groups = len(weight) if depthwise else 1
        self.padding = (0, weight.shape[-1] // 2 if padded else 0)

    def forward(self, hidden: Tensor, activation: Activation = "none") -> Tensor:
        # (B, L, C) -> (B, 1, L, C) -> (B, C, 1, L), the channels still last in memory, and back
        image = hidden.contiguous().unsqueeze(1).permute(0, 3, 1, 2)
        if self.exact:
            image = image.float()
        output = F.conv2d(image, self.weight, self.bias, padding=self.padding, groups=self.groups)
        return ACTIVATIONS[activation](output).to(hidden.dtype).permute(0, 2, 3, 1).squeeze(1)


class FoldedRows(Layer):
    """
    ReLU of a convolution along time of (B, n + parts - 1, I) to (B, n, O), its taps the `parts` (O, I).

    By default it is a sum of matrix products; where the target says so, one convolution. PyTorch is faster at the
    former, ONNX Runtime and OpenVINO at the latter.
    """

    def __init__(self, parts: Sequence[Tensor], bias: Tensor, target: Target):
        super().__init__()
        self.taps = len(parts)
        self.convolve_rows = target.convolve_rows
        if self.convolve_rows:
            self.conv = FoldedConv(torch.stack(list(parts), -1), bias, target.dtype, padded=False)
        else:
            biases = [bias, *[None] * (self.taps - 1)]
            self.parts = nn.ModuleList(target.linear(part, bias) for part, bias in zip(parts, biases, strict=True))

    def forward(self, rows: Tensor) -> Tensor:
        if self.convolve_rows:
            return self.conv(rows, activation="relu")
        count, output = rows.shape[1] - self.taps + 1, None
        for index, part in enumerate(self.parts):
            activation: Activation = "relu" if index == self.taps - 1 else "none"
            output = part(rows[:, index : index + count], add=output, activation=activation)
        assert output is not None
        return output


class FoldedGate(Layer):
    """`Gate`, and before it, if `before` is given, a linear map (weight, bias)."""

    def __init__(self, block: Any, target: Target, before: tuple[Tensor, Tensor] | None = None):
        super().__init__()
        (content, content_bias), (gate, gate_bias) = target.folded(block.content), target.folded(block.gate)
        if before is not None:
            weight, bias = before
            content_bias, gate_bias = content_bias + content[..., 0] @ bias, gate_bias + gate[..., 0] @ bias
            content, gate = content[..., 0] @ weight, gate[..., 0] @ weight
        self.content = target.linear(2 * content.flatten(1), 2 * content_bias)
        self.gate = target.linear(gate.flatten(1), gate_bias)
        self.out = target.pointwise(block.out)

    def forward(self, hidden: Tensor) -> Tensor:
        content, gate = self.content(hidden, activation="sigmoid"), self.gate(hidden, activation="sigmoid")
        # tanh(content) * gate, in place: where it is written, new memory takes longer than the numbers
        return self.out(content.mul_(2).sub_(1).mul_(gate), activation="relu")


class FoldedResidual(Layer):
    """`ResidualConv` on (B, L, C)."""

    def __init__(self, block: Any, target: Target):
        super().__init__()
        weight, bias = folded_weights(block.expand, block.expand_norm)
        self.content, self.gate = (
            target.linear(target.widened(half.squeeze(-1)), target.widened(half_bias))
            for half, half_bias in zip(weight.chunk(2), bias.chunk(2), strict=True)
        )
        self.depthwise = target.conv(block.depthwise.conv, block.depthwise.norm)
        self.project = target.pointwise(block.project, block.project_norm)
        (out, out_bias), (shortcut, shortcut_bias) = (
            target.folded(layer.conv, layer.norm) for layer in (block.out, block.shortcut)
        )
        self.out = target.linear(out.squeeze(-1), out_bias + shortcut_bias)
        self.shortcut = target.linear(shortcut.squeeze(-1))

    def forward(self, hidden: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Frames `start` to `stop` of the output; what stands around them is only seen by the depthwise convolution."""
        stop = hidden.shape[1] if stop is None else stop
        inner = self.content(hidden).mul_(self.gate(hidden, activation="sigmoid"))
        inner = frames_of(self.depthwise(inner, activation="swish"), start, stop)
        inner = self.project(inner, activation="swish")
        return self.shortcut(frames_of(hidden, start, stop), add=self.out(inner), activation="relu")

    def rows(self, source: Rows, start: int, stop: int, length: int) -> Tensor:
        """Output frames `start` to `stop` of `length`, from the input frames that they depend on."""
        first, last = max(start - DEPTHWISE_REACH, 0), min(stop + DEPTHWISE_REACH, length)
        return self(source(first, last), start - first, stop - first)


def in_tiles(compute: Rows, count: int, tile: int | None, output: Tensor | None = None) -> Tensor:
    """
    `compute` from 0 to `count`, its results one after another along time.

    Args:
        tile: so many frames at a time; None for all at once.
        output: where the results may be written, instead of new memory.
    """
    if tile is None or count <= tile:
        return compute(0, count)
    rows = compute(0, tile)
    each = rows.shape[1] // tile
    if output is None:
        output = rows.new_empty(rows.shape[0], each * count, rows.shape[2])
    output[:, : each * tile] = rows
    for start in range(tile, count, tile):
        stop = min(start + tile, count)
        output[:, each * start : each * stop] = compute(start, stop)
    return output


def pieces(hidden: Tensor, step: int | None) -> Sequence[Tensor]:
    """`hidden` in pieces of `step` along its second dimension; None for one, as tracing would fix their number."""
    return [hidden] if step is None else hidden.split(step, dim=1)


def rows_of(hidden: Tensor) -> Rows:
    """A source of rows that are there already."""
    return lambda start, stop: frames_of(hidden, start, stop)


def frames_of(hidden: Tensor, start: int, stop: int) -> Tensor:
    """(B, L, C) to (B, stop - start, C); all of them as they are, as a slice that is traced copies."""
    return hidden if (start, stop) == (0, hidden.shape[1]) else hidden[:, start:stop]


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN computes matrix products of that kind here, by operators that are private and may go."""
    if not all(hasattr(torch.ops.mkldnn, name) for name in PRIVATE):
        return False
    if device.type != "cpu" or not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
