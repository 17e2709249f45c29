"""The table of metrics, and scoring of many pairs in a pool of processes while the caller goes on enhancing."""

import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from threading import Thread
from time import sleep
from typing import Any

import numpy as np

from ..utils.cores import usable_cores
from ..utils.errors import extra, need
from .composite import llr, opinions, segmental_snr, wss
from .intrusive import UnscorableError, UsageError, estoi, pesq, si_sdr, stoi
from .nonintrusive import check_dnsmos, dnsmos
from .recognition import check_recogniser, word_error_rate


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
    """A metric as tables and pictures show it: title, format of a mean, the score of a pair; and the packages of the
    extra `evaluation` that it takes."""

    title: str
    format: str
    score: Callable[[Pair], float]
    packages: tuple[str, ...] = ()
    higher_is_better: bool = True

    def show(self, value: float, sign: str = "") -> str:
        """A score as tables show it; `sign` "+" shows its sign always."""
        return self.format.replace("{:", "{:" + sign).format(value)


PESQ, STOI, SCIPY = ("pesq", "scipy"), ("pystoi",), ("scipy",)


# by key, in the order of the tables
METRICS = {
    "pesq": Metric("PESQ-WB", "{:.2f}", lambda pair: pair.of(pesq), PESQ),
    "pesq_nb": Metric("PESQ-NB", "{:.2f}", lambda pair: pair.of(pesq_nb), PESQ),
    "stoi": Metric("STOI", "{:.1%}", lambda pair: pair.of(stoi), STOI),
    "estoi": Metric("ESTOI", "{:.1%}", lambda pair: pair.of(estoi), STOI),
    "csig": Metric("CSIG", "{:.2f}", lambda pair: opinions_of(pair)["csig"], PESQ),
    "cbak": Metric("CBAK", "{:.2f}", lambda pair: opinions_of(pair)["cbak"], PESQ),
    "covl": Metric("COVL", "{:.2f}", lambda pair: opinions_of(pair)["covl"], PESQ),
    "llr": Metric("LLR", "{:.2f}", lambda pair: pair.of(llr), SCIPY, higher_is_better=False),
    "wss": Metric("WSS", "{:.1f}", lambda pair: pair.of(wss), higher_is_better=False),
    "ssnr": Metric("SSNR (dB)", "{:.2f}", lambda pair: pair.of(segmental_snr)),
    "si_sdr": Metric("SI-SDR (dB)", "{:.2f}", lambda pair: pair.of(si_sdr)),
    "dnsmos_sig": Metric("DNSMOS SIG", "{:.2f}", lambda pair: pair.of(dnsmos_of_degraded)["sig"]),
    "dnsmos_bak": Metric("DNSMOS BAK", "{:.2f}", lambda pair: pair.of(dnsmos_of_degraded)["bak"]),
    "dnsmos_ovrl": Metric("DNSMOS OVRL", "{:.2f}", lambda pair: pair.of(dnsmos_of_degraded)["ovrl"]),
    "dnsmos_p808": Metric("DNSMOS P.808", "{:.2f}", lambda pair: pair.of(dnsmos_of_degraded)["p808"]),
    "word_error_rate": Metric("WER to clean", "{:.1%}", lambda pair: pair.of(word_error_rate), higher_is_better=False),
}

QUICK = ("pesq", "stoi", "si_sdr")  # for validation while training
FULL = ("pesq", "pesq_nb", "stoi", "estoi", "csig", "cbak", "covl", "ssnr", "si_sdr")  # for an evaluation
DNSMOS = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808")  # on request: needs an extra

TITLES = {key: METRICS[key].title for key in QUICK}

# of workers: fork is fast and safe here (they run numpy and C only); elsewhere it is not to be relied on
START = "fork" if sys.platform == "linux" else "spawn"


@dataclass(frozen=True)
class FileScore:
    """Scores of one file by metric, or the reason why it has none."""

    id: str
    scores: dict[str, float]
    failure: str | None = None


def score_pair(
    name: str, reference: np.ndarray, degraded: np.ndarray, sampling_rate: int, metrics: Sequence[str] = QUICK
) -> FileScore:
    """The metrics of one pair, arrays (time,); one undefined metric makes the file a failure.

    Raises:
        UsageError: a metric is not defined at `sampling_rate`, whatever the pair.
    """
    pair = Pair(reference, degraded, sampling_rate)
    scores: dict[str, float] = {}
    for key in metrics:
        try:
            scores[key] = METRICS[key].score(pair)
        except UsageError:
            raise
        except UnscorableError as error:
            return FileScore(name, {}, str(error))
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            return FileScore(name, {}, f"{METRICS[key].title}: {error}")
        if not math.isfinite(scores[key]):
            return FileScore(name, {}, f"{METRICS[key].title} is {scores[key]}, expected a finite number")
    return FileScore(name, scores)


