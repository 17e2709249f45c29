"""Latent feature augmentation: whole frames are hidden, and noise is added to the rest and to them."""

import pytest
import torch

from mvat_hf.distillation import build_method
from mvat_hf.distillation.latent_augmentation import standardised
from random_features import features


def test_whole_frames_are_hidden_in_the_share_that_was_asked_for():
    torch.manual_seed(0)
    augmented = build_method("latent-augmentation", hidden_share=0.25, noise=0.0).augmented(torch.ones(2, 5, 4000))
    shown = augmented.bool()
    assert torch.equal(shown.any(dim=1), shown.all(dim=1)) and set(augmented.unique().tolist()) == {0, 1}
    assert shown.float().mean().item() == pytest.approx(0.75, abs=0.02)


def test_noise_has_the_deviation_that_was_asked_for():
    torch.manual_seed(0)
    augmented = build_method("latent-augmentation", hidden_share=0.0, noise=0.3).augmented(torch.ones(2, 5, 4000))
    assert (augmented - 1).std().item() == pytest.approx(0.3, rel=0.05)


def test_items_are_standardised_and_their_channels_keep_their_ratios():
    hidden = features() * torch.tensor([0.1, 2.0, 50.0])[:, None, None] + 3  # each item at a level of its own
    hidden[:, 0] = 3 + 5 * (hidden[:, 1] - 3)
    result = standardised(hidden)
    torch.testing.assert_close(result.mean(dim=(1, 2)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(result.std(dim=(1, 2), correction=0), torch.ones(3), rtol=1e-2, atol=0)
    torch.testing.assert_close(result[:, 0].std(dim=-1), 5 * result[:, 1].std(dim=-1))


def test_the_deepest_level_of_the_encoder_that_both_have_is_read():
    mine = {f"{side}.{level}": features(seed=level) for side in ("encoder", "decoder") for level in (0, 2, 10, 11)}
    theirs = {name: features(7, seed=1) for name in mine if not name.endswith("11")}
    pairs = build_method("latent-augmentation").pairs({"hidden_states": mine}, {"hidden_states": theirs})
    assert pairs.keys() == {"encoder.10"} and torch.equal(pairs["encoder.10"][0], mine["encoder.10"])
