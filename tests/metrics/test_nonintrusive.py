"""DNSMOS: it falls with noise, needs no reference, and hears the level; what it refuses."""

import numpy as np
import pytest

from mvat_hf.metrics import UnscorableError, dnsmos

pytest.importorskip("speechmos", reason="needs mvat_hf[dnsmos]")
pytest.importorskip("librosa", reason="needs mvat_hf[dnsmos]")
pytest.importorskip("onnxruntime", reason="needs mvat_hf[dnsmos]")

RATE = 16000


@pytest.fixture(scope="module")
def sentences(speech):
    """About 10 s of speech."""
    return np.concatenate(speech)[: 10 * RATE]


def test_noise_lowers_every_score(sentences):
    noise = np.random.default_rng(0).standard_normal(len(sentences))
    clean, noisy = dnsmos(sentences, RATE), dnsmos(sentences + 0.05 * noise, RATE)
    assert set(clean) == {"sig", "bak", "ovrl", "p808"}
    assert all(1 <= noisy[key] < clean[key] <= 5 for key in clean)


def test_short_recordings_are_repeated(sentences):
    short = sentences[: 5 * RATE]
    assert dnsmos(short, RATE) == dnsmos(np.tile(short, 2), RATE)


def test_level_counts_and_clipping_is_that_of_a_file(sentences):
    assert abs(dnsmos(0.01 * sentences, RATE)["ovrl"] - dnsmos(sentences, RATE)["ovrl"]) > 0.05
    loud = 2 * sentences / np.abs(sentences).max()
    assert dnsmos(loud, RATE) == dnsmos(loud.clip(-1, 1), RATE)


@pytest.mark.parametrize("kind", ["int16", "int32"])
def test_integers_are_those_of_a_file(kind, sentences):
    scale = np.iinfo(kind).max + 1
    stored = np.rint(0.9 * scale * sentences / np.abs(sentences).max()).astype(kind)
    assert dnsmos(stored, RATE) == dnsmos(stored / scale, RATE)


def test_what_it_is_not_defined_for():
    with pytest.raises(UnscorableError, match="degraded is silent"):
        dnsmos(np.zeros(RATE), RATE)
    with pytest.raises(UnscorableError, match=r"\(2, 16000\)"):
        dnsmos(np.ones((2, RATE)), RATE)
    with pytest.raises(ValueError, match="48000 Hz"):
        dnsmos(np.ones(48000), 48000)
