"""Properties of the whole MANNER: shapes, scales, losses, the features asked for, and how it is initialised."""

import math

import pytest
import torch
from torch import nn

from configurations import CONFIGS
from mvat_hf import MannerConfig, MannerModel
from mvat_hf.losses import enhancement_loss


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


def test_the_configuration_says_whether_hidden_states_are_given(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model, audio = MannerModel.from_pretrained(tmp_path, output_hidden_states=True), torch.randn(1, 400)
    assert list(model(audio)) == ["audio_values", "hidden_states"]
    assert list(model(audio, output_hidden_states=False)) == ["audio_values"]


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
