"""The compressed spectral distance: zero for the same signal, blind to level, heard in quiet bins, safe on silence."""

import pytest
import torch

from mvat_hf.losses import compressed_spectral_loss


def noise(seed: int) -> torch.Tensor:
    """(2, T) white noise."""
    return torch.randn(2, 8000, generator=torch.Generator().manual_seed(seed))


def test_the_same_signal_has_no_distance():
    assert compressed_spectral_loss(noise(0), noise(0)).item() == 0


@pytest.mark.parametrize("gain", [1e-3, 10.0])
def test_the_level_of_a_recording_does_not_matter(gain):
    enhanced, clean = noise(1), noise(0)
    plain = compressed_spectral_loss(enhanced, clean).item()
    assert compressed_spectral_loss(gain * enhanced, gain * clean).item() == pytest.approx(plain, rel=1e-3)


def test_a_batch_is_the_mean_of_its_items_whatever_their_levels():
    clean = torch.tensor([[1.0], [100.0]]) * noise(0)
    enhanced = clean + torch.tensor([[0.1], [50.0]]) * noise(1)
    alone = [compressed_spectral_loss(enhanced[[item]], clean[[item]]) for item in (0, 1)]
    torch.testing.assert_close(compressed_spectral_loss(enhanced, clean), sum(alone) / 2)


def test_quiet_bins_count_for_more_than_their_energy():
    clean = noise(0)
    near, nearer = (compressed_spectral_loss(clean + level * noise(1), clean).item() for level in (0.1, 0.01))
    assert near > nearer > near / 100  # in energy it would be the hundredth part


def test_a_wrong_sign_costs_a_fifth_more_than_silence():
    """0.3 of four times the power of the compressed spectrum, as twice it is amiss; silence costs all of it once, less
    a little, as magnitudes have a floor."""
    clean = noise(0)
    negative, silent = (compressed_spectral_loss(gain * clean, clean).item() for gain in (-1, 0))
    assert negative == pytest.approx(1.2 * silent, rel=0.05)


def test_silence_has_a_finite_distance_and_gradient():
    enhanced = noise(0).requires_grad_()
    loss = compressed_spectral_loss(enhanced, torch.zeros(2, 8000))
    loss.backward()
    assert loss.isfinite()
    assert enhanced.grad.isfinite().all()
    silent = torch.zeros(2, 8000).requires_grad_()
    compressed_spectral_loss(silent, noise(1)).backward()
    assert silent.grad.isfinite().all()


def test_by_its_logarithm_every_item_counts_alike():
    clean = noise(0)
    enhanced = (clean + torch.tensor([[0.3], [3.0]]) * noise(2)).requires_grad_()
    pulls = []
    for logarithmic in (False, True):
        (gradient,) = torch.autograd.grad(compressed_spectral_loss(enhanced, clean, logarithmic), enhanced)
        distances = [compressed_spectral_loss(enhanced[[item]], clean[[item]]).item() for item in (0, 1)]
        # by how much a step along its own error would lower each item's distance
        pulls.append([(gradient[item] * (enhanced - clean)[item]).sum().item() for item in (0, 1)])
    assert pulls[0][1] / pulls[0][0] == pytest.approx(distances[1] / distances[0], rel=1.0)
    assert pulls[1][1] / pulls[1][0] < 2 < pulls[0][1] / pulls[0][0]
