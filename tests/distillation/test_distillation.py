"""The distillation methods on real (small) teachers and students."""

import pytest
import torch

from mvat_hf import MannerConfig
from mvat_hf.distillation import METHODS, attention_transfer, build_method, multi_view_attention_transfer
from mvat_hf.distillation.activations import flattened
from mvat_hf.distillation.attention_transfer import SIDES, VIEWS

# the others are tested in tests/training/test_distillation_trainer.py: they hold networks of their own
NAMES = [name for name in METHODS if name not in ("none", "latent-augmentation", "peers")]


@pytest.fixture(scope="module")
def teacher(tiny_model):
    return tiny_model(seed=1, hidden_size=9, depth=3).requires_grad_(False)


@pytest.fixture
def student(tiny_model):
    return tiny_model(seed=2, hidden_size=6, depth=2)


@pytest.fixture(scope="module")
def audio():
    return torch.randn(2, 1111, generator=torch.Generator().manual_seed(0))


def distil(method, student, teacher, audio):
    return total(method, student(audio, **method.forward_options), teacher(audio, **method.forward_options))


def total(method, student, teacher):
    return torch.stack(list(method(student, teacher, {}).values())).sum()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_student_alone(name, student, teacher, audio):
    method = build_method(name)
    method.check(student.config, teacher.config)
    student.train()
    loss = distil(method, student, teacher, audio)
    assert loss.ndim == 0 and loss > 0
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in student.named_parameters() if parameter.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert any(gradient.any() for gradient in gradients.values())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_mvat_trains_every_view_of_the_student(student, teacher, audio):
    distil(build_method("mvat"), student, teacher, audio).backward()
    for side in (student.encoder, student.decoder):
        for block in side:
            for part in (*block.attention.branches, *block.attention.refine, block.attention.global_view):
                assert all(parameter.grad.any() for parameter in part.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_is_detached(name, student, tiny_model, audio):
    other = tiny_model(seed=3, hidden_size=7)  # its parameters could take gradients
    distil(build_method(name), student, other, audio).backward()
    assert all(parameter.grad is None for parameter in other.parameters())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_student_that_is_the_teacher_has_nothing_to_learn(name, teacher, audio):
    assert distil(build_method(name), teacher, teacher, audio) == 0


@torch.no_grad()
def test_methods_are_their_formulas(student, teacher, audio):
    outputs = [model(audio, output_view_features=True, output_hidden_states=True) for model in (student, teacher)]
    mine, theirs = outputs
    torch.testing.assert_close(
        total(build_method("output"), *outputs), (mine.audio_values - theirs.audio_values).abs().mean()
    )
    assert total(build_method("at"), *outputs) == attention_transfer(mine.hidden_states, theirs.hidden_states)
    assert total(build_method("at", p=1), *outputs) == attention_transfer(mine.hidden_states, theirs.hidden_states, 1)
    both = (mine.view_features, theirs.view_features)
    assert total(build_method("mvat"), *outputs) == multi_view_attention_transfer(*both)
    one_view = build_method("mvat", p=3, views=("channel_view",))
    assert total(one_view, *outputs) == multi_view_attention_transfer(*both, 3, ("channel_view",))


@pytest.mark.parametrize("name", ["at", "mvat"])
def test_an_exponent_without_a_gradient_at_zero_is_refused(name):
    with pytest.raises(ValueError, match="p must be at least 1, got 0.5"):
        build_method(name, p=0.5)


@torch.no_grad()
def test_sides_and_views_leave_out_the_others(student, teacher, audio):
    outputs = [model(audio, output_view_features=True) for model in (student, teacher)]
    parts = [build_method("mvat", sides=(side,), views=(view,)) for side in SIDES for view in VIEWS]
    whole = set(flattened(build_method("mvat").compact(outputs[1])))
    assert all(set(flattened(part.compact(outputs[1]))) < whole for part in parts)
    summed = sum(total(part, *outputs) for part in parts)
    torch.testing.assert_close(total(build_method("mvat"), *outputs), summed)


@pytest.mark.parametrize(("options", "message"), [({"views": ("time",)}, "got time"), ({"sides": ()}, "got none")])
def test_unknown_views_and_sides_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_method("mvat", **options)


@torch.no_grad()
@pytest.mark.parametrize("levels", ["all", [1], [0]])
@pytest.mark.parametrize("name", NAMES)
def test_a_teacher_that_ends_where_the_method_does_teaches_the_same(name, levels, teacher, tiny_model, audio):
    method, student = build_method(name), tiny_model(attention_levels=levels)
    last_level = method.last_level(student.config, teacher.config)
    mine = student(audio, **method.forward_options)
    whole, part = (teacher(audio, **method.forward_options, last_level=last) for last in (None, last_level))
    assert torch.equal(total(method, mine, whole), total(method, mine, part))
    if name == "mvat":
        assert last_level == (0 if levels == "all" else levels[0])
        assert part.audio_values is None and f"decoder.{last_level - 1}" not in part.view_features


@torch.no_grad()
def test_methods_add_no_parameters():
    assert all(not list(build_method(name).parameters()) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_another_sampling_rate_is_refused(name):
    with pytest.raises(ValueError, match="got 48000 and 16000 Hz"):
        build_method(name).check(MannerConfig(), MannerConfig(sampling_rate=48000))


@pytest.mark.parametrize("name", ["at", "mvat"])
@pytest.mark.parametrize(("field", "value", "usual"), [("stride", 2, 4), ("kernel_size", 6, 8)])
def test_another_time_resolution_is_refused(name, field, value, usual):
    with pytest.raises(ValueError, match=rf"{field} must be the same, got {usual} \(teacher\) and {value} \(student\)"):
        build_method(name).check(MannerConfig(**{field: value}), MannerConfig())
    build_method("output").check(MannerConfig(**{field: value}), MannerConfig())  # waveforms match anyway


def test_mvat_needs_a_shared_level():
    baseline, student = (MannerConfig.from_preset(name) for name in ("manner-s", "manner-s-8.1gf"))
    with pytest.raises(ValueError, match=r"no level.*encoder\.2.*encoder\.3"):
        build_method("mvat").check(student, baseline)
    with pytest.raises(ValueError, match="no level"):
        build_method("mvat").check(MannerConfig(attention_levels="none"), MannerConfig())
    build_method("at").check(student, baseline)  # level outputs are always there


@pytest.mark.parametrize("student", ["manner-s", "manner-s-20.3gf", "manner-s-8.1gf", "manner-s-2.2gf"])
def test_every_student_of_the_study_has_a_teacher(student):
    for name in NAMES:
        build_method(name).check(MannerConfig.from_preset(student), MannerConfig.from_preset("manner-b"))


@torch.no_grad()
def test_the_shared_blocks_are_those_of_both(tiny_model, audio):
    """A student with attention at one level is compared there alone."""
    student, teacher = tiny_model(depth=3, attention_levels=[1]), tiny_model(depth=2, hidden_size=8)
    method = build_method("mvat")
    outputs = [model(audio, **method.forward_options) for model in (student, teacher)]
    mine = outputs[0].view_features
    assert set(mine) == {"encoder.1", "decoder.1"}
    theirs = {block: outputs[1].view_features[block] for block in mine}
    assert total(method, *outputs) == multi_view_attention_transfer(mine, theirs)
