"""Multi-view attention: three views of the features (channel, global, local), and the layers that it is made of.

Shapes: B batch, C channels, L frames, P chunks, S chunk length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_manner import MannerConfig

BLOCK_BN_MOMENTUM = 0.01  # batch norms of ConvNorm; every other one keeps PyTorch's 0.1


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm, optional ReLU; the length is kept."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, relu: bool):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm1d(out_channels, momentum=BLOCK_BN_MOMENTUM)
        if relu:
            self.relu = nn.ReLU()


class DepthwiseConv(nn.Sequential):
    """Depthwise convolution without bias, batch norm, SiLU; the length is kept."""

    def __init__(self, channels: int, kernel_size: int = 31):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.activation = nn.SiLU()


class Gate(nn.Module):
    """ReLU(Conv(tanh(Conv(x)) * sigmoid(Conv(x)))), 1x1 convolutions: the mask, and the end of an attention block."""

    def __init__(self, channels: int):
        super().__init__()
        self.content = nn.Conv1d(channels, channels, 1)
        self.gate = nn.Conv1d(channels, channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.relu(self.out(torch.tanh(self.content(hidden)) * torch.sigmoid(self.gate(hidden))))


def split_chunks(hidden: Tensor, length: int) -> Tensor:
    """Overlapping chunks, (B, C, L) to (B, C, P, S): S = `length`, hop S/2, zeros of length S on both sides."""
    return F.pad(hidden, (length, length)).unfold(-1, length, length // 2)


def join_chunks(chunks: Tensor, frames: int) -> Tensor:
    """Overlap-add of `split_chunks` divided by two, (B, C, P, S) back to (B, C, `frames`)."""
    hop = chunks.shape[-1] // 2
    # (B, C, P, S) -> two (B, C, P + 1, S/2): chunk p adds its first half to half p, its second half to half p + 1
    halves = F.pad(chunks[..., :hop], (0, 0, 0, 1)) + F.pad(chunks[..., hop:], (0, 0, 1, 0))
    return halves.flatten(-2)[..., 2 * hop : 2 * hop + frames] / 2


class ChannelView(nn.Module):
    """Channel attention: pooled over time, a shared two-layer MLP, a sigmoid weight for every channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, channels // 2), nn.ReLU(), nn.Linear(channels // 2, channels))

    def forward(self, hidden: Tensor) -> Tensor:
        # (B, C, L) -> (B, C)
        weight = torch.sigmoid(self.mlp(hidden.amax(dim=-1)) + self.mlp(hidden.mean(dim=-1)))
        return hidden * weight.unsqueeze(-1)


class GlobalView(nn.Module):
    """Self-attention across chunks, for every channel by itself; a token is one chunk of S frames."""

    def __init__(self, segment_len: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        width = num_heads * segment_len * num_heads  # num_heads heads of width segment_len * num_heads
        self.query = nn.Linear(segment_len, width, bias=False)
        self.key = nn.Linear(segment_len, width, bias=False)
        self.value = nn.Linear(segment_len, width, bias=False)
        self.out = nn.Linear(width, segment_len, bias=False)

    def forward(self, chunks: Tensor) -> Tensor:
        query, key, value = (self.heads_of(project(chunks)) for project in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value)
        # (B * C, heads, P, width of a head) -> (B, C, P, S)
        return self.out(mixed.transpose(1, 2).flatten(-2)).view_as(chunks)

    def heads_of(self, tokens: Tensor) -> Tensor:
        """(B, C, P, heads * width of a head) to (B * C, heads, P, width of a head)."""
        return tokens.flatten(0, 1).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class LocalView(nn.Module):
    """A sigmoid weight for every frame of a chunk, from its neighbourhood within the chunk."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = DepthwiseConv(channels)
        self.weight = ConvNorm(2, 1, 7, relu=False)

    def forward(self, chunks: Tensor) -> Tensor:
        # (B, C, P, S) -> (B * P, C, S)
        inner = self.depthwise(chunks.transpose(1, 2).flatten(0, 1))
        # (B * P, C, S) -> (B * P, 2, S) -> (B * P, 1, S) -> (B, 1, P, S)
        pooled = torch.stack([inner.amax(dim=1), inner.mean(dim=1)], dim=1)
        weight = torch.sigmoid(self.weight(pooled))
        return chunks * weight.unflatten(0, (chunks.shape[0], -1)).transpose(1, 2)


class MultiViewAttention(nn.Module):
    """Three branches of a third of the channels each (channel, global, local), joined, gated, plus a shortcut."""

    def __init__(self, config: MannerConfig, channels: int):
        super().__init__()
        self.segment_len = config.segment_len
        third = channels // 3
        self.branches = nn.ModuleList(ConvNorm(channels, third, 1, relu=True) for _ in range(3))
        self.channel_view = ChannelView(third)
        self.global_view = GlobalView(config.segment_len, config.num_heads)
        self.local_view = LocalView(third)
        self.refine = nn.ModuleList(ConvNorm(third, third, 3, relu=True) for _ in range(3))
        self.join = ConvNorm(3 * third, channels, 1, relu=False)
        self.gate = Gate(channels)
        self.shortcut = ConvNorm(channels, channels, 1, relu=False)

    def forward(self, hidden: Tensor) -> tuple[Tensor, list[Tensor]]:
        frames = hidden.shape[-1]
        by_channel, by_chunk, by_frame = (branch(hidden) for branch in self.branches)
        by_channel = self.channel_view(by_channel)
        by_chunk = join_chunks(self.global_view(split_chunks(by_chunk, self.segment_len)), frames)
        by_frame = join_chunks(self.local_view(split_chunks(by_frame, self.segment_len)), frames)
        views = [refine(view) for refine, view in zip(self.refine, (by_channel, by_chunk, by_frame), strict=True)]
        gated = self.gate(self.join(torch.cat(views, dim=1)))
        return gated + self.shortcut(hidden), views


__all__ = ["ConvNorm", "DepthwiseConv", "Gate", "MultiViewAttention"]
