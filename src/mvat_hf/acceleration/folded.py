"""How a MANNER in evaluation is computed fast: batch norms folded away, channels last, in tiles of time.

`FoldedManner` is a snapshot of a model's weights, arranged for speed; `folded_copy` makes it. What it does differently,
all of it exact but for rounding:
- batch norms go into the convolutions before them, and linear maps that follow each other become one: query and key
  of the global view, value and output, the join of an attention block and its gate's two inputs;
- features are (batch, time, channels), so that 1x1, strided and transposed convolutions are matrix products (a
  transposed one gives `stride` frames at once), and depthwise ones find the layout that CPUs want;
- where no level attends, channels of zeros fill up the last vector of 16 (30 become 32);
- everything but the views of attention is computed in tiles of time that fit a core's cache, each with as many frames
  around it as the depthwise convolution reaches: features at the full rate are never held whole; of the views, the
  global one takes few channels at a time, the local one few chunks;
- tanh(x) is 2 sigmoid(2x) - 1.

Shapes: B batch, T samples, L frames of a level, C channels, P chunks, S chunk length.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.weights import weights_fault
from .folded_attention import Attended, FoldedAttention
from .folded_layers import (
    FoldedGate,
    FoldedResidual,
    FoldedRows,
    Layer,
    Rows,
    Target,
    folded_weights,
    frames_of,
    in_tiles,
    packs,
    rows_of,
)

TILE_ELEMENTS = 2**17  # of the features of one tile: half a megabyte in float32
Finish = Callable[[Tensor, int], Tensor]  # (frames from `start` on, start) to something of the same frames
Levels = dict[str, Attended]  # by level, but (B, C, L) and (B, C // 3, L)


class FoldedInput(Layer):
    """The first convolution of `model` with its norm, from samples to N channels."""

    def __init__(self, model: Any, target: Target):
        super().__init__()
        weight, bias = target.folded(model.input, model.input_norm)
        weight, self.channels = weight.squeeze(1), len(bias)
        self.stride: int = model.config.stride
        self.convolve_rows = target.convolve_rows
        if self.convolve_rows:
            # (N, 3) -> (stride N, stride + 2): `stride` frames, each of three of the samples that they read together
            together = torch.cat([F.pad(weight, (shift, self.stride - 1 - shift)) for shift in range(self.stride)])
            self.rows = FoldedRows(strided_parts(together, self.stride), bias.repeat(self.stride), target)
        else:
            self.linear = target.linear(weight, bias)

    def forward(self, samples: Tensor, start: int, stop: int) -> Tensor:
        """(B, n, N) from `start` to `stop` of `samples` (B, T), which begins one before; rows where n is whole rows."""
        if not self.convolve_rows:
            # three times (B, n) -> (B, n, 3) -> (B, n, N)
            neighbours = [samples[:, start + shift : stop + shift] for shift in range(3)]
            return self.linear(torch.stack(neighbours, dim=-1), activation="relu")
        # (B, n + 2) -> (B, n / stride + 1, stride) -> (B, n / stride, stride N) -> (B, n, N)
        beyond = self.stride * (self.rows.taps - 1) - 2  # samples of the last row, under weights of zero
        read = F.pad(frames_of(samples, start, stop + 2), (0, beyond))
        return self.rows(read.reshape(len(read), -1, self.stride)).reshape(len(read), -1, self.channels)


class FoldedEncoder(nn.Module):
    """`EncoderLevel` in tiles: from `source` of the level's input to (B, L, 2C) and its views."""

    def __init__(self, level: Any, target: Target):
        super().__init__()
        self.stride: int = level.down.stride[0]
        weight, bias = target.folded(level.down, level.down_norm)
        # (O, I, K) -> for every `stride` taps, a map from `stride` frames to one: (O, stride I)
        taps = [part.transpose(1, 2).flatten(1) for part in strided_parts(weight, self.stride)]
        self.down = FoldedRows(taps, bias, target)
        self.residual = FoldedResidual(level.residual, target)
        self.attention = None if level.attention is None else FoldedAttention(level.attention, target)

    def forward(self, source: Rows, frames: int, tile: int | None, inside: bool) -> Attended:
        down = partial(self.down_rows, source)
        hidden = in_tiles(lambda start, stop: self.residual.rows(down, start, stop, frames), frames, tile)
        return (hidden, None) if self.attention is None else self.attention(hidden, None if inside else tile)

    def down_rows(self, source: Rows, start: int, stop: int) -> Tensor:
        """Frames `start` to `stop` of the strided convolution."""
        # (B, stride (n + parts - 1), C) -> (B, n + parts - 1, stride C)
        rows = source(self.stride * start, self.stride * (stop + self.down.taps - 1))
        return self.down(rows.reshape(rows.shape[0], -1, self.stride * rows.shape[2]))


