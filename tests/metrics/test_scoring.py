"""Scoring in processes: the numbers of a direct call, and failures reported, never scored."""

import numpy as np
import pytest

from mvat_hf.metrics import pesq, si_sdr, stoi
from mvat_hf.metrics.scoring import FileScore, ScoringPool, mean_scores, score_pair


@pytest.fixture(scope="module")
def pairs(speech):
    """Three sentences in noise, one that is silent and one that holds NaN."""
    rng = np.random.default_rng(0)
    pairs = {}
    for number, audio in enumerate(speech[:3]):
        clean = audio[:32000]
        pairs[f"file_{number}"] = (clean, clean + 0.02 * (number + 1) * rng.standard_normal(len(clean)))
    clean, noisy = pairs["file_0"]
    pairs["silent"] = (np.zeros_like(clean), noisy)
    pairs["broken"] = (clean, np.where(np.arange(len(noisy)) == 7, np.nan, noisy))
    return pairs


@pytest.fixture(scope="module")
def direct(pairs):
    return {name: score_pair(name, clean, noisy, 16000) for name, (clean, noisy) in pairs.items()}


def test_scores_are_the_metrics(pairs, direct):
    clean, noisy = pairs["file_1"]
    score = direct["file_1"]
    assert isinstance(score, FileScore) and score.id == "file_1" and score.failure is None
    for metric in (pesq, stoi, si_sdr):
        assert score.scores[metric.__name__] == metric(clean, noisy, 16000)


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_change_nothing(processes, pairs, direct):
    with ScoringPool(processes) as pool:
        futures = {name: pool.submit(name, clean, noisy, 16000) for name, (clean, noisy) in pairs.items()}
        scores = {name: future.result() for name, future in futures.items()}
    assert scores == direct  # to the bit, and each under its own name


def test_a_file_without_a_score_says_why(direct):
    assert (direct["silent"].scores, direct["silent"].failure) == ({}, "the reference is silent")
    assert (direct["broken"].scores, direct["broken"].failure) == ({}, "the degraded holds NaN or infinity")
    assert all(direct[f"file_{number}"].failure is None for number in range(3))


def test_one_undefined_metric_makes_the_file_a_failure(pairs):
    clean, noisy = (audio[10000:14500] for audio in pairs["file_0"])  # enough for PESQ and SI-SDR, too short for STOI
    assert pesq(clean, noisy, 16000) > 1
    score = score_pair("short", clean, noisy, 16000)
    assert score.scores == {} and score.failure.startswith("STOI")


def test_mistakes_of_the_caller_are_no_failures_of_a_file(pairs):
    with ScoringPool(1) as pool, pytest.raises(ValueError, match="44100 Hz"):
        pool.submit("file", *pairs["file_0"], 44100).result()


def test_means_are_over_the_scored_files(direct):
    means = mean_scores(list(direct.values()))
    assert set(means) == set(direct["file_0"].scores) >= {"pesq", "stoi", "si_sdr"}
    for name, mean in means.items():
        assert mean == pytest.approx(sum(direct[f"file_{number}"].scores[name] for number in range(3)) / 3)
    assert mean_scores([]) == {}
    assert mean_scores([direct["silent"], direct["broken"]]) == {}
