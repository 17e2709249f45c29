"""The SI-SDR loss against the metric it is made of, and what a loss must do at its edges."""

import pytest
import torch

from mvat_hf.losses import si_sdr_loss
from mvat_hf.metrics import si_sdr


def pair(level: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(enhanced, clean), each (1, T), with noise at `level` of the speech."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 16000, generator=generator)
    return clean + level * noise, clean


@pytest.mark.parametrize("level", [3.0, 1.0, 0.3])
def test_it_is_the_negative_metric_well_below_its_ceiling(level):
    enhanced, clean = pair(level)
    metric = si_sdr(clean[0].numpy(), enhanced[0].numpy())
    assert -si_sdr_loss(enhanced, clean).item() == pytest.approx(metric, abs=0.1)


def test_nothing_is_gained_above_30_db():
    _, clean = pair(0)
    assert -si_sdr_loss(clean, clean).item() == pytest.approx(30, abs=0.01)


def test_scale_does_not_matter():
    enhanced, clean = pair(0.5)
    assert si_sdr_loss(7 * enhanced, clean).item() == pytest.approx(si_sdr_loss(enhanced, clean).item(), abs=1e-4)


def test_silence_counts_as_nothing_and_has_a_finite_gradient():
    enhanced, clean = pair(0.5)
    batch = torch.cat([enhanced, enhanced]).requires_grad_()
    loss = si_sdr_loss(batch, torch.cat([clean, torch.zeros_like(clean)]))
    loss.backward()
    assert loss.item() == pytest.approx(si_sdr_loss(enhanced, clean).item() / 2, abs=1e-5)
    assert batch.grad.isfinite().all()
    assert not batch.grad[1].any()
    assert batch.grad[0].any()
