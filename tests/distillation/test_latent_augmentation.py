"""Latent feature augmentation: whole frames are hidden, and noise is added to the rest and to them."""

import pytest
import torch

from mvat_hf.distillation import build_method


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