class FoldedDecoder(nn.Module):
    """`DecoderLevel` in tiles, up to its attention, which follows it: (B, L, 2C) to (B, stride (L - 1) + K, C)."""

    def __init__(self, level: Any, target: Target):
        super().__init__()
        self.stride: int = level.up.stride[0]
        self.kernel_size: int = level.up.kernel_size[0]
        weight, bias = target.folded(level.up, level.up_norm)
        self.channels = len(bias)
        # (I, O, K) -> for every `stride` taps, a map from one frame to `stride` frames: (stride O, I)
        taps = [part.permute(2, 1, 0).flatten(0, 1) for part in strided_parts(weight, self.stride)]
        # the first taps reach from a frame on, the next ones from the frame before
        self.up = FoldedRows(taps[::-1], bias.repeat(self.stride), target)
        self.residual = FoldedResidual(level.residual, target)
        self.attention = None if level.attention is None else FoldedAttention(level.attention, target)

    def forward(self, hidden: Tensor, tile: int | None, finish: Finish | None, written: Tensor | None) -> Tensor:
        """`finish`, if it is given, is applied to every tile of the output, which goes to `written`, see `in_tiles`."""
        frames = hidden.shape[1]

        def up(start: int, stop: int) -> Tensor:
            output = self.up_rows(rows_of(hidden), start, stop, frames)
            return output if finish is None else finish(output, self.stride * start)

        whole = in_tiles(up, frames + self.up.taps - 1, tile, written)
        return whole[:, : self.stride * (frames - 1) + self.kernel_size]

    def up_rows(self, source: Rows, start: int, stop: int, frames: int) -> Tensor:
        """`stride` times the frames `start` to `stop`, of the `frames` that come in."""
        before = self.up.taps - 1
        first, last = max(start - before, 0), min(stop, frames)
        rows = self.residual.rows(source, first, last, frames)
        rows = F.pad(rows, (0, 0, first - start + before, stop - last))
        # (B, n, stride C) -> (B, stride n, C)
        return self.up(rows).reshape(rows.shape[0], -1, self.channels)


def added_to(rows: Tensor) -> Finish:
    return lambda hidden, start: hidden.add_(frames_of(rows, start, start + hidden.shape[1]))


def strided_parts(weight: Tensor, stride: int) -> tuple[Tensor, ...]:
    """(…, K) in parts of `stride` taps, the last filled up with zeros."""
    return F.pad(weight, (0, -weight.shape[-1] % stride)).split(stride, dim=-1)


