"""Scores of systems over a data set of pairs, beside the noisy input, as a record.

`evaluate_systems` enhances while a process pool scores, and goes on after a kill where it stopped; `report` makes
statistics, tables and pictures of the record.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm

from ..data.audio import AudioError
from ..data.formatting import decoded, reference_of
from ..data.matching import SIDES, DataError, few
from ..data.stamps import stamp
from ..metrics.scoring import FULL, METRICS, FileScore, PendingScore, ScoringPool, check_metrics, leading_metric
from ..utils.errors import need
from ..utils.records import environment
from .journal import UNREADABLE, Journal
from .report import add_statistics
from .systems import FolderSystem, NoisyInput, System, build_system

NOISY = "noisy"  # the first row of every record
TIMED_SECONDS = 10  # of audio, for the real-time factor
TIMED_RUNS = 3


def evaluate_systems(
    systems: Mapping[str, Any],
    dataset,
    *,
    name: str,
    sampling_rate: int = 16000,
    metrics: Sequence[str] = FULL,
    processes: int | None = None,
    journal: str | Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """
    Score the noisy input and every system over `dataset`; what cannot be scored is listed with its reason.

    Args:
        systems: by the name of their row: a `System`, a model, a Hub id, or a folder with a model or enhanced files.
        dataset: items {"id", "clean", "noisy"} at `sampling_rate`, as the loaders of `data` give; or encoded audio in
            such columns, as `datasets` loads it. Every id is that of one recording.
        name: of the data set, for the record.
        metrics: keys of `metrics.scoring.METRICS`.
        processes: that score; one per core by default. The scores do not depend on it.
        journal: file that keeps every score as soon as it is there: the same evaluation goes on from it after a kill.
            Remove it when the record is written.
        progress: show a bar if standard error is a terminal.

    Returns:
        The record: data set, environment, and for every system its means with 95 % intervals, paired differences to
        the first system given, failures, and every file's scores.

    Raises:
        ValueError, MissingExtraError: see `check_metrics`; what is no system, or a row with the name of the input.
        DataError: an id that is not that of one recording, no column "clean" or "noisy", or no `datasets.Dataset`.
    """
    keys = check_metrics(metrics)
    need("evaluation", "scipy")  # of the intervals, in the end
    if NOISY in systems:
        raise ValueError(f'the row "{NOISY}" is that of the input, expected another name for a system')
    dataset = prepared(dataset, sampling_rate)
    rows: dict[str, System] = {NOISY: NoisyInput()} | {row: build_system(value) for row, value in systems.items()}
    described = {row: system.describe() for row, system in rows.items()}
    ids = names_of(dataset)
    check_ids(name, ids)
    about = {"name": name, "files": len(ids), "sampling_rate": sampling_rate}
    evaluation = {
        **about,
        "ids": ids,
        "metrics": keys,
        "systems": described,
        "data": stamp(dataset) if journal else None,
    }
    with Journal(journal, evaluation) as kept:
        with ScoringPool(processes, keys) as pool:
            bar = tqdm(ids, name, unit="file", disable=None if progress else True)
            score_missing(rows, dataset, bar, sampling_rate, kept, pool)
        scores = {row: [kept.scores[row, index] for index in range(len(ids))] for row in rows}
        speed = real_time_factors(rows, dataset, scores[NOISY], sampling_rate)
        record = {
            "kind": "evaluation",
            "dataset": about,
            "metrics": list(keys),
            "threads": torch.get_num_threads(),
            "systems": [{"name": row, **described[row], **speed[row], **as_record(scores[row])} for row in rows],
            "environment": environment(),
        }
        return add_statistics(record)


def score_missing(
    systems: Mapping[str, System],
    dataset,
    ids: Iterable[str],
    sampling_rate: int,
    kept: Journal,
    pool: ScoringPool,
) -> None:
    """Enhance every file by the systems whose score of it is not `kept`, and keep those scores as `pool` makes them."""
    scoring: deque[tuple[str, int, PendingScore]] = deque()
    for index, name in enumerate(ids):
        missing = {row: system for row, system in systems.items() if (row, index) not in kept.scores}
        for row, pair in enhanced_by(missing, dataset, index, sampling_rate):
            if isinstance(pair, str):
                kept.add(row, index, FileScore(name, {}, pair))
            else:
                scoring.append((row, index, pool.submit(name, *pair, sampling_rate)))
        # audio waits in memory until it is scored: no more of it than keeps the pool busy
        settle(scoring, kept, leave=4 * pool.processes)
    settle(scoring, kept, leave=0)


def prepared(dataset, sampling_rate: int):
    """The data set with items decoded; DataError where it is none, or has no column "clean" or "noisy"."""
    if not isinstance(dataset, Dataset):
        raise DataError(f"expected a datasets.Dataset, as Dataset.from_list gives, got {type(dataset).__name__}")
    missing = [side for side in SIDES if side not in dataset.column_names]
    if missing:
        found = ", ".join(dataset.column_names)
        raise DataError(f"expected columns id, clean and noisy, got {found}: there is no {' and no '.join(missing)}")
    return decoded(dataset, sampling_rate)


def names_of(dataset) -> list[str]:
    """The ids of a data set; numbered items where it has none."""
    if "id" not in dataset.column_names:
        return [f"item_{index}" for index in range(len(dataset))]
    return [str(name) for name in dataset.with_format(None)["id"]]


def check_ids(name: str, ids: Sequence[str]) -> None:
    """DataError where an id of the data set `name` is that of several recordings: scores are kept by it."""
    again = sorted(one for one, count in Counter(ids).items() if count > 1)
    if again:
        raise DataError(
            f"{name}: every recording needs an id of its own, got {len(again)} that several share: {few(again)}"
        )


def item_of(dataset, index: int) -> dict[str, Any]:
    """An item, decoded, with the stem of its noisy file as "name"; of arrays (time,)."""
    item = {"id": f"item_{index}", **dataset[index]}
    stored = dataset.with_format(None)[index]["noisy"]  # of pairs: where the audio is, see `data.pairs`
    path = stored["path"] if isinstance(stored, dict) and not reference_of(stored) else None
    arrays = {side: np.asarray(item[side]) for side in SIDES}
    return {**item, **arrays, "id": str(item["id"]), "name": Path(path or str(item["id"])).stem}


def enhanced_by(
    systems: Mapping[str, System], dataset, index: int, sampling_rate: int
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray] | str]]:
    """(row, (clean, enhanced)) of one file by every system, or (row, reason) where there is none."""
    if not systems:
        return
    try:
        item = item_of(dataset, index)
    except (OSError, ValueError) as error:
        yield from ((row, f"{UNREADABLE}: {error}") for row in systems)
        return
    for row, system in systems.items():
        try:
            yield row, (item["clean"], np.asarray(system(item, sampling_rate)))
        except Exception as error:  # of a peer's code it may be any: the file's score is lost, not the evaluation
            yield row, reason_of(error)


def reason_of(error: Exception) -> str:
    """Why a system has no output, on one line; an error that is not about the audio with its type."""
    told = " ".join(str(error).split())
    return told if isinstance(error, AudioError) else f"{type(error).__name__}: {told}"


def settle(scoring: deque[tuple[str, int, PendingScore]], kept: Journal, leave: int) -> None:
    """Keep what is scored, in order; wait until at most `leave` files are not."""
    while scoring and (len(scoring) > leave or scoring[0][2].done()):
        row, index, future = scoring.popleft()
        kept.add(row, index, future.result())


def as_record(scores: Sequence[FileScore]) -> dict[str, Any]:
    """Counts, failures and scores by file of one system."""
    return {
        "scored": sum(score.failure is None for score in scores),
        "failures": [{"id": score.id, "reason": score.failure} for score in scores if score.failure is not None],
        "scores": {score.id: score.scores for score in scores if score.failure is None},
    }


def real_time_factors(
    systems: Mapping[str, System], dataset, scores: Sequence[FileScore], sampling_rate: int
) -> dict[str, dict[str, Any]]:
    """{"real_time_factor"} of every system that computes, on the first file that can be scored, repeated to 10 s; or
    {"not_timed"}, the reason why it has none."""
    timed = [row for row, system in systems.items() if not isinstance(system, (NoisyInput, FolderSystem))]
    index = next((index for index, score in enumerate(scores) if score.failure is None), None)
    factors: dict[str, dict[str, Any]] = {row: {} for row in systems}
    if index is None or not timed:
        return factors
    for row in timed:
        try:
            item = item_of(dataset, index)
            item |= {name: np.resize(item[name], TIMED_SECONDS * sampling_rate) for name in ("noisy", "clean")}
            factors[row]["real_time_factor"] = real_time_factor(systems[row], item, sampling_rate)
        except Exception as error:  # as in `enhanced_by`
            factors[row]["not_timed"] = reason_of(error)
    return factors


def real_time_factor(system: System, item: Mapping[str, Any], sampling_rate: int) -> float:
    """Seconds that `system` takes for a second of audio, the median of some runs on an item of 10 s."""
    seconds = []
    for _ in range(1 + TIMED_RUNS):  # the first run warms up
        start = perf_counter()
        system(item, sampling_rate)
        seconds.append(perf_counter() - start)
    return median(seconds[1:]) / TIMED_SECONDS


def examples_of(record: Mapping[str, Any], system: System, dataset) -> dict[str, dict[str, np.ndarray]]:
    """The files where `system`, the first of the record, gained most, median and least PESQ over the noisy input (else
    of the record's first metric): by title, the noisy, enhanced and clean recordings (time,). Empty where no file was
    scored; without a file that no longer can be read or enhanced."""
    key = leading_metric(record["metrics"])
    noisy, first = (row["scores"] for row in record["systems"][:2])
    sign = 1 if METRICS[key].higher_is_better else -1
    gains = sorted((sign * (first[name][key] - noisy[name][key]), name) for name in first if name in noisy)
    if not gains:
        return {}
    dataset = prepared(dataset, record["dataset"]["sampling_rate"])
    indices = {name: index for index, name in enumerate(names_of(dataset))}
    rows: dict[str, System] = {NOISY: NoisyInput(), "enhanced": system}
    examples = {}
    for title, (gain, name) in {"best": gains[-1], "median": gains[len(gains) // 2], "worst": gains[0]}.items():
        pairs = dict(enhanced_by(rows, dataset, indices[name], record["dataset"]["sampling_rate"]))
        if any(isinstance(pair, str) for pair in pairs.values()):
            continue
        recordings = {row: np.asarray(pair[1]) for row, pair in pairs.items()}
        recordings["clean"] = np.asarray(pairs[NOISY][0])
        examples[f"{title}, {name}, {METRICS[key].title} {METRICS[key].show(sign * gain, '+')}"] = recordings
    return examples
