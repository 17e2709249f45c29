"""MANNER on audio that still arrives. Every frame is computed once, a few provisionally before.

A pass over a window computes all of its frames. Here the features of the past are kept at every level, and a step
computes only what the new audio changes:
- encoder: new frames, and those before them that depthwise convolutions, or the filter, had computed with zeros where
  there is audio now;
- attention: its first convolutions likewise; the views and what follows for the frames that are not given out yet,
  over the newest `context` of frames (keys, pooled channels);
- decoder: the frames that are given out, and as many around them as convolutions see.

A step gives the result of one pass over the stream so far, except for the parts that see further than convolutions:
- the input is divided by the deviation that the newest `context` of audio has when it arrives, and not divided anew;
- the high-pass filter is a convolution that sees 20 ms of what follows, and no mean is taken away; the last 20 ms wait
  for what follows them, unless the network would hear less than that after what is given out (`streaming_input`);
- attention sees the newest `context` of frames, from a whole half-chunk on; of those that were given out, it sees the
  features that they had then: their own attention is not computed again.
The first step has no past: it is one pass, except for the filter.

Shapes: B batch, n samples or frames, C channels, P chunks, S chunk length.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.manner.modeling_manner import SCALE_EPS
from .folded import FoldedAttention, FoldedManner
from .folded_layers import DEPTHWISE_REACH, Rows
from .frames import Frames
from .streaming_input import StreamingInput


class IncrementalManner:
    """
    A folded MANNER on one stream, or on B at a time.

    Args:
        folded: in tiles.
        batch: B.
        context: samples that the deviation is taken over and attention sees.
    """

    def __init__(self, folded: FoldedManner, batch: int, context: int):
        self.folded, self.config = folded, folded.config
        self.stride, self.kernel_size, self.depth = self.config.stride, self.config.kernel_size, self.config.depth
        self.input = StreamingInput(self.config, batch, context, SCALE_EPS)
        encoder: list[Any] = list(folded.encoder)
        decoder: list[Any] = list(folded.decoder)

        def frames(layer: Any) -> Frames:
            return Frames(batch, len(layer.bias), folded.dtype)

        def attending(block: FoldedAttention | None, level: int) -> "IncrementalAttention | None":
            # in frames that stand `stride` to the power of `level` samples apart
            if block is None:
                return None
            return IncrementalAttention(block, batch, context // self.stride**level, folded.dtype)

        self.down = [frames(level.down.parts[0]) for level in encoder]
        self.encoded = [frames(level.residual.out) for level in encoder]
        self.encoder_attention = [attending(level.attention, index + 1) for index, level in enumerate(encoder)]
        self.decoder_attention = [attending(level.attention, index) for index, level in enumerate(decoder)]
        self.counts = [0] * (self.depth + 1)  # frames of each level up to now, those of level 0 being samples

    def advance(self, samples: Tensor, start: int, stop: int) -> Tensor:
        """
        Take in what is new, and give out some of the stream.

        Args:
            samples: (B, n), what follows on those of the step before.
            start, stop: what is given out, counted from the beginning of the stream; `start` is not before that of the
                step before, `stop` not after the end of what is taken in.

        Returns:
            (B, stop - start) float32.
        """
        changes = self.changes(start)
        self.input.advance(samples, stop)
        self.counts = [self.config.padded_length(self.input.normalized.stop)]
        for _ in range(self.depth):
            self.counts.append((self.counts[-1] - self.kernel_size) // self.stride + 1)
        for level, firsts in enumerate(changes):
            self.encode(level, *firsts)
        for level, last in reversed(list(enumerate(self.needed(stop)))):
            attention = self.decoder_attention[level]
            if attention is not None:
                first = min(start // self.stride**level, attention.stop)
                attention.advance(self.upsampled(level, first, self.counts[level]), first, first, last)
        output = self.masked(start, stop) * self.input.scale.read(start, stop).squeeze(-1)
        self.forget(start)
        return output

    def needed(self, stop: int) -> list[int]:
        """For each level of the decoder, up to which frame its output is needed where samples are given out to `stop`.

        Attention needs all that enters it.
        """
        needed, last = [], stop + 1  # the output layer sees a sample on either side
        for level, attention in enumerate(self.decoder_attention):
            needed.append(min(last, self.counts[level]))
            last = -(-last // self.stride) + DEPTHWISE_REACH if attention is None else self.counts[level + 1]
        return needed

    def changes(self, start: int) -> list[tuple[int, int, int]]:
        """For each level of the encoder, the first frame that more audio makes new: of its strided convolution, of its
        residual block, and of its output, which is not given out before sample `start`."""
        changes, changed = [], max(self.input.settled - 1, 0)  # the input layer sees a sample on either side
        for level, count in enumerate(self.counts[1:]):
            down = min(max(-(-(changed - self.kernel_size + 1) // self.stride), 0), count)
            changed = encoded = max(down - DEPTHWISE_REACH, 0)
            if self.encoder_attention[level] is not None:
                changed = min(encoded, start // self.stride ** (level + 1))
            changes.append((down, encoded, changed))
        return changes

    def encode(self, level: int, down: int, encoded: int, attended: int) -> None:
        """Bring a level of the encoder up to date, from the frames on that `changes` tells."""
        encoder: Any = self.folded.encoder[level]
        count, rows, attention = self.counts[level + 1], self.down[level], self.encoder_attention[level]
        source = self.inputs if level == 0 else self.skip(level)
        rows.write(down, encoder.down_rows(source, down, count))
        self.encoded[level].write(encoded, encoder.residual.rows(rows.read, encoded, count, count))
        if attention is not None:
            attention.advance(self.encoded[level].read(attended, count), attended, encoded, count)

    def inputs(self, start: int, stop: int) -> Tensor:
        """Output of the input layer, (B, stop - start, N)."""
        samples = self.input.normalized.read(start - 1, stop + 1).squeeze(-1)
        return self.folded.input(samples.to(self.folded.dtype), 0, stop - start)

    def skip(self, level: int) -> Rows:
        """The input of `level` of the encoder, which is also added before the decoder's: output of the level above."""
        attention = self.encoder_attention[level - 1]
        return self.encoded[level - 1].read if attention is None else attention.output.read

    def decoded(self, level: int, start: int, stop: int) -> Tensor:
        """Frames of what a level of the decoder gives."""
        attention = self.decoder_attention[level]
        return self.upsampled(level, start, stop) if attention is None else attention.output.read(start, stop)

    def upsampled(self, level: int, start: int, stop: int) -> Tensor:
        """`decoded` before attention."""
        decoder: Any = self.folded.decoder[level]
        skip = self.skip(level + 1)

        def source(first: int, last: int) -> Tensor:
            added = skip(first, last)
            if level + 1 == self.depth:
                return self.folded.bottleneck(added, activation="relu").add_(added)
            return self.decoded(level + 1, first, last) + added

        first = start // self.stride
        rows = decoder.up_rows(source, first, -(-stop // self.stride), self.counts[level + 1])
        return rows[:, start - self.stride * first : stop - self.stride * first]

    def masked(self, start: int, stop: int) -> Tensor:
        """Samples of the network's output, (B, stop - start)."""
        first, last = max(start - 1, 0), min(stop + 1, self.counts[0])  # the output layer sees one on either side
        rows = self.inputs(first, last) * self.folded.mask(self.decoded(0, first, last))
        taps = F.pad(self.folded.output(rows).float(), (0, 0, first - start + 1, stop + 1 - last))
        return taps[:, :-2, 0] + taps[:, 1:-1, 1] + taps[:, 2:, 2] + self.folded.output_bias.float()

    def forget(self, start: int) -> None:
        """Drop what no later step reads, which gives out what lies after `start`."""
        needed = min(start, self.input.settled) - 1  # frames of what `decoded` gives
        self.input.normalized.forget(needed - self.stride * self.kernel_size)
        self.input.scale.forget(min(start, self.input.settled))
        for level, (_, encoded, attended) in enumerate(self.changes(start)):
            decoder, encoder = self.decoder_attention[level], self.encoder_attention[level]
            if decoder is not None:
                needed = min(needed, start // self.stride**level)
                decoder.output.forget(needed)
            self.down[level].forget(encoded - DEPTHWISE_REACH)
            # for the decoder's depthwise convolution, and for the strided one of the next level
            needed = min(needed // self.stride - self.kernel_size - DEPTHWISE_REACH, attended - self.kernel_size)
            if encoder is not None:
                encoder.output.forget(needed)
            self.encoded[level].forget(needed)


class IncrementalAttention:
    """
    An attention block on a stream: views of the newest frames only, over the newest `context` of them.

    Attributes:
        output: what the block gives.
        stop: frames so far.
    """

    def __init__(self, block: FoldedAttention, batch: int, context: int, dtype: torch.dtype):
        self.block, self.context = block, context
        branches: list[Any] = list(block.branches)
        by_channel, by_chunk, by_frame = (len(branch.bias) for branch in branches)
        # attention over time is each channel's own: there channels stand beside the batch
        sizes = ((batch, by_channel), (batch * by_chunk, 1), (batch, by_frame))
        self.branches = [Frames(*size, dtype) for size in sizes]
        shortcut: Any = block.shortcut
        self.output = Frames(batch, len(shortcut.bias), dtype)

    @property
    def stop(self) -> int:
        return self.output.stop

    def advance(self, hidden: Tensor, start: int, changed: int, stop: int) -> None:
        """
        Write the output from frame `start` to `stop`.

        Args:
            hidden: (B, n, C) from `start` on to the end.
            changed: the first frame that is not as it was; not before `start`.
        """
        block, hop = self.block, self.block.segment_len // 2
        # the views' convolutions see a frame on either side
        end, first = start + hidden.shape[1], max(start - 1, 0)
        last = min(stop + 1, end)
        for frames, branch in zip(self.branches, block.branches, strict=True):
            rows = branch(hidden[:, changed - start :], activation="relu")
            if frames is self.branches[1]:  # (B, n, C) -> (B C, n, 1)
                rows = rows.transpose(1, 2).flatten(0, 1).unsqueeze(-1)
            frames.write(changed, rows)
            frames.forget(max(min(end - self.context, first), 0) // hop * hop)
        views = (self.channel_view(first, last), self.global_view(first, last), self.local_view(first, last))
        refine: nn.ModuleList = block.refine
        refined = [conv(view, activation="relu") for conv, view in zip(refine, views, strict=True)]
        gated = block.gate(torch.cat(refined, dim=-1)[:, start - first : stop - first])
        self.output.write(start, block.shortcut(hidden[:, : stop - start], add=gated))

    def channel_view(self, start: int, stop: int) -> Tensor:
        frames = self.branches[0]
        heard = frames.read(frames.first, frames.stop)
        pooled = self.block.channel_mlp(torch.stack([heard.amax(dim=1), heard.mean(dim=1)]))
        weight = torch.sigmoid(pooled[0] + pooled[1])
        return frames.read(start, stop) * weight.unsqueeze(1)

    def global_view(self, start: int, stop: int) -> Tensor:
        """Chunks attend that `start` to `stop` fall into; keys and values are all of the context."""
        block, frames, length = self.block, self.branches[1], self.block.segment_len
        hop = length // 2
        # zeros of a chunk's length before, and after up to the last chunk that begins within the signal
        begin, end = frames.first - length, (frames.stop // hop + 2) * hop
        # (B C, n, 1) -> (B C, P + 1, S/2); chunk p is of the half-chunks p and p + 1
        halves = frames.read(begin, end).reshape(len(frames.memory), -1, hop)
        earlier, later = halves[:, :-1], halves[:, 1:]
        first, last = start // hop, (stop - 1) // hop + 1  # half-chunks
        asking = slice(first - 1 - begin // hop, last - begin // hop)
        # (B C, p, S) -> (B C, p, heads S) -> (B C, p heads, S)
        query = block.query(torch.cat([earlier[:, asking], later[:, asking]], dim=-1)).reshape(len(halves), -1, length)
        # (B C, p heads, P), then (B C, p heads, S); values are projected after they are mixed, as few chunks ask
        scores = torch.bmm(query[..., :hop], earlier.mT).baddbmm_(query[..., hop:], later.mT)
        weights = torch.softmax(scores.mul_(block.scale), dim=-1)
        mixed = torch.cat([torch.bmm(weights, earlier), torch.bmm(weights, later)], dim=-1)
        # each head's own projection: (B C, p heads, heads S) -> (B C, p, heads, heads, S) -> (B C, p, S)
        projected = block.value(mixed).reshape(len(halves), -1, block.heads, block.heads, length)
        mixed = projected.diagonal(dim1=2, dim2=3).sum(dim=-1)
        # (B C, p, S) -> (B C, n) -> (B, n, C)
        joined = halves_joined(mixed)[:, start - first * hop : stop - first * hop]
        return joined.unflatten(0, (self.output.memory.shape[0], -1)).transpose(1, 2)

    def local_view(self, start: int, stop: int) -> Tensor:
        block, frames = self.block, self.branches[2]
        hop = block.segment_len // 2
        first, last = start // hop, (stop - 1) // hop + 1
        # (B, n, C) -> (B, p + 1, S/2, C) -> (B, p, S)
        halves = frames.read((first - 1) * hop, (last + 1) * hop).unflatten(1, (-1, hop))
        weights = halves_joined(block.local_weights(torch.cat([halves[:, :-1], halves[:, 1:]], dim=2)))
        return frames.read(start, stop) * weights[:, start - first * hop : stop - first * hop].unsqueeze(-1)


def halves_joined(chunks: Tensor) -> Tensor:
    """Overlap-add divided by two, (…, p, S) to (…, (p - 1) S/2): without the first and the last half of all."""
    hop = chunks.shape[-1] // 2
    return ((chunks[..., 1:, :hop] + chunks[..., :-1, hop:]) / 2).flatten(-2)


__all__ = ["IncrementalManner"]
