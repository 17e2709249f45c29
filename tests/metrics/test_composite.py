"""Composite measures: upstream's numbers on real pairs, and what must hold for any pair."""

import json

import numpy as np
import pytest

from conftest import REPOSITORY
from mvat_hf.data.audio import find_audio, read_mono
from mvat_hf.metrics import UnscorableError, composite, segmental_snr, stoi

RATE = 16000


def pair_of(shared, name: str) -> list[np.ndarray]:
    """(clean, noisy) of an entry of composite_metrics.json."""
    if name.startswith("dns_"):
        root, pattern = shared / "data/dns/datasets/test_set/synthetic/no_reverb", f"*fileid_{name[4:]}.flac"
        folders = ("clean", "noisy")
    else:
        root, pattern, folders = shared / "data/valentini", f"{name}.flac", ("clean_testset_wav", "noisy_testset_wav")
    return [read_mono(next((root / folder).glob(pattern)), RATE) for folder in folders]


@pytest.mark.parametrize("name", ["p232_001", "p232_002", "p232_005", "dns_133", "dns_178", "dns_0"])
def test_upstream_numbers(shared, name):
    wanted = json.loads((shared / "reference/composite_metrics.json").read_text())[name]
    clean, noisy = pair_of(shared, name)
    scores = {**composite(clean, noisy, RATE), "stoi": stoi(clean, noisy, RATE)}
    assert {key: scores[key] for key in wanted} == pytest.approx(wanted, abs=1e-3)


def test_upstream_numbers_in_any_clone():
    """The scores of a pair of ours on the day on which those of the six pairs above were upstream's."""
    clean, noisy = (read_mono(REPOSITORY / f"scripts/demo/sample_{side}.flac", RATE) for side in ("clean", "noisy"))
    noisy = clean + 0.1 * (noisy - clean)
    wanted = {"csig": 3.4263, "cbak": 3.3272, "covl": 2.6308, "pesq": 1.8193, "ssnr": 15.1752, "stoi": 0.9906}
    scores = {**composite(clean, noisy, RATE), "stoi": stoi(clean, noisy, RATE)}
    assert {key: scores[key] for key in wanted} == pytest.approx(wanted, abs=1e-3)


@pytest.fixture
def speech():
    return read_mono(find_audio(REPOSITORY / "scripts/demo/speech/anna")[0], RATE)


def test_more_noise_scores_less(speech):
    noise = np.random.default_rng(0).standard_normal(len(speech)) * speech.std()
    scores = [composite(speech, speech + level * noise, RATE) for level in (0.03, 0.3)]
    assert all(scores[0][key] > scores[1][key] for key in ("csig", "cbak", "covl", "pesq", "ssnr"))
    assert all(scores[0][key] < scores[1][key] for key in ("llr", "wss"))
    assert all(1 <= score[key] <= 5 for score in scores for key in ("csig", "cbak", "covl"))


def test_a_copy_has_no_spectral_distance(speech):
    scores = composite(speech, 0.5 * speech, RATE)
    assert scores["llr"] == pytest.approx(0, abs=1e-9)
    assert scores["ssnr"] == pytest.approx(35)


def test_segmental_snr_of_a_known_ratio():
    rng = np.random.default_rng(0)
    clean, noise = rng.standard_normal((2, 4 * RATE))
    noise[np.argmax(np.abs(clean))] = 0  # so that matching the peaks leaves the level alone
    noisy = clean + 0.1 * noise
    noisy = noisy.clip(-np.abs(clean).max(), np.abs(clean).max())
    assert segmental_snr(clean, noisy, RATE) == pytest.approx(20, abs=0.1)


def test_silence_has_no_score(speech):
    with pytest.raises(UnscorableError):
        composite(np.zeros_like(speech), speech, RATE)
