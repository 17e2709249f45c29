"""AT-KL: a divergence of energies beside their distance, by its weight."""

import torch

from mvat_hf.distillation import build_method
from mvat_hf.distillation.at_kl import kl_divergence
from random_features import features


def test_divergence_is_zero_for_the_same_and_above_for_others():
    one, other = torch.rand(3, 20), torch.rand(3, 20)
    assert kl_divergence(one, 5 * one) < 1e-5 < kl_divergence(one, other)


def test_the_weight_of_the_divergence():
    given = ({"a": features()}, {"b": features(seed=1)}, {})
    once, twice = (build_method("at-kl", kl_weight=weight, modules={"a": "b"})(*given) for weight in (1, 2))
    assert twice["at"] == once["at"] and twice["kl"] == 2 * once["kl"]
