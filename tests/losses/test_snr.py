"""The SNR loss against its definition, and what a loss must do at its edges."""

import pytest
import torch

from mvat_hf.losses import snr_loss


def pair(level: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(enhanced, clean), each (1, T), with noise at `level` of the speech."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 16000, generator=generator)
    return clean + level * noise * clean.norm() / noise.norm(), clean


@pytest.mark.parametrize(("level", "snr"), [(10**0.5, -10), (1.0, 0), (10**-0.5, 10)])
def test_it_is_the_negative_ratio_well_below_its_ceiling(level, snr):
    assert -snr_loss(*pair(level)).item() == pytest.approx(snr, abs=0.05)


def test_nothing_is_gained_above_30_db():
    _, clean = pair(0)
    assert -snr_loss(clean, clean).item() == pytest.approx(30, abs=0.01)


def test_sign_and_scale_matter():
    _, clean = pair(0)
    assert -snr_loss(-clean, clean).item() == pytest.approx(-6, abs=0.05)
    assert -snr_loss(0.5 * clean, clean).item() == pytest.approx(6, abs=0.05)


def test_silence_counts_as_nothing_and_has_a_finite_gradient():
    enhanced, clean = pair(0.5)
    batch = torch.cat([enhanced, enhanced]).requires_grad_()
    loss = snr_loss(batch, torch.cat([clean, torch.zeros_like(clean)]))
    loss.backward()
    assert loss.item() == pytest.approx(snr_loss(enhanced, clean).item() / 2, abs=1e-5)
    assert batch.grad.isfinite().all()
    assert not batch.grad[1].any()
    assert batch.grad[0].any()
