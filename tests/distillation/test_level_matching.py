"""What all methods that match levels can compare: features of any widths and lengths, silence too."""

import pytest
import torch

from mvat_hf.distillation import build_method
from mvat_hf.distillation.levels import same_length
from random_features import features


@pytest.mark.parametrize(("channels", "frames"), [(9, 100), (2, 90), (1, 7)])
def test_widths_and_lengths_may_differ(channels, frames):
    other = features(channels, frames, 1)
    for name in ("at", "at-kl", "two-step"):
        method = build_method(name, modules={"mine": "theirs"})
        mine = features(frames=100).requires_grad_()
        teacher = other.clone().requires_grad_()
        terms = method({"mine": mine}, {"theirs": teacher}, {})
        sum(terms.values()).backward()
        assert all(value.isfinite() and value >= 0 for value in terms.values())
        assert mine.grad.isfinite().all() and mine.grad.any() and teacher.grad is None


def test_features_of_unlike_lengths_are_averaged_to_the_shortest():
    short, long = features(frames=5), features(7, 15, seed=1)
    for one, other in (same_length(short, long), reversed(same_length(long, short))):
        assert torch.equal(one, short)
        torch.testing.assert_close(other, long.unflatten(-1, (5, 3)).mean(dim=-1))


def test_the_gradient_is_finite_in_silence():
    for name in ("at-kl", "two-step"):
        mine = torch.zeros(2, 4, 50, requires_grad=True)
        terms = build_method(name, modules={"a": "b"})({"a": mine}, {"b": torch.zeros(2, 6, 50)}, {})
        sum(terms.values()).backward()
        assert mine.grad.isfinite().all()
