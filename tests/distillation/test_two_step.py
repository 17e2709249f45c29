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


def test_a_gram_matrix_is_the_formula():
    (hidden,) = features(frames=12, batch=1)
    moments = hidden.unflatten(-1, (4, 3)).mean(dim=-1)  # (channels, moments)
    alike = torch.stack(
        [torch.stack([torch.cosine_similarity(one, other, dim=0) for other in moments.T]) for one in moments.T]
    )
    torch.testing.assert_close(gram_matrix(hidden[None], 4)[0], alike / alike.norm(dim=-1, keepdim=True))


def test_the_distance_is_of_rows_a_mean_over_moments_and_batch():
    mine, theirs = features(frames=30), features(7, 30, seed=1)
    rows = gram_matrix(mine, 5) - gram_matrix(theirs, 5)
    torch.testing.assert_close(gram_distance(mine, theirs, 5), rows.norm(dim=-1).square().mean())


def test_two_steps_are_one_after_the_other():
    method = build_method("two-step", first=0.3)
    assert [method.stage(progress) for progress in (0, 0.29, 0.3, 1)] == [Stage(0, 1)] * 2 + [Stage(1, 0)] * 2
