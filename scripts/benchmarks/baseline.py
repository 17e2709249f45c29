"""MANNER as its papers describe it, operation by operation and unoptimised: what every speed is compared with.

The weights are those of a `MannerModel`; the graph is the straightforward one: plain 1x1 convolutions, batch norms
apart, attention as two products and a softmax, chunks cut by unfold and joined by fold, all in eager mode. Beside it
stands L_SE with two transforms of each signal pair per resolution, differentiated by PyTorch.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvat_hf import MannerModel
from mvat_hf.distillation.attention_transfer import VIEWS
from mvat_hf.models.manner.attention_manner import ChannelView, Gate, GlobalView, LocalView, MultiViewAttention
from mvat_hf.models.manner.modeling_manner import DecoderLevel, EncoderLevel, ResidualConv

STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
Views = dict[str, Tensor]


class Baseline(nn.Module):
    """The straightforward graph over the weights of `model`; (B, T) to (B, T), equal to the model's `audio_values`."""

    def __init__(self, model: MannerModel):
        super().__init__()
        self.model = model.eval()

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        return compute(self.model, audio)[0]


def compute(model: MannerModel, audio: Tensor) -> tuple[Tensor, dict[str, Views]]:
    """Enhanced audio (B, T) and the view features by block, in whatever mode the model is; to train on, too."""
    normalized, scale = model.normalize(audio)
    hidden = first = F.relu(model.input_norm(model.input(normalized.unsqueeze(1))))
    skips, views = [], {}
    encoder: Any
    decoder: Any
    for level, encoder in enumerate(model.encoder):
        hidden, views[f"encoder.{level}"] = encode(hidden, encoder)
        skips.append(hidden)
    hidden = F.relu(model.bottleneck(hidden.transpose(1, 2))).transpose(1, 2)
    for level, decoder in reversed(list(enumerate(model.decoder))):
        skip = skips[level]
        hidden, views[f"decoder.{level}"] = decode(hidden + skip[..., : hidden.shape[-1]], decoder)
    output = model.output(first * gate(hidden, model.mask)).squeeze(1)
    return output[..., : audio.shape[-1]] * scale, {block: found for block, found in views.items() if found}


def enhancement_loss(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    noise = noisy - clean
    speech_power = clean.square().sum(dim=-1)
    share = speech_power / (speech_power + noise.square().sum(dim=-1))
    return (share * distance(enhanced, clean) + (1 - share) * distance(noisy - enhanced, noise)).mean()


def distance(estimate: Tensor, target: Tensor) -> Tensor:
    """l1 + 0.5 spectral convergence + 0.5 log magnitude of (B, T) to (B, T), per item (B,)."""
    total = (estimate - target).abs().mean(dim=-1)
    for resolution in STFT_RESOLUTIONS:
        got, wanted = magnitude(estimate, *resolution), magnitude(target, *resolution)
        convergence = (wanted - got).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))
        log_magnitude = (got.log() - wanted.log()).abs().mean(dim=(1, 2))
        total = total + 0.5 * (convergence + log_magnitude) / len(STFT_RESOLUTIONS)
    return total


def magnitude(audio: Tensor, fft_size: int, hop: int, window_length: int) -> Tensor:
    window = torch.hann_window(window_length, device=audio.device)
    spectrum = torch.stft(audio, fft_size, hop, window_length, window, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square()).clamp_min(1e-7).sqrt()


def encode(hidden: Tensor, level: EncoderLevel) -> tuple[Tensor, Views]:
    hidden = residual_conv(F.relu(level.down_norm(level.down(hidden))), level.residual)
    return (hidden, {}) if level.attention is None else attend(hidden, level.attention)


def decode(hidden: Tensor, level: DecoderLevel) -> tuple[Tensor, Views]:
    hidden = F.relu(level.up_norm(level.up(residual_conv(hidden, level.residual))))
    return (hidden, {}) if level.attention is None else attend(hidden, level.attention)


