"""Scoring of many pairs in a pool of processes, while the caller goes on enhancing."""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..cores import usable_cores
from .intrusive import UnscorableError, pesq, si_sdr, stoi

# what files are scored by, in the order of the tables, and how tables and pictures call it
METRICS: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {"pesq": pesq, "stoi": stoi, "si_sdr": si_sdr}
TITLES = {"pesq": "PESQ-WB", "stoi": "STOI", "si_sdr": "SI-SDR (dB)"}


@dataclass(frozen=True)
class FileScore:
    """Scores of one file by metric, or the reason why it has none."""

    id: str
    scores: dict[str, float]
    failure: str | None = None


def score_pair(name: str, reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> FileScore:
    """All `METRICS` of one pair, arrays (time,); one undefined metric makes the file a failure."""
    try:
        return FileScore(name, {key: metric(reference, degraded, sampling_rate) for key, metric in METRICS.items()})
    except UnscorableError as error:
        return FileScore(name, {}, str(error))


class ScoringPool:
    """
    Process pool for `score_pair`; a context manager.

    Args:
        processes: by default one per core. The scores do not depend on it.
    """

    def __init__(self, processes: int | None = None):
        # fork is fast and safe here (workers run numpy and C only); elsewhere it is not to be relied on
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self.executor = ProcessPoolExecutor(processes or usable_cores(), mp_context=context)

    def submit(self, name: str, reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> "Future[FileScore]":
        """Score a pair in the background."""
        return self.executor.submit(score_pair, name, reference, degraded, sampling_rate)

    def __enter__(self) -> "ScoringPool":
        return self

    def __exit__(self, *exception):
        self.executor.shutdown(cancel_futures=True)


def mean_scores(scores: list[FileScore]) -> dict[str, float]:
    """Mean of every metric over the files that have scores; empty if none has."""
    scored = [score.scores for score in scores if score.failure is None]
    return {name: float(np.mean([score[name] for score in scored])) for name in METRICS} if scored else {}
