"""AT-KL: a divergence of energies beside their distance, by its weight."""

import pytest
import torch

from mvat_hf.distillation import build_method
from mvat_hf.distillation.at_kl import kl_divergence
from random_features import features


def test_divergence_is_zero_for_the_same_and_above_for_others():
    one, other = torch.rand(3, 20), torch.rand(3, 20)
    assert kl_divergence(one, 5 * one) < 1e-5 < kl_divergence(one, other)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_divergence_is_of_the_students_distribution_from_the_teachers(temperature):
    """sum T log(T / S): where the teacher has nothing, what the student has costs nothing."""
    mine, theirs = (torch.rand(3, 20, generator=torch.Generator().manual_seed(seed)) + 0.01 for seed in (0, 1))
    student, teacher = ((energy ** (1 / temperature)).double() for energy in (mine, theirs))
    student, teacher = (energy / energy.sum(dim=-1, keepdim=True) for energy in (student, teacher))
    expected = (teacher * (teacher / student).log()).sum(dim=-1).mean()
    assert kl_divergence(mine, theirs, temperature).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_order_of_the_channels_does_not_matter():
    hidden = features(frames=100) * torch.tensor([0.3, 1, 2, 5])[:, None]
    terms = build_method("at-kl", modules={"a": "b"})({"a": hidden}, {"b": hidden[:, [2, 0, 3, 1]]}, {})
    assert all(value < 1e-5 for value in terms.values())


def test_the_weight_of_the_divergence():
    given = ({"a": features()}, {"b": features(seed=1)}, {})
    once, twice = (build_method("at-kl", kl_weight=weight, modules={"a": "b"})(*given) for weight in (1, 2))
    assert twice["at"] == once["at"] and twice["kl"] == 2 * once["kl"]
