"""Scoring in processes: the numbers of a direct call, and failures reported, never scored."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mvat_hf.metrics.scoring as scoring
from mvat_hf.metrics import composite, estoi, pesq, si_sdr, stoi
from mvat_hf.metrics.scoring import DNSMOS, FULL, METRICS, QUICK, FileScore, ScoringPool, mean_scores, score_pair
from mvat_hf.utils.errors import MissingExtraError


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
    # a recogniser makes little of the demo's synthetic voices
    keys = [key for key in METRICS if key not in (*DNSMOS, "word_error_rate")]
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
def test_a_killed_worker_costs_no_score(processes, speech):
    audio = np.tile(speech[0], 5)  # more than the pipe to the worker holds
    degraded = audio + 0.01 * np.random.default_rng(0).standard_normal(len(audio))
    with ScoringPool(processes, ("si_sdr",)) as pool:
        pending = [pool.submit(str(number), audio, degraded, 16000) for number in range(20)]
        os.kill(next(iter(pool.executor._processes)), signal.SIGKILL)
        scores = [one.result(timeout=60) for one in pending]
        scores.append(pool.submit("20", audio, degraded, 16000).result(timeout=60))  # the pool is good again
    assert [score.id for score in scores] == [str(number) for number in range(21)]
    assert {score.scores["si_sdr"] for score in scores} == {si_sdr(audio, degraded)}


def crash_if_loud(reference, degraded, sampling_rate):
    """As C code that writes beyond its memory."""
    if np.abs(reference).max() > 0.9:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="a patched metric reaches forked workers only")
def test_a_pair_that_crashes_its_process_is_a_failure_of_that_file_alone(monkeypatch):
    crashing = scoring.Metric("Crashing", "{:.2f}", lambda pair: pair.of(crash_if_loud))
    monkeypatch.setitem(METRICS, "crashing", crashing)
    quiet, loud = np.full(100, 0.1), np.ones(100)
    with ScoringPool(2, ("crashing",)) as pool:
        pending = [pool.submit(str(number), loud if number == 3 else quiet, quiet, 16000) for number in range(8)]
        scores = [one.result(timeout=60) for one in pending]
    assert [score.id for score in scores if score.failure] == ["3"]
    assert "ended the process twice" in scores[3].failure


ORPHANS = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs in the background ignore it
from mvat_hf.metrics.scoring import ScoringPool
import numpy as np
with ScoringPool(2, ("si_sdr",)) as pool:
    noise = np.random.default_rng(0).standard_normal((2, 100))
    [pool.submit("a", *noise, 16000).result() for _ in range(4)]
    print(*pool.executor._processes, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are looked for in /proc")
def test_workers_end_with_a_parent_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True) as parent:
        workers = parent.stdout.readline().split()
        assert workers and all(alive(worker) for worker in workers)
        parent.kill()
    end = time.monotonic() + 20
    while any(alive(worker) for worker in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [worker for worker in workers if alive(worker)]


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Ctrl-C in a terminal is for a group of processes")
def test_workers_end_at_ctrl_c_without_a_word():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", ORPHANS], **pipes) as parent:
        assert len(parent.stdout.readline().split()) == 2
        os.killpg(parent.pid, signal.SIGINT)
        told = parent.communicate(timeout=60)[1]
    assert told.count("Traceback") == 1 and told.endswith("KeyboardInterrupt\n")  # that of the parent


def alive(process: str) -> bool:
    """Whether a process runs: is there, and no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


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


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, np.linalg.LinAlgError])
def test_an_error_of_a_metric_is_a_failure_with_its_reason(error, monkeypatch):
    def broken(pair):
        raise error("no such number")

    monkeypatch.setitem(METRICS, "broken", scoring.Metric("Broken", "{:.2f}", broken))
    score = score_pair("file", np.ones(10), np.ones(10), 16000, ["broken"])
    assert (score.scores, score.failure) == ({}, "Broken: no such number")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_a_failure(value, monkeypatch):
    monkeypatch.setitem(METRICS, "broken", scoring.Metric("Broken", "{:.2f}", lambda pair: value))
    assert f"Broken is {value}" in score_pair("file", np.ones(10), np.ones(10), 16000, ["broken"]).failure


def test_a_degraded_that_vanishes_in_single_precision_is_a_failure(pairs):
    clean, _ = pairs["file_0"]
    assert score_pair("faint", clean, clean * 1e-25, 16000, ["pesq"]).failure.startswith("the degraded is silent: ")


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