def check_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    """The keys themselves.

    Raises:
        ValueError: one that is not in `METRICS`. MissingExtraError: one takes a package that is not installed.
    """
    keys = tuple(metrics)
    unknown = [key for key in keys if key not in METRICS]
    if unknown or not keys:
        raise ValueError(f"expected metrics of {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}")
    for key in keys:
        need("evaluation", *METRICS[key].packages)
    if set(keys) & set(DNSMOS):
        check_dnsmos()
    if "word_error_rate" in keys:
        check_recogniser()
    return keys


def leading_metric(metrics: Sequence[str]) -> str:
    """The metric that pictures show where they show one: PESQ-WB if it is among `metrics`, else the first."""
    return "pesq" if "pesq" in metrics else metrics[0]


def load_packages(metrics: Iterable[str]) -> None:
    """Import what `metrics` take: workers that are forked have it then, of which each would take a second for it."""
    with extra("evaluation"):
        for package in sorted({package for key in metrics for package in METRICS[key].packages}):
            import_module("scipy.signal" if package == "scipy" else package)


class ScoringPool:
    """
    Process pool for `score_pair`; a context manager, good for any number of rounds.

    When a worker is killed, or a pair crashes it, the pool is built anew, and every pair that was outstanding is scored
    alone in a process of its own: what ends that too is a failure of that file.

    Args:
        processes: by default one per core. The scores do not depend on it.
        metrics: keys of `METRICS`.

    Raises:
        ValueError, MissingExtraError: see `check_metrics`.
    """

    def __init__(self, processes: int | None = None, metrics: Iterable[str] = QUICK):
        self.metrics = check_metrics(metrics)
        self.processes = processes or usable_cores()
        if START == "fork":
            load_packages(self.metrics)
        self.executor = start_workers(self.processes)

    def submit(self, name: str, reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> "PendingScore":
        """Score a pair in the background."""
        arguments = (name, reference, degraded, sampling_rate, self.metrics)
        try:
            work = self.executor.submit(score_pair, *arguments)
        except BrokenProcessPool:
            self.executor.shutdown()
            self.executor = start_workers(self.processes)
            work = self.executor.submit(score_pair, *arguments)
        return PendingScore(work, arguments)

    def __enter__(self) -> "ScoringPool":
        return self

    def __exit__(self, *exception):
        self.executor.shutdown(cancel_futures=True)


class PendingScore:
    """A pair that is being scored; it keeps the pair until its pool has scored it."""

    def __init__(self, work: "Future[FileScore]", arguments: tuple):
        self.work = work
        self.arguments: tuple | None = arguments
        work.add_done_callback(self.release)

    def release(self, work: "Future[FileScore]") -> None:
        """Let go of the pair, unless it is to be scored once more."""
        if work.cancelled() or not isinstance(work.exception(), BrokenProcessPool):
            self.arguments = None

    def done(self) -> bool:
        """Whether the pool has no more to do with it."""
        return self.work.done()

    def result(self, timeout: float | None = None) -> FileScore:
        """The score, waited for at most `timeout` seconds; a pair that a lost worker had is scored here, once."""
        try:
            return self.work.result(timeout)
        except BrokenProcessPool:
            assert self.arguments is not None
            self.work = Future()
            self.work.set_result(score_alone(*self.arguments))
            self.arguments = None
            return self.work.result()


def score_alone(name: str, *arguments) -> FileScore:
    """`score_pair` in a process of its own; a failure where that process does not survive it."""
    with start_workers(1) as executor:
        try:
            return executor.submit(score_pair, name, *arguments).result()
        except BrokenProcessPool:
            return FileScore(name, {}, "scoring it ended the process twice: a metric crashed, or memory ran out")


def start_workers(processes: int) -> ProcessPoolExecutor:
    """Worker processes that end when this one does, however it ends, and at Ctrl-C, which all get, without a word."""
    context = multiprocessing.get_context(START)
    return ProcessPoolExecutor(processes, context, initializer=prepare_worker, initargs=(os.getpid(),))


def prepare_worker(parent: int) -> None:
    """End this process at Ctrl-C without a traceback, and within a second or two of the process `parent` that started
    it, even if that one was killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def watch():
        while os.getppid() == parent:
            sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def mean_scores(scores: Sequence[FileScore]) -> dict[str, float]:
    """Mean of every metric over the files that have scores; empty if none has."""
    scored = [score.scores for score in scores if score.failure is None]
    return {key: float(np.mean([score[key] for score in scored])) for key in scored[0]} if scored else {}
