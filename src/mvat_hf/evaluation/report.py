"""The report of an evaluation's record: means with intervals, paired differences, tables and a folder of pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics.scoring import METRICS
from ..utils.errors import extra
from ..utils.records import write_json, write_text

CONFIDENCE = 0.95
RESAMPLES = 9999
ROUNDING = 1e-12  # relative: what values that are no further apart differ by
PICTURES = ("gain_over_snr.png", "scatter.png", "quality_against_cost.png", "spectrograms.png")


def add_statistics(record: dict[str, Any]) -> dict[str, Any]:
    """The record with, for every system, "means", their bootstrap "intervals" over files, and "differences": the mean
    of its files' scores minus those of the first system that is not the noisy input, with its interval."""
    systems = record["systems"]
    first = systems[min(1, len(systems) - 1)]["scores"]
    for system in systems:
        scores = system["scores"]
        system |= statistics(scores, record["metrics"])
        shared = [name for name in scores if name in first]
        system["differences"] = {
            key: paired([scores[name][key] - first[name][key] for name in shared])
            for key in record["metrics"]
            if shared and first is not scores
        }
    return record


def statistics(scores: Mapping[str, Mapping[str, float]], metrics: Sequence[str]) -> dict[str, Any]:
    """{"means", "intervals"} by metric of the scores by file; both are empty where there are none."""
    by_metric = {key: [score[key] for score in scores.values()] for key in metrics if scores}
    return {
        "means": {key: float(np.mean(values)) for key, values in by_metric.items()},
        "intervals": {key: interval(values) for key, values in by_metric.items()},
    }


def interval(values: Sequence[float]) -> list[float] | None:
    """95 % bootstrap interval (bias-corrected and accelerated) of the mean over files; None below three files."""
    with extra("evaluation"):
        from scipy.stats import bootstrap

    if len(values) < 3:
        return None
    if np.ptp(values) <= ROUNDING * np.abs(values).max():  # no spread to resample
        return [min(values), max(values)]
    found = bootstrap((values,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, rng=0)
    return [float(found.confidence_interval.low), float(found.confidence_interval.high)]


def paired(differences: Sequence[float]) -> dict[str, Any]:
    """Mean of differences by file, its interval, and over how many files."""
    return {"mean": float(np.mean(differences)), "interval": interval(differences), "files": len(differences)}


def common_files(record: Mapping[str, Any]) -> list[str]:
    """Ids of the files that every system with any scores has scores of."""
    scored = [system["scores"] for system in record["systems"] if system["scores"]]
    return [name for name in scored[0] if all(name in scores for scores in scored)] if scored else []


def over_common_files(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with means and intervals over `common_files` alone: what rows that stand side by side compare by."""
    common = common_files(record)
    systems = []
    for system in record["systems"]:
        scores = {name: system["scores"][name] for name in common if name in system["scores"]}
        systems.append({**system, "scores": scores, "scored": len(scores), **statistics(scores, record["metrics"])})
    return {**record, "dataset": {**record["dataset"], "files": len(common)}, "systems": systems}


def covers_unlike_files(record: Mapping[str, Any]) -> bool:
    """Whether the means of some row cover other files than those of another."""
    return any(len(system["scores"]) not in (0, len(common_files(record))) for system in record["systems"])


def render_table(record: Mapping[str, Any], metrics: Sequence[str] | None = None) -> str:
    """Means with their intervals as a Markdown table, the noisy input first, every row with the number of its files;
    where rows cover unlike files, a second one over those that all have. `metrics` selects and orders columns."""
    if not covers_unlike_files(record):
        return table_of(record, metrics)
    common = over_common_files(record)
    files = common["dataset"]["files"]
    parts = [table_of(record, metrics), "These rows are means over unlike files, which do not compare."]
    if not files:
        return "\n\n".join([*parts[:1], f"{parts[1]} There is no file that all rows have a score of."])
    over = f"Over the {files} {'files' if files > 1 else 'file'} that all rows have a score of:"
    return "\n\n".join([parts[0], f"{parts[1]} {over}", table_of(common, metrics)])


def table_of(record: Mapping[str, Any], metrics: Sequence[str] | None) -> str:
    """A table of the means in a record."""
    keys = list(metrics or record["metrics"])
    rows = [["", *(METRICS[key].title for key in keys), "scored files"]]
    for system in record["systems"]:
        cells = [show(key, system["means"].get(key), system["intervals"].get(key)) for key in keys]
        rows.append([system["name"], *cells, f"{system['scored']} of {record['dataset']['files']}"])
    return markdown(rows)


def show(key: str, mean: float | None, ends: Sequence[float] | None, sign: str = "") -> str:
    """A mean of the metric `key` with the ends of its interval, "1.74 [1.66, 1.83]"; `sign` "+" shows it always."""
    if mean is None:
        return "not measured"
    shown, *around = (METRICS[key].show(value, sign) for value in (mean, *(ends or ())))
    return shown + (f" [{', '.join(around)}]" if around else "")


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def render_differences(record: Mapping[str, Any]) -> str:
    """Paired differences to the first system as a Markdown table."""
    keys = list(record["metrics"])
    rows = [[f"minus {record['systems'][1]['name']}", *(METRICS[key].title for key in keys), "files"]]
    for system in record["systems"]:
        found = system["differences"]
        if found:
            cells = [show(key, found[key]["mean"], found[key]["interval"], sign="+") for key in keys]
            rows.append([system["name"], *cells, str(found[keys[0]]["files"])])
    return markdown(rows)


def render_report(record: Mapping[str, Any]) -> str:
    """The record as a page of Markdown: both tables, and what could not be scored."""
    data = record["dataset"]
    parts = [
        f"# {data['name']}, {data['files']} files",
        "Means over files, with 95 % bootstrap intervals.",
        render_table(record),
    ]
    if any(system["differences"] for system in record["systems"]):
        parts += ["Mean differences by file, with 95 % bootstrap intervals.", render_differences(record)]
    failures = [
        f"- {system['name']}: {failure['id']}: {failure['reason']}"
        for system in record["systems"]
        for failure in system["failures"]
    ]
    failures += [f"- {row['name']}: not timed: {row['not_timed']}" for row in record["systems"] if "not_timed" in row]
    return "\n\n".join([*parts, *(["Not measured:", "\n".join(failures)] if failures else [])]) + "\n"


def write_report(folder: Path, record: Mapping[str, Any]) -> None:
    """`results.json` and `results.md` of a record in `folder`."""
    write_json(folder / "results.json", record)
    write_text(folder / "results.md", render_report(record))


def draw_report(folder: Path, record: Mapping[str, Any], examples: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """The pictures of a record in `folder`; those without metrics or systems to draw are left out.

    Args:
        examples: recordings (time,) by example and by name, for the spectrograms; see `evaluating.examples_of`.
    """
    with extra("evaluation"):
        from . import figures

    folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        (folder / name).unlink(missing_ok=True)  # of another record
    if figures.systems_scored(record):
        if "si_sdr" in record["metrics"]:
            figures.gain_over_snr(record, folder / "gain_over_snr.png")
        figures.scatter_by_file(record, folder / "scatter.png")
        compared = over_common_files(record) if covers_unlike_files(record) and common_files(record) else record
        figures.quality_against_cost(compared, folder / "quality_against_cost.png")
    if examples:
        figures.spectrogram_grid(examples, record["dataset"]["sampling_rate"], folder / "spectrograms.png")
