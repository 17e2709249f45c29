"""The disturbance loss: what it must vanish on, what it must mind, and that it ranks noisy speech as PESQ does."""

import numpy as np
import pytest
import torch

from mvat_hf.losses import disturbance_loss
from mvat_hf.losses.disturbance import band_centres, band_powers, filterbank, loudness
from mvat_hf.metrics import pesq


@pytest.fixture(scope="module")
def pair(speech):
    """Clean and noisy speech, each (1, T)."""
    clean = torch.from_numpy(speech[0])[None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return clean, clean + 0.3 * clean.std() * noise


def test_nothing_is_disturbed_in_clean_speech(pair):
    clean, noisy = pair
    assert disturbance_loss(clean, clean) < 1e-4 < 1e-2 < disturbance_loss(noisy, clean)


def test_the_level_of_the_recording_does_not_matter(pair):
    clean, noisy = pair
    torch.testing.assert_close(disturbance_loss(noisy / 8, clean / 8), disturbance_loss(noisy, clean))


def test_added_noise_counts_more_than_removed_speech(pair):
    """What the asymmetric part is for: the same change in loudness is worse where it is added."""
    clean, noisy = pair
    assert disturbance_loss(noisy, clean) > disturbance_loss(clean, noisy)


def test_more_noise_disturbs_more_and_pesq_agrees(pair):
    clean, noisy = pair
    mixtures = [clean + gain * (noisy - clean) for gain in (0.1, 0.3, 1.0)]
    losses = [disturbance_loss(mixture, clean).item() for mixture in mixtures]
    scores = [pesq(clean[0].numpy(), mixture[0].numpy(), 16000) for mixture in mixtures]
    assert losses == sorted(losses) and scores == sorted(scores, reverse=True)


def test_silence_counts_as_nothing_and_everything_has_a_gradient(pair):
    clean, noisy = pair
    batch = torch.cat([clean, torch.zeros_like(clean)])
    enhanced = torch.cat([noisy, noisy]).requires_grad_()
    loss = disturbance_loss(enhanced, batch)
    torch.testing.assert_close(loss, disturbance_loss(noisy, clean) / 2)
    loss.backward()
    assert enhanced.grad.isfinite().all() and enhanced.grad[0].any() and not enhanced.grad[1].any()


def test_bands_divide_the_spectrum(pair):
    bank = filterbank("cpu")
    torch.testing.assert_close(bank.sum(dim=1), torch.ones(len(bank)))
    centres = band_centres("cpu")
    assert centres[0].abs() < 1e-3 and abs(centres[-1] - 8000) < 1 and (centres.diff() > 0).all()
    clean = pair[0] / pair[0].square().mean().sqrt()
    assert 10 * band_powers(clean).sum(dim=-1).mean().log10() == pytest.approx(79, abs=1)


def test_a_tone_of_40_db_at_1_khz_is_about_a_sone():
    """Which is how the unit is defined; over the bands that it excites, each 0.5 Bark wide."""
    time = torch.arange(16000) / 16000
    tone = torch.sin(2 * torch.pi * 1000 * time)[None]
    tone = tone / tone.square().mean().sqrt() * 10 ** ((40 - 79) / 20)
    sones = (loudness(band_powers(tone)) * 0.45).sum(dim=-1).median()
    assert 0.3 < sones < 2


def test_frames_of_silence_do_not_change_the_mean_of_others(pair):
    clean, noisy = pair
    quiet = torch.zeros(1, 16000)
    padded = disturbance_loss(torch.cat([noisy, quiet], 1), torch.cat([clean, quiet], 1))
    assert np.isfinite(padded.item()) and padded < disturbance_loss(noisy, clean)
