"""The table of metrics, and scoring of many pairs in a pool of processes while the caller goes on enhancing."""

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cores import usable_cores
from .composite import llr, opinions, segmental_snr, wss
from .intrusive import UnscorableError, estoi, pesq, si_sdr, stoi
from .nonintrusive import check_dnsmos, dnsmos


class Pair:
    """A reference and a degraded recording (time,), whose measures are computed when asked for, each once."""

    def __init__(self, reference: np.ndarray, degraded: np.ndarray, sampling_rate: int):
        self.signals = (reference, degraded, sampling_rate)
        self.known: dict[Callable, Any] = {}

    def of(self, measure: Callable[[np.ndarray, np.ndarray, int], Any]) -> Any:
        """What `measure` gives for the pair."""
        if measure not in self.known:
            self.known[measure] = measure(*self.signals)
        return self.known[measure]


def pesq_nb(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> float:
    """PESQ's narrow-band mode."""
    return pesq(reference, degraded, sampling_rate, mode="nb")


def opinions_of(pair: Pair) -> dict[str, float]:
    """CSIG, CBAK and COVL."""
    return opinions(pair.of(pesq), pair.of(llr), pair.of(wss), pair.of(segmental_snr))


def dnsmos_of_degraded(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """DNSMOS, which needs no reference."""
    return dnsmos(degraded, sampling_rate)


@dataclass(frozen=True)
class Metric:
    """A metric as tables and pictures show it: title, format of a mean, the score of a pair."""

    title: str
    format: str
    score: Callable[[Pair], float]
    higher_is_better: bool = True


# by key, in the order of the tables
METRICS = {
    "pesq": Metric("PESQ-WB", "{:.2f}", lambda pair: pair.of(pesq)),
    "pesq_nb": Metric("PESQ-NB", "{:.2f}", lambda pair: pair.of(pesq_nb)),
    "stoi": Metric("STOI", "{:.1%}", lambda pair: pair.of(stoi)),
    "estoi": Metric("ESTOI", "{:.1%}", lambda pair: pair.of(estoi)),
    "csig": Metric("CSIG", "{:.2f}", lambda pair: opinions_of(pair)["csig"]),
    "cbak": Metric("CBAK", "{:.2f}", lambda pair: opinions_of(pair)["cbak"]),
    "covl": Metric("COVL", "{:.2f}", lambda pair: opinions_of(pair)["covl"]),
    "llr": Metric("LLR", "{:.2f}", lambda pair: pair.of(llr), higher_is_better=False),
    "wss": Metric("WSS", "{:.1f}", lambda pair: pair.of(wss), higher_is_better=False),
    "ssnr": Metric("SSNR (dB)", "{:.2f}", lambda pair: pair.of(segmental_snr)),
    "si_sdr": Metric("SI-SDR (dB)", "{:.2f}", lambda pair: pair.of(si_sdr)),
    "dnsmos_sig": Metric("DNSMOS SIG", "{:.2f}", lambda pair: pair.of(dnsmos_of_degraded)["sig"]),
    "dnsmos_bak": Metric("DNSMOS BAK", "{:.2f}", lambda pair: pair.of(dnsmos_of_degraded)["bak"]),
    "dnsmos_ovrl": Metric("DNSMOS OVRL", "{:.2f}", lambda pair: pair.of(dnsmos_of_degraded)["ovrl"]),
    "dnsmos_p808": Metric("DNSMOS P.808", "{:.2f}", lambda pair: pair.of(dnsmos_of_degraded)["p808"]),
}

QUICK = ("pesq", "stoi", "si_sdr")  # for validation while training
FULL = ("pesq", "pesq_nb", "stoi", "estoi", "csig", "cbak", "covl", "ssnr", "si_sdr")  # for an evaluation
DNSMOS = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808")  # on request: needs an extra

TITLES = {key: METRICS[key].title for key in QUICK}


@dataclass(frozen=True)
class FileScore:
    """Scores of one file by metric, or the reason why it has none."""

    id: str
    scores: dict[str, float]
    failure: str | None = None


def score_pair(
    name: str, reference: np.ndarray, degraded: np.ndarray, sampling_rate: int, metrics: Sequence[str] = QUICK
) -> FileScore:
    """The metrics of one pair, arrays (time,); one undefined metric makes the file a failure."""
    pair = Pair(reference, degraded, sampling_rate)
    try:
        return FileScore(name, {key: METRICS[key].score(pair) for key in metrics})
    except UnscorableError as error:
        return FileScore(name, {}, str(error))


def check_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    """The keys themselves.

    Raises:
        ValueError: one that is not in `METRICS`. MissingExtraError: DNSMOS, and its packages are not installed.
    """
    keys = tuple(metrics)
    unknown = [key for key in keys if key not in METRICS]
    if unknown or not keys:
        raise ValueError(f"expected metrics of {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}")
    if set(keys) & set(DNSMOS):
        check_dnsmos()
    return keys


class ScoringPool:
    """
    Process pool for `score_pair`; a context manager, good for any number of rounds.

    Args:
        processes: by default one per core. The scores do not depend on it.
        metrics: keys of `METRICS`.

    Raises:
        ValueError, MissingExtraError: see `check_metrics`.
    """

    def __init__(self, processes: int | None = None, metrics: Iterable[str] = QUICK):
        self.metrics = check_metrics(metrics)
        # fork is fast and safe here (workers run numpy and C only); elsewhere it is not to be relied on
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self.executor = ProcessPoolExecutor(processes or usable_cores(), mp_context=context)

    def submit(self, name: str, reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> "Future[FileScore]":
        """Score a pair in the background; ChildProcessError, here or as the result, if a worker was killed."""
        promised: Future[FileScore] = Future()
        try:
            work = self.executor.submit(score_pair, name, reference, degraded, sampling_rate, self.metrics)
        except BrokenProcessPool as error:
            raise worker_lost() from error
        work.add_done_callback(lambda done: hand_on(done, promised))
        return promised

    def __enter__(self) -> "ScoringPool":
        return self

    def __exit__(self, *exception):
        self.executor.shutdown(cancel_futures=True)


def hand_on(done: "Future[FileScore]", promised: "Future[FileScore]") -> None:
    """Pass what a future holds to another, with a broken pool told as what it is: a worker that was killed."""
    if done.cancelled():
        promised.cancel()
    elif isinstance(done.exception(), BrokenProcessPool):
        promised.set_exception(worker_lost())
    elif (error := done.exception()) is not None:
        promised.set_exception(error)
    else:
        promised.set_result(done.result())


def worker_lost() -> ChildProcessError:
    """What is known when a worker is gone."""
    return ChildProcessError("a scoring process was killed, perhaps for want of memory: score with fewer processes")


def mean_scores(scores: Sequence[FileScore]) -> dict[str, float]:
    """Mean of every metric over the files that have scores; empty if none has."""
    scored = [score.scores for score in scores if score.failure is None]
    return {key: float(np.mean([score[key] for score in scored])) for key in scored[0]} if scored else {}
