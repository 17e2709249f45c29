"""The attention block of `folded.py`. Shapes: B batch, L frames, C channels, P chunks, S chunk length."""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .folded_layers import FoldedGate, FoldedLinear, Target, folded_weights, frames_of, in_tiles, pieces

Attended = tuple[Tensor, list[Tensor] | None]  # a level's output (B, L, C), and its views (B, L, C // 3) if it attends


class FoldedAttention(nn.Module):
    """`MultiViewAttention` on (B, L, C)."""

    def __init__(self, block: Any, target: Target):
        super().__init__()
        target = Target(target.dtype, target.packed)  # views have as many channels as they have
        self.segment_len = block.segment_len
        self.branches = nn.ModuleList(target.pointwise(branch.conv, branch.norm) for branch in block.branches)
        self.channel_mlp = copy.deepcopy(block.channel_view.mlp).requires_grad_(False).to(target.dtype)
        self.query, self.value = fold_projections(block.global_view, target)
        self.heads: int = block.global_view.num_heads
        self.scale = 1 / math.sqrt(block.global_view.query.out_features // self.heads)
        self.local_depthwise = target.conv(block.local_view.depthwise.conv, block.local_view.depthwise.norm)
        self.local_weight = target.conv(block.local_view.weight.conv, block.local_view.weight.norm)
        self.refine = nn.ModuleList(target.conv(refine.conv, refine.norm) for refine in block.refine)
        weight, bias = folded_weights(block.join.conv, block.join.norm)
        self.gate = FoldedGate(block.gate, target, before=(weight.squeeze(-1), bias))
        self.shortcut = target.pointwise(block.shortcut.conv, block.shortcut.norm)

    def forward(self, hidden: Tensor, tile: int | None) -> Attended:
        """The views are given back where all frames are one tile (None)."""
        by_channel, by_chunk, by_frame = self.branches
        # in the order of the memory that they need beside their result
        local_view = self.local_view(by_frame(hidden, activation="relu"), tile)
        global_view = self.global_view(by_chunk(hidden, activation="relu"), tile)
        views = (self.channel_view(by_channel(hidden, activation="relu")), global_view, local_view)

        def refined(first: int, last: int) -> list[Tensor]:
            both = zip(self.refine, views, strict=True)
            return [refine(frames_of(view, first, last), activation="relu") for refine, view in both]

        def joined(start: int, stop: int) -> Tensor:
            first, last = max(start - 1, 0), min(stop + 1, hidden.shape[1])  # the views' convolutions see one frame on
            gated = self.gate(torch.cat(refined(first, last), dim=-1)[:, start - first : stop - first])
            return self.shortcut(hidden[:, start:stop], add=gated)

        if tile is not None:
            return in_tiles(joined, hidden.shape[1], tile, hidden), None  # only its own frames are read again
        whole = refined(0, hidden.shape[1])
        return self.shortcut(hidden, add=self.gate(torch.cat(whole, dim=-1))), whole

    def channel_view(self, hidden: Tensor) -> Tensor:
        weight = torch.sigmoid(self.channel_mlp(hidden.amax(dim=1)) + self.channel_mlp(hidden.mean(dim=1)))
        return hidden.mul_(weight.unsqueeze(1))

    def global_view(self, hidden: Tensor, tile: int | None) -> Tensor:
        """Channels attend each for itself: few at a time in tiles, as their heads take several times the memory."""
        if tile is None:
            return self.mixed(hidden)
        for some in hidden.split(-(-tile * hidden.shape[2] // hidden.shape[1]), dim=2):
            some.copy_(self.mixed(some))
        return hidden

    def mixed(self, hidden: Tensor) -> Tensor:
        """What the chunks of every channel make of each other, (B, L, C) of `hidden` (B, L, C)."""
        # (B, L, C) -> (B, C, L) -> (B, C, P, S) -> (B C, P, S)
        tokens = overlapping(hidden.transpose(1, 2), self.segment_len)
        rows = tokens.flatten(0, 1)
        # (B C, heads, P, S) each, summed over the heads
        query, value = (self.of_heads(project, rows) for project in (self.query, self.value))
        key = rows.unsqueeze(1).expand_as(query)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        if self.heads > 1:  # a sum of one would be a copy
            mixed = mixed.sum(dim=1)
        # (B, C, P, S) -> (B, C, L) -> (B, L, C)
        return overlap_add(mixed.reshape(tokens.shape), hidden.shape[1]).transpose(1, 2)

    def of_heads(self, project: FoldedLinear, tokens: Tensor) -> Tensor:
        # (B C, P, S) -> (B C, P, heads S) -> (B C, heads, P, S)
        return project(tokens).reshape(*tokens.shape[:2], -1, self.segment_len).transpose(1, 2)

    def local_view(self, hidden: Tensor, tile: int | None) -> Tensor:
        step = None if tile is None else -(-tile // self.segment_len)
        # (B, L, C) -> (B, P + 1, S/2, C) -> (B, P, S, C) -> (B, P, S); a frame stands in two chunks
        halves = half_chunks(hidden, self.segment_len, time=1)
        chunks = zip(pieces(halves[:, :-1], step), pieces(halves[:, 1:], step), strict=True)
        weights = torch.cat([self.local_weights(torch.cat(both, dim=2)) for both in chunks], dim=1)
        # (B, P, S) -> (B, 1, P, S) -> (B, 1, L) -> (B, L, 1)
        return hidden.mul_(overlap_add(weights.unsqueeze(1), hidden.shape[1]).transpose(1, 2))

    def local_weights(self, chunks: Tensor) -> Tensor:
        # (B, P, S, C) -> (B P, S, C) -> (B P, S, 2) -> (B P, S, 1) -> (B, P, S)
        inner = self.local_depthwise(chunks.flatten(0, 1), activation="swish")
        pooled = torch.stack([inner.amax(dim=-1), inner.mean(dim=-1)], dim=-1)
        return self.local_weight(pooled, activation="sigmoid").reshape(chunks.shape[:3])


def fold_projections(view: Any, target: Target) -> tuple[FoldedLinear, FoldedLinear]:
    """Query with key, and value with output, of the global view: two maps from S to heads x S instead of four."""
    # (heads, width of a head, S)
    query, key, value = (
        project.weight.detach().double().unflatten(0, (view.num_heads, -1))
        for project in (view.query, view.key, view.value)
    )
    # (S, heads width) -> (heads, S, width of a head)
    out = view.out.weight.detach().double().unflatten(1, (view.num_heads, -1)).transpose(0, 1)
    # x W_q' (x W_k')' = (x W_q' W_k) x', and (softmax x W_v') W_o' = softmax (x (W_o W_v)')
    return target.linear((key.transpose(1, 2) @ query).flatten(0, 1)), target.linear((out @ value).flatten(0, 1))


def overlapping(hidden: Tensor, length: int) -> Tensor:
    """Chunks (B, C, P, S) of (B, C, L): S = `length`, hop S/2, see `half_chunks`."""
    halves = half_chunks(hidden, length, time=2)
    return torch.cat([halves[..., :-1, :], halves[..., 1:, :]], dim=-1)


def half_chunks(hidden: Tensor, length: int, time: int) -> Tensor:
    """Dimension `time` as (P + 1, S/2): S = `length`, zeros of that length before, and at least as many after."""
    frames, hop = hidden.shape[time], length // 2
    halves = frames // hop + 4  # two of zeros, those of the signal, two that begin with its rest
    before_last = (0, 0) * (hidden.dim() - 1 - time)
    padded = F.pad(hidden, (*before_last, length, halves * hop - length - frames))
    return padded.reshape(*hidden.shape[:time], -1, hop, *hidden.shape[time + 1 :])


def overlap_add(chunks: Tensor, frames: int) -> Tensor:
    """Overlap-add of `overlapping` divided by two, (B, C, P, S) back to (B, C, `frames`)."""
    hop = chunks.shape[-1] // 2
    # the signal begins with half-chunk 2, which chunk 1 ends with and chunk 2 begins with
    return ((chunks[..., 2:, :hop] + chunks[..., 1:-1, hop:]) / 2).flatten(-2)[..., :frames]
