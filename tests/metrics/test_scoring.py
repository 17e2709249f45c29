"""Scoring in processes: the numbers of a direct call, and failures reported, never scored."""

import os
import signal
import sys

import numpy as np
import pytest

import mvat_hf.metrics.scoring as scoring
from mvat_hf.errors import MissingExtraError
from mvat_hf.metrics import composite, estoi, pesq, si_sdr, stoi
from mvat_hf.metrics.scoring import DNSMOS, FULL, METRICS, QUICK, FileScore, ScoringPool, mean_scores, score_pair


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


def test_the_full_set_is_the_functions(pairs):
    clean, noisy = pairs["file_1"]
    scores = score_pair("file_1", clean, noisy, 16000, FULL).scores
    measures = composite(clean, noisy, 16000)
    assert tuple(scores) == FULL
    assert scores == {
        "pesq": measures["pesq"],
        "pesq_nb": pesq(clean, noisy, 16000, mode="nb"),
        "stoi": stoi(clean, noisy, 16000),
        "estoi": estoi(clean, noisy, 16000),
        **{key: measures[key] for key in ("csig", "cbak", "covl", "ssnr")},
        "si_sdr": si_sdr(clean, noisy, 16000),
    }


def test_measures_that_metrics_share_are_computed_once(pairs):
    calls = []

    def counted(*signals):
        calls.append(len(signals))
        return 1.0

    pair = scoring.Pair(*pairs["file_0"], 16000)
    assert [pair.of(counted) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert calls == [3]


def test_the_direction_of_every_metric(pairs):
    clean, noisy = pairs["file_0"]
    much = clean + 20 * (noisy - clean)
    keys = [key for key in METRICS if key not in DNSMOS]
    little, more = (score_pair("file", clean, degraded, 16000, keys).scores for degraded in (noisy, much))
    for key in keys:
        assert (little[key] > more[key]) == METRICS[key].higher_is_better, key


@pytest.mark.parametrize("metrics", [QUICK, ("ssnr", "covl", "estoi")])
@pytest.mark.parametrize("processes", [1, 3])
def test_processes_change_nothing(processes, metrics, pairs):
    direct = {name: score_pair(name, *pair, 16000, metrics) for name, pair in pairs.items()}
    with ScoringPool(processes, metrics) as pool:
        for _ in range(2):  # the pool is good for more than one round
            futures = {name: pool.submit(name, *pair, 16000) for name, pair in pairs.items()}
            scores = {name: future.result() for name, future in futures.items()}
            assert scores == direct  # to the bit, and each under its own name


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_worker_is_told_and_nothing_hangs(processes, speech):
    audio = np.tile(speech[0], 5)  # more than the pipe to the worker holds
    with ScoringPool(processes) as pool:
        futures = [pool.submit(str(number), audio, audio + 0.01, 16000) for number in range(20)]
        os.kill(next(iter(pool.executor._processes)), signal.SIGKILL)
        with pytest.raises(ChildProcessError, match="scoring process was killed"):
            for future in futures:
                future.result(timeout=60)
        with pytest.raises(ChildProcessError, match="scoring process was killed"):
            pool.submit("next", audio, audio, 16000)


def test_unknown_metrics_are_refused_at_once():
    with pytest.raises(ValueError, match="expected metrics of pesq, .*, got pseq"):
        ScoringPool(1, ("stoi", "pseq"))
    with pytest.raises(ValueError, match="got none"):
        ScoringPool(1, ())


def test_a_missing_package_is_told_before_anything_is_scored(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"librosa is not installed: pip install 'mvat_hf\[dnsmos\]'"):
        ScoringPool(1, DNSMOS)


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
