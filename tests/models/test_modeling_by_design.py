"""MANNER against the text it was built from: every piece, and the whole, against a plain version."""

import math

import pytest
import torch
import torch.nn.functional as F

from configurations import CONFIGS
from mvat_hf.models.manner.attention_manner import (
    ChannelView,
    GlobalView,
    LocalView,
    join_chunks,
    split_chunks,
)

# --- the reference: design section 2, one line a step, no cleverness ---


def batch_norm(hidden, norm):
    mean, deviation = norm.running_mean[:, None], (norm.running_var[:, None] + 1e-5).sqrt()
    return (hidden - mean) / deviation * norm.weight[:, None] + norm.bias[:, None]


def convolve(hidden, conv):
    """Same-length convolution, depthwise where the weight says so."""
    groups = hidden.shape[1] // conv.weight.shape[1]
    return F.conv1d(hidden, conv.weight, conv.bias, padding=conv.weight.shape[-1] // 2, groups=groups)


def conv_norm(hidden, block):
    return batch_norm(convolve(hidden, block.conv), block.norm)


def silu(hidden):
    return hidden * torch.sigmoid(hidden)


def residual_conv(hidden, block):
    content, gate = batch_norm(convolve(hidden, block.expand), block.expand_norm).chunk(2, dim=1)
    inner = silu(conv_norm(content * torch.sigmoid(gate), block.depthwise))
    inner = silu(batch_norm(convolve(inner, block.project), block.project_norm))
    return torch.relu(conv_norm(inner, block.out) + conv_norm(hidden, block.shortcut))


def gate(hidden, block):
    gated = torch.tanh(convolve(hidden, block.content)) * torch.sigmoid(convolve(hidden, block.gate))
    return torch.relu(convolve(gated, block.out))


def cut(hidden, length):
    padded, hop = F.pad(hidden, (length, length)), length // 2
    count = math.floor((hidden.shape[-1] + length) / hop) + 1
    return torch.stack([padded[..., hop * chunk : hop * chunk + length] for chunk in range(count)], dim=2)


def overlap_add(chunks, frames):
    count, length = chunks.shape[-2:]
    total = chunks.new_zeros(*chunks.shape[:2], length // 2 * (count + 1))
    for chunk in range(count):
        total[..., length // 2 * chunk : length // 2 * chunk + length] += chunks[..., chunk, :]
    return total[..., length : length + frames] / 2


def channel_view(hidden, block):
    def shared(pooled):
        first, _, second = block.mlp
        return torch.relu(pooled @ first.weight.T + first.bias) @ second.weight.T + second.bias

    weight = torch.sigmoid(shared(hidden.max(dim=-1).values) + shared(hidden.sum(dim=-1) / hidden.shape[-1]))
    return hidden * weight[:, :, None]


def global_view(chunks, block, heads):
    """Every item, channel and head by itself: softmax(q k' / sqrt(width)) v over the chunks."""
    width = chunks.shape[-1] * heads
    result = torch.zeros_like(chunks)
    for item in range(chunks.shape[0]):
        for channel in range(chunks.shape[1]):
            tokens, mixed = chunks[item, channel], []
            for head in range(heads):
                rows = slice(width * head, width * (head + 1))
                query, key = tokens @ block.query.weight[rows].T, tokens @ block.key.weight[rows].T
                scores = torch.exp(query @ key.T / math.sqrt(width))
                mixed.append(scores / scores.sum(dim=1, keepdim=True) @ (tokens @ block.value.weight[rows].T))
            result[item, channel] = torch.cat(mixed, dim=1) @ block.out.weight.T
    return result


def local_view(chunks, block):
    result = torch.zeros_like(chunks)
    for position in range(chunks.shape[2]):
        chunk = chunks[:, :, position]
        inner = silu(conv_norm(chunk, block.depthwise))
        pooled = torch.stack([inner.max(dim=1).values, inner.mean(dim=1)], dim=1)
        result[:, :, position] = chunk * torch.sigmoid(conv_norm(pooled, block.weight))
    return result


def attention(hidden, block, config):
    frames, length = hidden.shape[-1], config.segment_len
    first, second, third = (torch.relu(conv_norm(hidden, branch)) for branch in block.branches)
    views = [
        channel_view(first, block.channel_view),
        overlap_add(global_view(cut(second, length), block.global_view, config.num_heads), frames),
        overlap_add(local_view(cut(third, length), block.local_view), frames),
    ]
    views = [torch.relu(conv_norm(view, refine)) for view, refine in zip(views, block.refine, strict=True)]
    return gate(conv_norm(torch.cat(views, dim=1), block.join), block.gate) + conv_norm(hidden, block.shortcut), views


def manner(model, audio):
    """The whole network on (1, T): audio and view features."""
    config, views = model.config, {}
    scale = ((audio - audio.mean()).square().sum() / (audio.numel() - 1)).sqrt()
    padding = config.padded_length(audio.shape[-1]) - audio.shape[-1]
    hidden = F.pad(audio / (scale + 1e-3), (0, padding)).unsqueeze(1)
    hidden = first = torch.relu(batch_norm(convolve(hidden, model.input), model.input_norm))
    skips = []
    for level, block in enumerate(model.encoder):
        down = F.conv1d(hidden, block.down.weight, block.down.bias, stride=config.stride)
        hidden = residual_conv(torch.relu(batch_norm(down, block.down_norm)), block.residual)
        if block.attention is not None:
            hidden, views[f"encoder.{level}"] = attention(hidden, block.attention, config)
        skips.append(hidden)
    hidden = torch.relu(torch.einsum("oi,bil->bol", model.bottleneck.weight, hidden))
    for level in reversed(range(config.depth)):
        block = model.decoder[level]
        hidden = residual_conv(hidden + skips[level][..., : hidden.shape[-1]], block.residual)
        up = F.conv_transpose1d(hidden, block.up.weight, block.up.bias, stride=config.stride)
        hidden = torch.relu(batch_norm(up, block.up_norm))
        if block.attention is not None:
            hidden, views[f"decoder.{level}"] = attention(hidden, block.attention, config)
    output = convolve(first * gate(hidden, model.mask), model.output).squeeze(1)
    return output[:, : audio.shape[-1]] * scale, views


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("length", "loudness"), [(611, 1.0), (900, 2e-3)])  # quiet: where the 1e-3 counts
@torch.no_grad()
def test_network_is_the_designs(config, length, loudness, tiny_model):
    """In float64, so that only a different formula can make a difference."""
    model = tiny_model(**config).double()
    audio = loudness * torch.randn(1, length, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected, expected_views = manner(model, audio)
    output = model(audio, output_view_features=True)
    torch.testing.assert_close(output.audio_values, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))
    assert expected.std() > 0.1 * loudness  # not silent: the comparison says something
    assert set(output.view_features) == set(expected_views)
    for block, views in expected_views.items():
        for view, wanted in zip(output.view_features[block].values(), views, strict=True):
            torch.testing.assert_close(view, wanted, rtol=1e-9, atol=1e-11)


# --- the pieces ---


@pytest.mark.parametrize("length", [2, 8, 64])
def test_chunks_are_the_designs_and_join_to_what_was_cut(length):
    generator = torch.Generator().manual_seed(length)
    for frames in [1, length - 1, length, length + 1, *torch.randint(1, 300, (20,), generator=generator).tolist()]:
        hidden = torch.randn(2, 3, frames, generator=generator)
        chunks = split_chunks(hidden, length)
        assert torch.equal(chunks, cut(hidden, length))
        assert torch.equal(join_chunks(chunks, frames), hidden)
        changed = chunks * torch.randn(chunks.shape, generator=generator)
        torch.testing.assert_close(join_chunks(changed, frames), overlap_add(changed, frames))


@pytest.mark.parametrize("heads", [1, 2, 3])
@torch.no_grad()
def test_global_view_is_softmax_attention_across_chunks(heads):
    torch.manual_seed(heads)
    view, chunks = GlobalView(16, heads), 3 * torch.randn(2, 3, 5, 16)
    assert view.query.weight.shape == (heads * 16 * heads, 16)
    torch.testing.assert_close(view(chunks), global_view(chunks, view, heads), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_channel_view_scales_every_channel():
    torch.manual_seed(0)
    view, hidden = ChannelView(7), torch.randn(2, 7, 40)
    assert view.mlp[0].out_features == 3
    torch.testing.assert_close(view(hidden), channel_view(hidden, view))


@torch.no_grad()
def test_local_view_scales_every_frame_of_a_chunk():
    torch.manual_seed(0)
    view, chunks = LocalView(4).eval(), torch.randn(2, 4, 5, 16)
    for norm in (view.depthwise.norm, view.weight.norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    torch.testing.assert_close(view(chunks), local_view(chunks, view))
    ratio = view(chunks) / chunks
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))  # one weight for all channels
