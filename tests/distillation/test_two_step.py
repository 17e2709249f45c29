"""Two-step distillation: Gram matrices see moments, whatever the channels are, and the steps follow one another."""

import torch

from mvat_hf.distillation import Stage, build_method
from mvat_hf.distillation.two_step import gram_distance, gram_matrix
from random_features import features


def test_a_gram_matrix_is_of_moments_and_blind_to_rotations_of_the_channels():
    hidden = features(frames=100)
    rotation = torch.linalg.qr(features(4, 4, 5, 1)[0]).Q
    assert gram_matrix(hidden, 10).shape == (3, 10, 10)
    assert gram_distance(rotation @ hidden, 3 * hidden) < 1e-6
    assert gram_distance(torch.cat([hidden, hidden], dim=1), hidden) < 1e-6  # a network twice as wide
    assert gram_distance(hidden.roll(20, dims=-1), hidden) > 0.1


def test_two_steps_are_one_after_the_other():
    method = build_method("two-step", first=0.3)
    assert [method.stage(progress) for progress in (0, 0.29, 0.3, 1)] == [Stage(0, 1)] * 2 + [Stage(1, 0)] * 2