def pointwise(hidden: Tensor, conv: nn.Conv1d) -> Tensor:
    return F.conv1d(hidden, conv.weight, conv.bias)


def conv_norm(hidden: Tensor, block: Any) -> Tensor:
    """Convolution and batch norm of a block, without what follows them."""
    conv = block.conv
    return block.norm(F.conv1d(hidden, conv.weight, None, padding=conv.padding, groups=conv.groups))


def residual_conv(hidden: Tensor, block: ResidualConv) -> Tensor:
    inner = F.glu(block.expand_norm(pointwise(hidden, block.expand)), dim=1)
    inner = F.silu(conv_norm(inner, block.depthwise))
    inner = F.silu(block.project_norm(pointwise(inner, block.project)))
    return F.relu(conv_norm(inner, block.out) + conv_norm(hidden, block.shortcut))


def gate(hidden: Tensor, block: Gate) -> Tensor:
    gated = torch.tanh(pointwise(hidden, block.content)) * torch.sigmoid(pointwise(hidden, block.gate))
    return F.relu(pointwise(gated, block.out))


def attend(hidden: Tensor, block: MultiViewAttention) -> tuple[Tensor, Views]:
    frames, length = hidden.shape[-1], block.segment_len
    by_channel, by_chunk, by_frame = (F.relu(conv_norm(hidden, branch)) for branch in block.branches)
    views = [
        channel_view(by_channel, block.channel_view),
        join(global_view(split(by_chunk, length), block.global_view), frames),
        join(local_view(split(by_frame, length), block.local_view), frames),
    ]
    views = [F.relu(conv_norm(view, refine)) for view, refine in zip(views, block.refine, strict=True)]
    joined = conv_norm(torch.cat(views, dim=1), block.join)
    output = gate(joined, block.gate) + conv_norm(hidden, block.shortcut)
    return output, dict(zip(VIEWS, views, strict=True))


def split(hidden: Tensor, length: int) -> Tensor:
    """(B, C, L) to overlapping chunks (B, C, P, S)."""
    return F.pad(hidden, (length, length)).unfold(-1, length, length // 2).contiguous()


def join(chunks: Tensor, frames: int) -> Tensor:
    """Overlap-add of (B, C, P, S) to (B, C, frames), divided by two."""
    length = chunks.shape[-1]
    total = (chunks.shape[2] + 1) * length // 2
    # (B, C, P, S) -> (B, C, S, P) -> (B, C S, P) -> (B, C, 1, P S / 2 + S / 2)
    columns = chunks.transpose(2, 3).flatten(1, 2)
    signal = F.fold(columns, (1, total), (1, length), stride=(1, length // 2))
    return signal.squeeze(2)[..., length : length + frames] / 2


def channel_view(hidden: Tensor, block: ChannelView) -> Tensor:
    weight = torch.sigmoid(block.mlp(hidden.amax(dim=-1)) + block.mlp(hidden.mean(dim=-1)))
    return hidden * weight.unsqueeze(-1)


def global_view(chunks: Tensor, block: GlobalView) -> Tensor:
    def heads(project: nn.Linear) -> Tensor:
        # (B, C, P, S) -> (B, C, heads, P, width of a head)
        return project(chunks).unflatten(-1, (block.num_heads, -1)).transpose(2, 3)

    query, key, value = heads(block.query), heads(block.key), heads(block.value)
    weight = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), dim=-1)
    return block.out((weight @ value).transpose(2, 3).flatten(-2))


def local_view(chunks: Tensor, block: LocalView) -> Tensor:
    # (B, C, P, S) -> (B P, C, S) -> two maps (B P, 2, S) -> (B P, 1, S)
    inner = F.silu(conv_norm(chunks.transpose(1, 2).flatten(0, 1), block.depthwise))
    pooled = torch.stack([inner.amax(dim=1), inner.mean(dim=1)], dim=1)
    weight = torch.sigmoid(conv_norm(pooled, block.weight))
    return chunks * weight.unflatten(0, (chunks.shape[0], -1)).transpose(1, 2)
