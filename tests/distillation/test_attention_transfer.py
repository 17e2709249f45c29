"""Attention maps and their distance: the invariances that let teacher and student be of any width and depth."""

import math

import pytest
import torch

from mvat_hf.distillation import attention_distance, attention_map, attention_transfer, multi_view_attention_transfer
from mvat_hf.distillation.attention_transfer import VIEWS
from random_features import features


def views(seed, channels=4, frames=20):
    return {view: features(channels, frames, 10 * seed + number) for number, view in enumerate(VIEWS)}


@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_map_is_the_formula(p):
    hidden = features()
    result = attention_map(hidden, p)
    for item, row in zip(hidden, result, strict=True):
        energy = [sum(abs(float(value)) ** p for value in item[:, frame]) for frame in range(20)]
        norm = math.sqrt(sum(value**2 for value in energy))
        torch.testing.assert_close(row, torch.tensor(energy) / norm)


def test_p_defaults_to_two_and_matters():
    first, second = features(), features(seed=1)
    assert attention_distance(first, second) == attention_distance(first, second, 2)
    assert attention_distance(first, second) != attention_distance(first, second, 1)


def test_identical_features_are_at_distance_zero():
    assert attention_distance(features(), features()) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda hidden: 7 * hidden,
        lambda hidden: 1e-4 * hidden,
        lambda hidden: -hidden,
        lambda hidden: hidden * torch.tensor([0.1, 2.0, 50.0])[:, None, None],  # each item by itself
        lambda hidden: hidden[:, [2, 0, 3, 1]],
        lambda hidden: torch.cat([hidden, hidden], dim=1),  # a network twice as wide
        lambda hidden: torch.cat([hidden, torch.zeros(3, 5, 20)], dim=1),
    ],
)
def test_what_a_map_does_not_see(change):
    hidden, other = features(), features(seed=1)
    assert attention_distance(change(hidden), hidden) < 1e-6
    torch.testing.assert_close(attention_distance(change(hidden), other), attention_distance(hidden, other))


def test_a_map_sees_time():
    hidden = features()
    assert attention_distance(hidden.roll(1, dims=-1), hidden) > 0.1


def test_distance_is_symmetric_bounded_and_a_mean_over_the_batch():
    one, other = features(), features(seed=1)
    torch.testing.assert_close(attention_distance(one, other), attention_distance(other, one))
    alone = [attention_distance(first[None], second[None]) for first, second in zip(one, other, strict=True)]
    torch.testing.assert_close(attention_distance(one, other), torch.stack(alone).mean())
    # maps are unit vectors without negative entries: at most a right angle apart, where they never meet
    early, late = torch.zeros(1, 2, 10), torch.zeros(1, 2, 10)
    early[..., :5], late[..., 5:] = 1, 1
    assert float(attention_distance(early, late)) == pytest.approx(math.sqrt(2))


def test_widths_may_differ():
    assert attention_distance(features(4), features(9)).isfinite()


@pytest.mark.parametrize("longer", ["student", "teacher"])
def test_the_longer_map_is_cut_at_its_end(longer):
    short, long = features(frames=20), features(frames=23, seed=1)
    cut = attention_distance(short, long[..., :20])
    pair = (short, long) if longer == "teacher" else (long, short)
    torch.testing.assert_close(attention_distance(*pair), cut)


def test_the_teacher_gets_no_gradient():
    student, teacher = features().requires_grad_(), features(seed=1).requires_grad_()
    attention_distance(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.any()


def test_gradient_is_that_of_finite_differences():
    student, teacher = features(frames=6, batch=2).requires_grad_(), features(frames=6, batch=2, seed=1)
    attention_distance(student, teacher).backward()
    direction, step = features(frames=6, batch=2, seed=2), 1e-2  # float32 inside: no smaller step
    ahead, behind = (attention_distance(student.detach() + sign * step * direction, teacher) for sign in (1, -1))
    assert float((ahead - behind) / (2 * step)) == pytest.approx(float((student.grad * direction).sum()), rel=1e-2)


@pytest.mark.parametrize("case", ["silent student", "silent teacher", "identical", "tiny"])
@pytest.mark.parametrize("p", [1, 2, 4])
def test_gradient_is_finite(case, p):
    student, teacher = features(), features(seed=1)
    if case == "silent student":
        student = torch.zeros_like(student)
    if case == "silent teacher":
        teacher = torch.zeros_like(teacher)
    if case == "identical":
        student = teacher
    if case == "tiny":
        student = 1e-9 * student
    student = student.clone().requires_grad_()
    distance = attention_distance(student, teacher, p)
    distance.backward()
    assert distance.isfinite() and student.grad.isfinite().all()


def test_half_precision_is_compared_in_float32():
    assert attention_map(features().bfloat16()).dtype == torch.float32


def test_mvat_sums_over_shared_blocks_and_views():
    student = {"encoder.0": views(0), "encoder.1": views(1, frames=9), "decoder.1": views(2)}
    teacher = {"encoder.1": views(3, 7, 10), "decoder.1": views(4, 8), "encoder.2": views(5)}
    expected = sum(
        attention_distance(student[block][view], teacher[block][view])
        for block in ("encoder.1", "decoder.1")
        for view in VIEWS
    )
    torch.testing.assert_close(multi_view_attention_transfer(student, teacher), expected)
    one = attention_distance(student["encoder.1"]["local_view"], teacher["encoder.1"]["local_view"], 3)
    one = one + attention_distance(student["decoder.1"]["local_view"], teacher["decoder.1"]["local_view"], 3)
    torch.testing.assert_close(multi_view_attention_transfer(student, teacher, 3, ("local_view",)), one)


def test_mvat_of_a_model_with_itself_is_zero():
    student = {"encoder.0": views(0), "decoder.0": views(1)}
    assert multi_view_attention_transfer(student, student) == 0


def test_at_sums_over_shared_levels():
    student = {"encoder.0": features(), "decoder.0": features(3, seed=1)}
    teacher = {"encoder.0": features(8, seed=2), "decoder.0": features(5, 22, seed=3), "encoder.1": features()}
    for p in (1, 2):
        expected = sum(attention_distance(student[block], teacher[block], p) for block in student)
        torch.testing.assert_close(attention_transfer(student, teacher, p), expected)


@pytest.mark.parametrize("transfer", [attention_transfer, multi_view_attention_transfer])
def test_no_shared_level_is_an_error_that_shows_both(transfer):
    with pytest.raises(ValueError) as caught:
        transfer({"encoder.2": views(0), "decoder.2": views(1)}, {"encoder.3": views(2)})
    message = str(caught.value)
    assert all(part in message for part in ("encoder.2", "decoder.2", "encoder.3", "attention_levels"))
    with pytest.raises(ValueError, match="the student has none"):
        transfer({}, {"encoder.3": views(2)})
