"""The `evaluate` metric, by class and by path: the functions' numbers, failures listed, arrays of any length."""

import math
import threading

import evaluate
import numpy as np
import pytest

import mvat_hf.metrics
from mvat_hf.metrics import composite, pesq, si_sdr, stoi
from mvat_hf.metrics.scoring import DNSMOS, FULL
from mvat_hf.metrics.speech_metrics import SpeechMetrics

RATE = 16000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Evaluate's files under the test's own folder."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")


@pytest.fixture(scope="module")
def pairs(speech):
    """(clean, noisy) lists of three sentences of unequal length, float32."""
    rng = np.random.default_rng(0)
    clean = [audio[: 24000 + 4000 * number] for number, audio in enumerate(speech[:3])]
    return clean, [(audio + 0.02 * rng.standard_normal(len(audio))).astype(np.float32) for audio in clean]


def mean(function, clean, noisy):
    return pytest.approx(np.mean([function(*pair, RATE) for pair in zip(clean, noisy, strict=True)]))


def test_default_set_is_the_functions_means(pairs):
    clean, noisy = pairs
    scores = SpeechMetrics().compute(predictions=noisy, references=clean, sampling_rate=RATE)
    expected = {function.__name__: mean(function, clean, noisy) for function in (pesq, stoi, si_sdr)}
    assert scores == {**expected, "scored": 3, "failures": []}


@pytest.mark.parametrize(
    ("name", "keys"), [("csig", {"csig"}), ("composite", {"pesq", "csig", "cbak", "covl", "llr", "wss", "ssnr"})]
)
def test_by_path(name, keys, pairs):
    clean, noisy = ([audio[:24000]] for audio in (pairs[0][0], pairs[1][0]))
    scores = evaluate.load(mvat_hf.metrics.MODULE, name).compute(
        predictions=noisy, references=clean, sampling_rate=RATE
    )
    expected = composite(clean[0], noisy[0], RATE)
    assert {key: scores[key] for key in keys} == pytest.approx({key: expected[key] for key in keys})
    assert set(scores) == keys | {"scored", "failures"}


def test_batches_and_lists_are_the_same_as_one_call(pairs):
    clean, noisy = pairs
    metric = SpeechMetrics("si_sdr")
    metric.add_batch(predictions=noisy[:2], references=clean[:2])
    metric.add(prediction=noisy[2].tolist(), reference=clean[2].tolist())
    assert metric.compute(sampling_rate=RATE) == SpeechMetrics("si_sdr").compute(
        predictions=noisy, references=clean, sampling_rate=RATE
    )


def test_long_recordings():
    lengths = (4 * RATE, 60 * RATE, 4 * RATE)
    clean = [np.random.default_rng(number).standard_normal(length) for number, length in enumerate(lengths)]
    noisy = [audio + 0.1 * np.roll(audio, 1) for audio in clean]
    scores = SpeechMetrics("si_sdr").compute(predictions=noisy, references=clean, sampling_rate=RATE)
    assert scores["scored"] == 3 and scores["si_sdr"] == pytest.approx(20, abs=0.2)


def test_failures_are_listed_and_not_scored(pairs):
    clean, noisy = pairs
    broken = [noisy[0], np.zeros_like(noisy[1]), noisy[2][:-1]]
    scores = SpeechMetrics("stoi").compute(predictions=broken, references=clean, sampling_rate=RATE)
    assert scores["scored"] == 1 and scores["stoi"] == pytest.approx(stoi(clean[0], noisy[0], RATE))
    assert [failure["index"] for failure in scores["failures"]] == [1, 2]
    assert scores["failures"][0]["reason"] == "the degraded is silent"
    nothing = SpeechMetrics("stoi").compute(predictions=broken[1:2], references=clean[1:2], sampling_rate=RATE)
    assert nothing["scored"] == 0 and math.isnan(nothing["stoi"])


def test_processes_that_share_the_work(pairs, tmp_path):
    clean, noisy = pairs
    results = {}

    def work(rank):
        metric = SpeechMetrics(
            "si_sdr", num_process=2, process_id=rank, experiment_id="two", cache_dir=str(tmp_path), timeout=30
        )
        metric.add_batch(predictions=noisy[rank::2], references=clean[rank::2])
        results[rank] = metric.compute(sampling_rate=RATE)

    workers = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results[1] is None
    assert results[0]["scored"] == 3 and results[0]["si_sdr"] == mean(si_sdr, clean, noisy)


def test_dnsmos_takes_no_references(pairs):
    pytest.importorskip("librosa", reason="needs mvat_hf[dnsmos]")
    pytest.importorskip("speechmos", reason="needs mvat_hf[dnsmos]")
    scores = SpeechMetrics("dnsmos").compute(predictions=pairs[1][:1], sampling_rate=RATE)
    assert set(scores) == {*DNSMOS, "scored", "failures"} and scores["scored"] == 1


def test_it_says_what_it_is():
    full = SpeechMetrics("full")
    assert full.metrics == FULL and full.config_name == "full"
    assert "PESQ-WB, PESQ-NB, STOI" in full.description
    assert full.citation.count("\n") == 4 and "Loizou" in full.citation
    assert "sampling_rate" in full.inputs_description


def test_mistakes_of_the_caller(pairs):
    with pytest.raises(ValueError, match="got mos"):
        SpeechMetrics("mos")
    with pytest.raises(ValueError, match="44100 Hz"):
        SpeechMetrics("pesq").compute(predictions=pairs[1], references=pairs[0], sampling_rate=44100)
    with pytest.raises(ValueError, match="number of predictions"):
        SpeechMetrics("si_sdr").compute(predictions=pairs[1], references=pairs[0][:2], sampling_rate=RATE)
