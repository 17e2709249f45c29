"""The formulas of the rivals: what their distances see and what they do not, for any widths and depths."""

import pytest
import torch

from mvat_hf.distillation import Stage, build_method
from mvat_hf.distillation.at_kl import kl_divergence
from mvat_hf.distillation.peers import mimicry
from mvat_hf.distillation.two_step import gram_distance, gram_matrix


def features(channels=4, frames=100, seed=0, batch=3):
    return torch.randn(batch, channels, frames, generator=torch.Generator().manual_seed(seed))


def test_a_gram_matrix_is_of_moments_and_blind_to_rotations_of_the_channels():
    hidden = features()
    rotation = torch.linalg.qr(features(4, 4, 5, 1)[0]).Q
    assert gram_matrix(hidden, 10).shape == (3, 10, 10)
    assert gram_distance(rotation @ hidden, 3 * hidden) < 1e-6
    assert gram_distance(torch.cat([hidden, hidden], dim=1), hidden) < 1e-6  # a network twice as wide
    assert gram_distance(hidden.roll(20, dims=-1), hidden) > 0.1


@pytest.mark.parametrize(("channels", "frames"), [(9, 100), (2, 90), (1, 7)])
def test_widths_and_lengths_may_differ(channels, frames):
    other = features(channels, frames, 1)
    for name in ("at", "at-kl", "two-step"):
        method = build_method(name, modules={"mine": "theirs"})
        mine = features().requires_grad_()
        teacher = other.clone().requires_grad_()
        terms = method({"mine": mine}, {"theirs": teacher}, {})
        sum(terms.values()).backward()
        assert all(value.isfinite() and value >= 0 for value in terms.values())
        assert mine.grad.isfinite().all() and mine.grad.any() and teacher.grad is None


def test_the_gradient_is_finite_in_silence():
    for name in ("at-kl", "two-step"):
        mine = torch.zeros(2, 4, 50, requires_grad=True)
        terms = build_method(name, modules={"a": "b"})({"a": mine}, {"b": torch.zeros(2, 6, 50)}, {})
        sum(terms.values()).backward()
        assert mine.grad.isfinite().all()


def test_two_steps_are_one_after_the_other():
    method = build_method("two-step", first=0.3)
    assert [method.stage(progress) for progress in (0, 0.29, 0.3, 1)] == [Stage(0, 1)] * 2 + [Stage(1, 0)] * 2


def test_divergence_is_zero_for_the_same_and_above_for_others():
    one, other = torch.rand(3, 20), torch.rand(3, 20)
    assert kl_divergence(one, 5 * one) < 1e-5 < kl_divergence(one, other)


def test_the_weight_of_the_divergence():
    given = ({"a": features()}, {"b": features(seed=1)}, {})
    once, twice = (build_method("at-kl", kl_weight=weight, modules={"a": "b"})(*given) for weight in (1, 2))
    assert twice["at"] == once["at"] and twice["kl"] == 2 * once["kl"]


def test_the_privileged_teacher_hears_more_of_the_speech():
    clean, noise = features(1, 800)[:, 0], features(1, 800, 1)[:, 0]
    heard = build_method("mvat-privileged", snr_gain=20)
    inputs = {"input_values": clean + noise, "labels": clean}
    torch.testing.assert_close(heard.teacher_input(inputs), clean + 0.1 * noise)
    same = build_method("mvat-privileged", snr_gain=0)
    assert same.teacher_input(inputs) is inputs["input_values"]
    with pytest.raises(ValueError, match=r"needs the clean audio \(labels\), got input_values"):
        heard.teacher_input({"input_values": clean})


def test_mvat_and_output_are_the_sum_of_both(tiny_model):
    audio = features(1, 1500)[:, 0]
    outputs = [tiny_model(seed=seed)(audio, output_view_features=True) for seed in (1, 2)]
    both = build_method("mvat-output", output_weight=3.0)(*outputs, {})
    assert both["mvat"] == build_method("mvat")(*outputs, {})["mvat"]
    assert both["output"] == 3 * build_method("output")(*outputs, {})["output"]


def test_peers_mimic_the_mean_of_the_others_and_pass_no_gradient():
    heard = [features(1, 50, seed)[:, 0].requires_grad_() for seed in range(3)]
    distance = mimicry(heard, 1)
    torch.testing.assert_close(distance, (heard[1] - (heard[0] + heard[2]) / 2).abs().mean())
    distance.backward()
    assert heard[0].grad is None and heard[2].grad is None and heard[1].grad.any()


def test_the_peers_losses_do_not_reach_the_student(tiny_model):
    method, student = build_method("peers"), tiny_model()
    method.prepare(student, None)
    noisy = features(1, 4000)[:, 0]
    terms = method(student(noisy), {}, {"input_values": noisy, "labels": 0.5 * noisy})
    terms["peers"].backward()
    assert all(parameter.grad is None for parameter in student.parameters())
    assert all(parameter.grad is not None for parameter in method.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("two-step", {"first": 1.5}, "first must be a share of the run from 0 to 1, got 1.5"),
        ("two-step", {"bins": 1}, "bins must be at least 2, got 1"),
        ("at-kl", {"temperature": 0}, "temperature above 0, got 1.0 and 0"),
        ("at", {"modules": {}}, "modules must have a pair"),
        ("at", {"modules": {"view_features": "inner"}}, "must be names of modules, got view_features"),
        ("mvat-output", {"output_weight": -1}, "output_weight must be at least 0, got -1"),
        ("mvat-privileged", {"snr_gain": -3}, "snr_gain must be at least 0 dB, got -3"),
        ("latent-augmentation", {"hidden_share": 1}, "hidden_share must be from 0 to below 1"),
        ("peers", {"targets": ["stoi"]}, "targets must be one or more of snr, compressed, pesq, got stoi"),
        ("mvat", {"q": 1}, '"mvat" has no option q, expected p, views, sides'),
        ("none", {"p": 1}, '"none" has no option p, expected none'),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        build_method(name, **options)
