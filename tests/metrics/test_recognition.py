"""The word error rate to what a recogniser hears in the clean recording."""

import sys

import numpy as np
import pytest

from mvat_hf.metrics import UnscorableError, word_error_rate
from mvat_hf.metrics.recognition import transcribe, word_errors
from mvat_hf.metrics.scoring import METRICS, check_metrics, score_pair
from mvat_hf.utils.errors import MissingExtraError

RATE = 16000


@pytest.mark.parametrize(
    ("expected", "got", "errors"),
    [
        ("", "", 0),
        ("a b c", "a b c", 0),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c", "a x c", 1),
        ("a b c", "b c", 1),
        ("a b c", "a b b c", 1),
        ("a b c d", "b c d e", 2),
        ("kitten", "sitting", 1),
        ("k i t t e n", "s i t t i n g", 3),
    ],
)
def test_edits(expected, got, errors):
    assert word_errors(expected.split(), got.split()) == word_errors(got.split(), expected.split()) == errors


def test_a_missing_recogniser_is_told_before_anything_is_scored(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"pocketsphinx is not installed: pip install 'mvat_hf\[recogniser\]'"):
        check_metrics(["stoi", "word_error_rate"])


def test_what_it_is_not_defined_for():
    with pytest.raises(ValueError, match="16000 Hz, got 8000 Hz"):
        transcribe(np.ones(8000), 8000)
    with pytest.raises(UnscorableError, match="silent"):
        transcribe(np.zeros(RATE), RATE)


class TestRecogniser:
    @pytest.fixture(autouse=True)
    def recogniser(self):
        pytest.importorskip("pocketsphinx", reason="needs mvat_hf[recogniser]")

    def test_noise_makes_errors_and_a_gain_none(self, speech):
        noise = np.random.default_rng(0).standard_normal(len(speech[0]))
        words = transcribe(speech[0], RATE)
        assert len(words) >= 3
        assert word_error_rate(speech[0], speech[0] + 0.1 * noise, RATE) >= 0.5
        assert transcribe(0.5 * speech[0], RATE) == words  # whatever it heard in between

    def test_it_is_a_metric(self, speech):
        assert not METRICS["word_error_rate"].higher_is_better
        score = score_pair("a", speech[1], speech[1], RATE, ["word_error_rate"])
        assert score.scores == {"word_error_rate": 0}

    def test_a_reference_without_a_word_has_no_score(self):
        hiss = 1e-3 * np.random.default_rng(0).standard_normal(RATE // 10)
        with pytest.raises(UnscorableError, match="no word in the reference"):
            word_error_rate(hiss, hiss, RATE)
