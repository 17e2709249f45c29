"""PESQ, STOI and SI-SDR of models over a data set of pairs, beside the noisy input, as a record and a table."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from .data.audio import AudioError
from .inference import enhance, load_model
from .metrics.scoring import TITLES, FileScore, ScoringPool, mean_scores
from .models.manner import MannerModel
from .records import environment, weights_hash

FORMATS = {"pesq": "{:.2f}", "stoi": "{:.1%}", "si_sdr": "{:.2f}"}


def evaluate(
    models: Mapping[str, MannerModel | str | Path],
    dataset,
    *,
    name: str,
    sampling_rate: int = 16000,
    processes: int | None = None,
    progress: bool = False,
    **options,
) -> dict[str, Any]:
    """
    Score the noisy input and every model's output over `dataset`; what cannot be scored is listed with its reason.

    Args:
        models: by the name of their row, loaded models or what `from_pretrained` takes.
        dataset: items {"id", "clean", "noisy"} at `sampling_rate`, as the loaders of `data` give.
        name: of the data set, for the record.
        processes: that score; one per core by default.
        progress: show a bar if standard error is a terminal.
        options: of `enhance`.

    Returns:
        The record: data set, environment, and for every system its means, its failures and every file's scores.
    """
    loaded = {label: load_model(model) for label, model in models.items()}
    pending: dict[str, list[tuple[str, Future[FileScore] | str]]] = {label: [] for label in ("noisy", *loaded)}
    with ScoringPool(processes) as pool:
        for index in tqdm(range(len(dataset)), name, unit="file", disable=None if progress else True):
            try:
                item = dataset[index]
            except (OSError, ValueError) as error:
                for queue in pending.values():
                    queue.append((item_name(dataset, index), f"cannot be read: {error}"))
                continue
            reference, noisy = np.asarray(item["clean"]), np.asarray(item["noisy"])
            for label, queue in pending.items():
                try:
                    degraded = noisy if label == "noisy" else enhance(loaded[label], noisy, sampling_rate, **options)
                except AudioError as error:
                    queue.append((item["id"], str(error)))
                else:
                    queue.append((item["id"], pool.submit(item["id"], reference, np.asarray(degraded), sampling_rate)))
        systems = [system_record(label, [score_of(*entry) for entry in queue]) for label, queue in pending.items()]
    for system in systems[1:]:
        model = loaded[system["name"]]
        system |= {"parameters": model.num_parameters(), "weights_sha256": weights_hash(model)}
    return {
        "kind": "evaluation",
        "dataset": {"name": name, "files": len(dataset), "sampling_rate": sampling_rate},
        "systems": systems,
        "environment": environment(),
    }


def item_name(dataset, index: int) -> str:
    """Id of an item without decoding it; its number where it has none before it is made."""
    return str(dataset.with_format(None)[index].get("id", f"item_{index}"))


def score_of(name: str, scored: "Future[FileScore] | str") -> FileScore:
    """The score itself, of a file that was scored or could not be read."""
    return FileScore(name, {}, scored) if isinstance(scored, str) else scored.result()


def system_record(name: str, scores: Sequence[FileScore]) -> dict[str, Any]:
    """Means, failures and scores by file of one system."""
    return {
        "name": name,
        "scored": sum(score.failure is None for score in scores),
        "means": mean_scores(list(scores)),
        "failures": [{"id": score.id, "reason": score.failure} for score in scores if score.failure is not None],
        "scores": {score.id: score.scores for score in scores if score.failure is None},
    }


def render_table(record: Mapping[str, Any]) -> str:
    """The record's means as a Markdown table, the noisy input first."""
    rows = [["", *TITLES.values(), "scored files"]]
    for system in record["systems"]:
        means = system["means"]
        cells = [FORMATS[key].format(means[key]) if key in means else "not measured" for key in TITLES]
        rows.append([system["name"], *cells, f"{system['scored']} of {record['dataset']['files']}"])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
