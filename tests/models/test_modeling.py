"""MANNER against the text it was built from: every piece against a plain version, and properties of the whole."""

import logging
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.utils import logging as transformers_logging

from configurations import CONFIGS
from mvat_hf import MannerConfig, MannerFeatureExtractor, MannerModel
from mvat_hf.losses import enhancement_loss
from mvat_hf.models import snapshots
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


# --- the whole ---


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[1]])
@torch.no_grad()
def test_output_has_the_shape_of_the_input(config, tiny_model):
    model = tiny_model(**config)
    for length in (1, 2, 3, 7, 8, 9, 63, 64, 65, 255, 1000, 2049, 3333, 5000):
        audio = torch.randn(1 + length % 2, length)
        output = model(audio).audio_values
        assert output.shape == audio.shape
        assert output.isfinite().all()


@torch.no_grad()
def test_items_of_a_batch_do_not_meet(tiny_model):
    model = tiny_model()
    audio = torch.randn(3, 800) * torch.tensor([[0.01], [1.0], [30.0]])
    together = model(audio).audio_values
    for one, alone in zip(together, audio, strict=True):
        expected = model(alone[None]).audio_values[0]
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def test_output_scales_with_the_input(tiny_model):
    model = tiny_model()
    audio = 50 * torch.randn(1, 1200)  # loud, for the 1e-3 in the normalisation not to count
    output = model(audio).audio_values
    for factor in (3.0, 1000.0):
        scaled = model(factor * audio).audio_values
        torch.testing.assert_close(scaled, factor * output, rtol=0, atol=1e-3 * factor * float(output.abs().max()))


@pytest.mark.parametrize("length", [1, 1000])
@torch.no_grad()
def test_silence_stays_silent(length, tiny_model):
    assert not tiny_model()(torch.zeros(2, length)).audio_values.any()


@pytest.mark.parametrize(
    ("audio", "labels", "says"),
    [
        ((1000,), None, r"\(1000,\)"),
        ((1, 1, 1000), None, r"\(1, 1, 1000\)"),
        ((1, 0), None, r"\(1, 0\)"),
        ((2, 1000), (2, 999), r"\(2, 1000\), got \(2, 999\)"),
        ((2, 1000), (1, 1000), r"\(2, 1000\), got \(1, 1000\)"),
        ((2, 1000), (2, 1, 1000), r"\(2, 1000\), got \(2, 1, 1000\)"),
    ],
)
def test_wrong_shapes_are_refused(audio, labels, says, tiny_model):
    with pytest.raises(ValueError, match=says):
        tiny_model()(torch.zeros(audio), labels=None if labels is None else torch.zeros(labels))


def test_labels_give_the_enhancement_loss(tiny_model):
    torch.manual_seed(0)
    model = tiny_model(hidden_size=18)  # in a narrower one no unit of the channel view may be on
    clean = torch.randn(2, 1300)
    noisy = clean + torch.randn(2, 1300)
    output = model(noisy, labels=clean)
    loss, components = enhancement_loss(model(noisy).audio_values, clean, noisy)
    assert torch.equal(output.loss, loss)
    assert output.loss_components.keys() == components.keys()
    assert all(torch.equal(output.loss_components[name], components[name]) for name in components)

    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@torch.no_grad()
def test_only_what_was_asked_for_is_returned(tiny_model):
    model, audio = tiny_model(), torch.randn(1, 400)
    assert list(model(audio)) == ["audio_values"]
    assert list(model(audio, output_hidden_states=True)) == ["audio_values", "hidden_states"]
    (alone,) = model(audio, return_dict=False)
    assert torch.equal(alone, model(audio).audio_values)


