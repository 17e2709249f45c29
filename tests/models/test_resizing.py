"""Resizing: widening keeps the function and breaks its symmetry, narrowing keeps what it can, new attention waits."""

import pytest
import torch

from mvat_hf.models.manner import MannerConfig
from mvat_hf.models.resizing import pass_on, resize, strengths


def resized(model, batches=(), **changes):
    fields = {name: getattr(model.config, name) for name in MannerConfig.__annotations__ if hasattr(model.config, name)}
    return resize(model, MannerConfig(**{**fields, **changes}), batches)


@pytest.fixture
def audio():
    return torch.randn(2, 9000, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def difference(one, other, audio) -> float:
    """Largest difference of two models' outputs in relation to the first's peak."""
    first, second = one(audio).audio_values, other(audio).audio_values
    return float((first - second).abs().max() / first.abs().max())


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("levels", ["all", "deepest", "none"])
def test_a_multiple_of_the_width_is_the_same_function(times, levels, tiny_model, audio):
    model = tiny_model(attention_levels=levels, high_pass_hz=70)
    assert difference(model, resized(model, hidden_size=6 * times), audio) < 1e-5


def test_another_width_is_next_to_the_same_function(tiny_model, audio):
    model = tiny_model(hidden_size=10, depth=3, attention_levels="deepest")  # 80 channels; thirds of 26 and 41
    assert difference(model, resized(model, hidden_size=16), audio) < 0.05


def test_copies_learn_different_things(tiny_model, audio):
    model = resized(tiny_model(), hidden_size=12).train()
    model(audio, labels=audio.flip(0)).loss.backward()
    for name in ("encoder.0.down", "encoder.1.residual.project", "decoder.0.up", "mask.out"):
        gradient = model.get_submodule(name).weight.grad
        gradient = gradient.transpose(0, 1) if name.endswith("up") else gradient
        assert not torch.allclose(gradient[0], gradient[1], rtol=1e-2)


@pytest.mark.parametrize("batches", [True, False])
def test_added_attention_is_the_identity_and_learns(batches, tiny_model, audio):
    model = tiny_model(attention_levels="deepest")
    grown = resized(model, [audio] if batches else [], attention_levels="all")
    assert difference(model, grown, audio) < 1e-4
    grown.train()
    optimizer = torch.optim.SGD(grown.parameters(), lr=1e-3)
    for _ in range(2):  # the first step opens the gate, whose inside the second reaches
        optimizer.zero_grad()
        grown(audio, labels=audio.flip(0)).loss.backward()
        optimizer.step()
    added = [grown.encoder[0].attention, grown.decoder[0].attention]
    assert all(parameter.grad.any() for block in added for parameter in block.parameters())


def test_added_attention_that_knows_its_input_passes_it_on_in_training_too(tiny_model, audio):
    model = tiny_model(attention_levels="deepest")
    grown = resized(model, [audio], attention_levels="all")
    block, passed = grown.encoder[0].attention, []
    block.register_forward_hook(lambda block, inputs, output: passed.append((inputs[0], output[0])))
    with torch.no_grad():
        grown(audio)
        given = passed[0][0]
        output = block.train()(given)[0]
    assert (output - given).norm() < 1e-3 * given.norm()


def test_a_batch_norm_passes_on_what_it_gets_however_faint_that_is():
    norm = torch.nn.BatchNorm1d(3).eval()
    faint = 1e-3 * torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pass_on(norm, faint.mean(dim=1), faint.var(dim=1))
        torch.testing.assert_close(norm(faint[None])[0], faint, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_batches_are_taken_in_any_type(dtype, tiny_model, audio):
    model = tiny_model(attention_levels="deepest").to(dtype)
    assert resized(model, [audio], attention_levels="all", hidden_size=12).dtype == dtype


def test_narrowing_keeps_the_channels_that_count(tiny_model, audio):
    """Channels that do nothing, put between those of a model, are found and left out."""
    model = tiny_model(hidden_size=6, attention_levels="none")
    wide = resized(model, hidden_size=12)
    with torch.no_grad():
        for norm in (module for module in wide.modules() if isinstance(module, torch.nn.BatchNorm1d)):
            norm.weight.view(-1, 2)[:, 1].mul_(1e-3)
            norm.bias.view(-1, 2)[:, 1].mul_(1e-3)
    narrow = resized(wide, hidden_size=6)
    for name in ("encoder.0.down_norm", "decoder.1.up_norm"):
        kept = narrow.get_submodule(name).weight
        assert torch.equal(kept, model.get_submodule(name).weight)


def test_channels_without_a_norm_count_by_what_gives_them_times_what_reads_them():
    state = {
        "gives.weight": torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 2.0]]), "gives.bias": torch.zeros(3),
        "reads.weight": torch.tensor([[0.0, 3.0, 1.0]]), "reads.bias": torch.zeros(1),
    }  # fmt: skip
    table = [("gives", (), ("inner",)), ("reads", ("inner",), ())]
    assert strengths(state, table)["inner"].tolist() == [0, 1 * 9, 4 * 1]


def test_a_narrowed_model_has_the_statistics_of_the_audio_it_is_given(tiny_model, audio):
    narrow = resized(tiny_model(hidden_size=12), [audio], hidden_size=9)
    norm, inputs = narrow.decoder[0].up_norm, []
    hook = norm.register_forward_pre_hook(lambda norm, given: inputs.append(given[0]))
    with torch.no_grad():
        narrow.train()(audio)
    hook.remove()
    fresh = resized(tiny_model(hidden_size=12), [audio], hidden_size=9)
    torch.testing.assert_close(fresh.decoder[0].up_norm.running_mean, inputs[0].mean(dim=(0, 2)), rtol=1e-4, atol=1e-5)
    assert not fresh.training


def test_attention_may_be_left_out_and_the_model_stays_as_it_was(tiny_model, audio):
    model = tiny_model(attention_levels="all")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    smaller = resized(model, [audio], attention_levels="none", hidden_size=4)
    assert smaller(audio).audio_values.isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_same_seed_gives_the_same_model(tiny_model):
    model = tiny_model()
    state, again = resized(model, hidden_size=10).state_dict(), resized(model, hidden_size=10).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())


@pytest.mark.parametrize(("name", "value"), [("depth", 3), ("stride", 2), ("num_heads", 2), ("sampling_rate", 8000)])
def test_nothing_else_can_be_changed(name, value, tiny_model):
    with pytest.raises(ValueError, match=f"its {name} is .*, got {value}"):
        resized(tiny_model(), **{name: value})
