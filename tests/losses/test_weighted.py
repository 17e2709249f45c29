"""Terms beside the enhancement loss: added by their weights, logged as what is to rise or fall."""

import pytest
import torch

from mvat_hf.losses import TERMS, compressed_spectral_loss, snr_loss, with_terms


@pytest.fixture(scope="module")
def pair():
    """(enhanced, clean), each (2, T)."""
    clean, noise = torch.randn(2, 2, 8000, generator=torch.Generator().manual_seed(0))
    return clean + 0.3 * noise, clean


def test_terms_are_added_by_their_weights_and_logged_without(pair):
    loss, terms = with_terms(torch.tensor(2.0), *pair, {"snr": 0.5, "compressed": 3.0, "pesq": 0.0})
    snr, compressed = (TERMS[name](*pair) for name in ("snr", "compressed"))
    torch.testing.assert_close(loss, 2 + 0.5 * snr + 3 * compressed)
    assert terms == {"snr": -snr, "compressed": compressed}


def test_what_is_to_rise_is_logged_as_it_is_measured(pair):
    enhanced, clean = pair
    _, terms = with_terms(torch.tensor(0.0), *pair, {"snr": 1.0})
    measured = 10 * torch.log10(clean.square().sum(dim=-1) / (enhanced - clean).square().sum(dim=-1))
    assert terms["snr"].item() == pytest.approx(measured.mean().item(), abs=0.1) and terms["snr"] == -snr_loss(*pair)


def test_the_compressed_distance_may_be_logarithmic(pair):
    _, terms = with_terms(torch.tensor(0.0), *pair, {"compressed": 1.0}, compressed_log=True)
    assert terms["compressed"] == compressed_spectral_loss(*pair, True) != compressed_spectral_loss(*pair)