def level_frames(config, samples):
    """Frames at the input and after every down-sampling convolution."""
    frames = [config.padded_length(samples)]
    for _ in range(config.depth):
        frames.append((frames[-1] - config.kernel_size) // config.stride + 1)
    return frames


@pytest.mark.parametrize("levels", ["all", "deepest", "none", [], [0], (2, 0)])
@torch.no_grad()
def test_features_of_every_level(levels, tiny_model):
    model = tiny_model(hidden_size=7, depth=3, attention_levels=levels)
    config, audio = model.config, torch.randn(2, 777)
    plain = model(audio).audio_values
    output = model(audio, output_view_features=True, output_hidden_states=True)
    assert torch.equal(output.audio_values, plain)  # asking for features changes no bit

    frames = level_frames(config, 777)
    shapes = {f"encoder.{level}": (2, 7 * 2 ** (level + 1), frames[level + 1]) for level in range(3)}
    shapes |= {f"decoder.{level}": (2, 7 * 2**level, frames[level]) for level in range(3)}
    assert {name: tuple(hidden.shape) for name, hidden in output.hidden_states.items()} == shapes

    attended = {f"{side}.{level}" for side in ("encoder", "decoder") for level in config.attended_levels}
    assert set(output.view_features) == attended
    for name, views in output.view_features.items():
        batch, channels, length = shapes[name]
        assert list(views) == ["channel_view", "global_view", "local_view"]
        assert all(view.shape == (batch, channels // 3, length) for view in views.values())


@torch.no_grad()
def test_initialisation_is_pytorchs_rescaled():
    """w = w0 / sqrt(std(w0) / 0.1), and the bias with it: so std(w) = sqrt(0.1 std(w0)), and w0 = w std(w) / 0.1."""
    torch.manual_seed(0)
    model = MannerModel(MannerConfig(hidden_size=18, depth=2))
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d))]
    biases = []
    for layer in layers:
        bound = layer.weight[0].numel() ** -0.5  # PyTorch draws both uniformly from -bound to bound
        factor = float(layer.weight.std()) / 0.1
        drawn = layer.weight * factor
        assert 0.7 * bound < drawn.abs().max() <= 1.0001 * bound
        if layer.bias is not None:
            assert layer.bias.abs().max() * factor <= 1.0001 * bound
            biases.append(layer.bias * factor / bound)
        if layer.weight.numel() >= 500:  # enough draws for their deviation to be that of the distribution
            assert float(layer.weight.std()) == pytest.approx(math.sqrt(0.1 * bound / math.sqrt(3)), rel=0.05)
    assert float(torch.cat(biases).std()) == pytest.approx(1 / math.sqrt(3), rel=0.1)

    for layer in model.modules():
        if isinstance(layer, nn.Linear):  # left as PyTorch makes it
            assert 0.7 < layer.weight.abs().max() * math.sqrt(layer.in_features) <= 1.0001
        if isinstance(layer, nn.BatchNorm1d):
            assert (layer.weight == 1).all() and not layer.bias.any()
            assert not layer.running_mean.any() and (layer.running_var == 1).all()


def test_batch_norm_momenta():
    """0.01 where the design marks it: every norm of a `ConvNorm`; 0.1 elsewhere."""
    model = MannerModel(MannerConfig(hidden_size=6, depth=1))
    slow = ("residual.out.norm", "residual.shortcut.norm", "attention.shortcut.norm", "attention.join.norm")
    slow += ("local_view.weight.norm", *(f"{part}.{n}.norm" for part in ("branches", "refine") for n in range(3)))
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d):
            assert (module.momentum, module.eps) == (0.01 if name.endswith(slow) else 0.1, 1e-5), name


# --- saving and loading ---


