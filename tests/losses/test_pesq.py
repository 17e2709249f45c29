"""The PESQ loss: it is what PESQ measures, and it has a gradient everywhere."""

import pytest
import torch

from mvat_hf.losses import pesq_loss
from mvat_hf.losses.pesq import BINS, HERTZ_PER_BARK, THRESHOLDS, WIDTHS, disturbances, over_time, pesq_score
from mvat_hf.metrics import pesq


@pytest.fixture(scope="module")
def pair(speech):
    """Clean and noisy speech, each (1, T)."""
    clean = torch.from_numpy(speech[0])[None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return clean, clean + 0.3 * clean.std() * noise


@pytest.mark.parametrize("gain", [0.01, 0.03, 0.1, 0.3, 1.0])
def test_it_is_what_pesq_measures(pair, gain):
    clean, noisy = pair
    mixture = clean + gain * (noisy - clean)
    measured = pesq(clean[0].numpy(), mixture[0].numpy(), 16000)
    assert pesq_score(mixture, clean).item() == pytest.approx(measured, abs=0.15)


def test_clean_speech_has_the_highest_score(pair):
    clean, noisy = pair
    assert pesq_loss(clean, clean).item() == pytest.approx(-4.644, abs=1e-3)
    assert pesq_loss(clean, clean) < pesq_loss(noisy, clean)


def test_the_level_of_either_recording_does_not_matter(pair):
    clean, noisy = pair
    torch.testing.assert_close(pesq_loss(noisy / 8, clean / 2), pesq_loss(noisy, clean), atol=1e-3, rtol=0)


def test_silence_counts_as_nothing_and_everything_has_a_gradient(pair):
    clean, noisy = pair
    batch = torch.cat([clean, torch.zeros_like(clean)])
    enhanced = torch.cat([noisy, noisy]).requires_grad_()
    loss = pesq_loss(enhanced, batch)
    torch.testing.assert_close(loss, pesq_loss(noisy, clean) / 2)
    loss.backward()
    assert enhanced.grad.isfinite().all() and enhanced.grad[0].any() and not enhanced.grad[1].any()


@pytest.mark.parametrize("samples", [1, 300, 5000])
def test_silent_output_of_any_length_has_a_finite_gradient(samples):
    clean = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    enhanced = torch.zeros_like(clean).requires_grad_()
    pesq_loss(enhanced, clean).backward()
    assert enhanced.grad.isfinite().all()


def test_descending_it_raises_pesq(pair):
    clean, noisy = pair
    enhanced = noisy.clone().requires_grad_()
    optimizer = torch.optim.Adam([enhanced], 1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        pesq_loss(enhanced, clean).backward()
        optimizer.step()
    before, after = (pesq(clean[0].numpy(), audio.detach()[0].numpy(), 16000) for audio in (noisy, enhanced))
    assert after > before + 0.1


def test_a_disturbance_counts_by_its_loudest_frames_in_syllables_of_twenty_that_overlap_by_half():
    disturbance = 10 * torch.rand(2, 40, generator=torch.Generator().manual_seed(0))
    syllables = torch.stack([disturbance[:, start : start + 20] for start in (0, 10, 20)], dim=1)
    sixth = syllables.pow(6).mean(dim=-1).pow(1 / 6)  # (2, syllables)
    torch.testing.assert_close(over_time(disturbance), sixth.square().mean(dim=-1).sqrt())


@pytest.mark.parametrize(("added", "factor"), [(2, 0), (4, 4**1.2), (20, 12), (0.25, 0)])
def test_what_is_added_disturbs_asymmetrically_by_its_ratio_from_three_to_twelve(added, factor):
    """In a single band, where the symmetric disturbance has the same difference of loudness."""
    reference = torch.zeros(1, 1, 49)
    reference[..., 20] = 1e6
    symmetric, asymmetric = disturbances(added * reference, reference)
    assert 0 < symmetric < 45
    assert (asymmetric / symmetric).item() == pytest.approx(factor / sum(WIDTHS[1:]) ** 0.5, rel=1e-3)


def test_tables_are_of_one_length_and_take_all_bins():
    assert {len(table) for table in (BINS, WIDTHS, THRESHOLDS, HERTZ_PER_BARK)} == {49} and sum(BINS) == 256