class FoldedManner(nn.Module):
    """
    The network of `model` between normalisation and trimming, as `MannerModel.estimate` computes it: (B, T) to (B, T).

    Args:
        model: a `MannerModel`, whose weights and statistics are copied.
        dtype: of the computation; input and output keep theirs.
        tiled: compute in tiles of time, and by oneDNN where it is at hand; off for what is traced.
        convolve_rows: see `FoldedRows`; not in tiles.

    Raises:
        ValueError: a weight or statistic of `model` is NaN or infinite, which would not show in the output.
    """

    output_bias: Tensor

    def __init__(self, model: Any, dtype: torch.dtype, tiled: bool = True, convolve_rows: bool = False):
        super().__init__()
        if fault := weights_fault(model.state_dict()):
            raise ValueError(fault)
        self.config, self.dtype, self.tiled = model.config, dtype, tiled
        packed = tiled and packs(model.input.weight.device, dtype)
        target = Target(dtype, packed, widths(model.config), convolve_rows)
        self.input = FoldedInput(model, target)
        self.encoder = nn.ModuleList(FoldedEncoder(level, target) for level in model.encoder)
        self.bottleneck = target.linear(target.widened(model.bottleneck.weight.detach()))
        self.decoder = nn.ModuleList(FoldedDecoder(level, target) for level in model.decoder)
        self.mask = FoldedGate(model.mask, target)
        # (1, N, 3) -> (3, N): what a frame adds to the sample after it, to its own, to the one before it
        weight, bias = folded_weights(model.output)
        self.output = target.linear(target.widened(weight.squeeze(0).t()))
        self.register_buffer("output_bias", bias.to(model.output.weight.dtype))

    def forward(self, normalized: Tensor) -> Tensor:
        output, _ = self.estimate(normalized, inside=False)
        assert output is not None  # as it goes to the end
        return output

    def estimate(self, normalized: Tensor, inside: bool, last_level: int | None = None) -> tuple[Tensor | None, Levels]:
        """As `MannerModel.estimate`; what the levels gave only where `inside` asks for it."""
        config, samples = self.config, normalized.shape[-1]
        levels: Levels = {}
        finish: Finish | None = None
        spare = -config.kernel_size % config.stride  # taps of weight zero, which read frames past the end
        padded = F.pad(normalized, (1, 1 + spare)).to(self.dtype)

        first: Rows = partial(self.input, padded)
        # read by the first level and the mask: a tile is computed again, the whole is kept
        at_full_rate: Rows = first if self.tiled else rows_of(first(0, samples + spare))

        def masked(rows: Tensor, start: int) -> Tensor:
            return self.output(at_full_rate(start, start + rows.shape[1]) * self.mask(rows))

        def note(name: str, channels: int, hidden: Tensor, views: list[Tensor] | None = None) -> Tensor:
            if inside:
                given = hidden.transpose(1, 2)[:, :channels]
                levels[name] = (given, None if views is None else [view.transpose(1, 2) for view in views])
            return hidden

        source = at_full_rate
        frames, skips = samples, []
        for level, encode in enumerate(self.encoder):
            frames = (frames - config.kernel_size) // config.stride + 1
            encoded = encode(source, frames, self.tile(normalized, level + 1), inside)
            hidden = note(f"encoder.{level}", config.level_channels(level + 1), *encoded)
            skips.append(F.pad(hidden, (0, 0, 0, spare)) if spare else hidden)
            source = rows_of(skips[-1])
        del source  # which holds the last level's output
        hidden = self.bottleneck(hidden, activation="relu")
        skip: Tensor | None = skips.pop()
        for level in reversed(range(config.depth)):
            decode: Any = self.decoder[level]
            if skip is not None:
                skip = frames_of(skip, 0, hidden.shape[1])
                hidden = hidden + skip if inside else hidden.add_(skip)  # `levels` holds the former
            skip = skips.pop() if skips else None
            finish = written = None
            if decode.attention is None and not inside:  # nothing needs the output without what follows
                finish = masked if skip is None else added_to(skip)
                written, skip = skip, None
            hidden = decode(hidden, self.tile(normalized, level + 1), finish, written)
            attended: Attended = (hidden, None)
            if decode.attention is not None:
                attended = decode.attention(hidden, None if inside else self.tile(normalized, level))
            hidden = note(f"decoder.{level}", config.level_channels(level), *attended)
            if level == last_level:
                return None, levels
        if finish is not masked:
            source = rows_of(hidden)
            hidden = in_tiles(lambda a, b: masked(source(a, b), a), samples, self.tile(normalized, 0))
        taps = F.pad(hidden.to(normalized.dtype), (0, 0, 1, 1))
        return taps[:, :-2, 0] + taps[:, 1:-1, 1] + taps[:, 2:, 2] + self.output_bias, levels

    def tile(self, audio: Tensor, level: int) -> int | None:
        """Frames of a tile at the width of `level`; None for all."""
        return max(TILE_ELEMENTS // (len(audio) * self.config.level_channels(level)), 64) if self.tiled else None


def widths(config: Any) -> dict[int, int]:
    """Channels that become a multiple of a vector's 16, where no level attends at them and few are added."""
    attended = {config.level_channels(level + deeper) for level in config.attended_levels for deeper in (0, 1)}
    wider = {channels: -(-channels // 16) * 16 for channels in map(config.level_channels, range(config.depth + 1))}
    return {old: new for old, new in wider.items() if old not in attended and new <= 1.1 * old}