def same_weights(one, other):
    """Parameters and buffers alike to the bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_save_and_load(config, tiny_model, tmp_path):
    model = tiny_model(**config)
    model.save_pretrained(tmp_path)
    loaded = MannerModel.from_pretrained(tmp_path)
    assert not any(module.training for module in loaded.modules())
    assert same_weights(loaded, model)
    assert loaded.config.attended_levels == model.config.attended_levels
    audio = torch.randn(2, 500)
    assert torch.equal(loaded(audio).audio_values, model(audio).audio_values)


@pytest.mark.parametrize("key", ["bottleneck.weight", "input_norm.running_mean", "decoder.1.up_norm.running_var"])
def test_missing_weights_are_refused(key, tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if name != key}, path, {"format": "pt"})
    with pytest.raises(OSError, match=rf"lacks 1 weights.*{key}"):
        MannerModel.from_pretrained(tmp_path)


def test_weights_of_another_width_are_refused(tiny_model, tmp_path):
    tiny_model(hidden_size=6).save_pretrained(tmp_path)
    MannerConfig(hidden_size=7, depth=2).save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"weights have another shape.*expected \("):
        MannerModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\0" * 100])
def test_a_broken_weights_file_is_refused(content, tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(OSError):
        MannerModel.from_pretrained(tmp_path)


def test_a_folder_of_pickles_is_refused(tiny_model, tmp_path):
    model = tiny_model()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        MannerModel.from_pretrained(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(OSError):
        MannerModel.from_pretrained(tmp_path)


@pytest.fixture
def snapshot(tiny_model, tmp_path, monkeypatch):
    """The model inside the package under the id "mvat/tiny", on a machine without a network."""
    model = tiny_model(seed=3)
    model.save_pretrained(tmp_path / "checkpoints" / "tiny")
    MannerFeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "checkpoints" / "tiny")
    monkeypatch.setattr(snapshots, "SNAPSHOTS", tmp_path / "checkpoints")
    monkeypatch.setattr(snapshots, "hub_answers", lambda *_: False)
    transformers_logging.get_logger().warning_once.cache_clear()
    return model


def test_snapshot_stands_in_for_the_hub_and_says_so(snapshot, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        loaded = MannerModel.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache")
    assert same_weights(loaded, snapshot) and not loaded.training
    assert "mvat/tiny could not be had from the Hub or the cache" in caplog.text
    assert MannerConfig.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache").hidden_size == 6
    extractor = MannerFeatureExtractor.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache")
    assert extractor.sampling_rate == 8000
    explicit = MannerModel.from_pretrained("mvat/tiny", revision="main", cache_dir=tmp_path / "cache")
    assert same_weights(explicit, snapshot)


@pytest.mark.parametrize("name", ["mvat/other", "someone/tiny", "tiny", "mvat/"])
def test_snapshot_is_for_its_own_id(name, snapshot, tmp_path):
    with pytest.raises(OSError):
        MannerModel.from_pretrained(name, cache_dir=tmp_path / "cache")


def test_snapshot_is_not_for_a_revision(snapshot, tmp_path):
    with pytest.raises(OSError):
        MannerModel.from_pretrained("mvat/tiny", revision="v1", cache_dir=tmp_path / "cache")
    with pytest.raises(OSError):
        MannerConfig.from_pretrained("mvat/tiny", revision="v1", cache_dir=tmp_path / "cache")


def test_cache_goes_before_the_snapshot(snapshot, tiny_model, tmp_path, caplog):
    cached, commit = tiny_model(seed=4), "0" * 40
    folder = tmp_path / "cache" / "models--mvat--tiny"
    cached.save_pretrained(folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    with caplog.at_level(logging.WARNING):
        loaded = MannerModel.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache")
    assert same_weights(loaded, cached) and not same_weights(loaded, snapshot)
    assert "mvat/tiny" not in caplog.text
    # without its weights the cached copy is of no use: all comes from the snapshot
    (folder / "snapshots" / commit / "model.safetensors").unlink()
    assert same_weights(MannerModel.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache"), snapshot)


def test_a_folder_goes_before_the_snapshot(snapshot, tiny_model, tmp_path, monkeypatch):
    folder = tiny_model(seed=5)
    folder.save_pretrained(tmp_path / "mvat" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert same_weights(MannerModel.from_pretrained("mvat/tiny"), folder)
    shutil.rmtree(tmp_path / "mvat")
    assert same_weights(MannerModel.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache"), snapshot)


@torch.no_grad()
def test_a_pass_that_ends_early_gives_the_same_levels_to_the_bit(tiny_model):
    model, audio = tiny_model(depth=3), torch.randn(1, 3000)
    options = {"output_view_features": True, "output_hidden_states": True}
    whole, part = model(audio, **options), model(audio, **options, last_level=1)
    assert part.audio_values is None
    assert whole.hidden_states.keys() - part.hidden_states.keys() == {"decoder.0"}
    assert all(torch.equal(hidden, whole.hidden_states[name]) for name, hidden in part.hidden_states.items())
    for name, views in part.view_features.items():
        assert all(torch.equal(view, whole.view_features[name][key]) for key, view in views.items())


@pytest.mark.parametrize(("last_level", "labelled"), [(2, False), (-1, False), (0, True)])
def test_a_wrong_last_level_is_refused(last_level, labelled, tiny_model):
    audio = torch.randn(1, 2000)
    with pytest.raises(ValueError, match="last_level must be a decoder level from 0 to 1, without labels, got"):
        tiny_model()(audio, labels=audio if labelled else None, last_level=last_level)


def test_a_compiled_step_is_the_ordinary_one(tiny_model):
    """What `--torch_compile true` traces, without the wait for a compiler of machine code."""
    model = tiny_model(depth=1).train()
    audio = torch.randn(2, 700)

    def step(forward) -> list[torch.Tensor]:
        model.zero_grad()
        output = forward(audio, output_view_features=True)
        views = output.view_features["encoder.0"].global_view
        (output.audio_values.square().mean() + views.square().mean()).backward()
        return [output.audio_values, *(parameter.grad for parameter in model.parameters())]

    for one, other in zip(step(torch.compile(model, backend="aot_eager")), step(model), strict=True):
        torch.testing.assert_close(one, other)
