"""Pictures that the tools make: training curves, spectrograms, and what an evaluation found; without a display."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import NullFormatter

from ..metrics.scoring import METRICS, TITLES, leading_metric

TRAINING_TERMS = ("loss", "l1", "spectral_convergence", "log_magnitude", "compressed", "distillation")


def training_curve(history: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Loss terms and validation metrics over steps, from a trainer's `log_history`, as a picture.

    Where the loss has an SNR or a PESQ term, it falls with that and below 0; the SNR stands on the right-hand axis.
    """
    figure = Figure(figsize=(15, 4), layout="constrained")
    axes = figure.subplots(1, 1 + len(TITLES))
    lines = []
    for term in TRAINING_TERMS:
        points = points_of(history, term)
        if points:
            lines += axes[0].plot(*zip(*points, strict=True), label=term.replace("_", " "))
    points = points_of(history, "pesq")
    if points:
        label = "PESQ-WB, weighted and subtracted from the loss"
        lines += axes[0].plot(*zip(*points, strict=True), ":", color="black", label=label)
    points = points_of(history, "snr")
    if points:
        right = axes[0].twinx()
        right.set_ylabel("SNR (dB)")
        label = "SNR (right), weighted and subtracted from the loss"
        lines += right.plot(*zip(*points, strict=True), "--", color="black", label=label)
    axes[0].set(title="training", xlabel="step", ylabel="loss terms")
    if lines:
        figure.legend(handles=lines, loc="outside lower left", ncols=len(lines), fontsize="small")
    for axis, (metric, title) in zip(axes[1:], TITLES.items(), strict=True):
        points = points_of(history, f"eval_{metric}")
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3)
        axis.set(title="validation", xlabel="step", ylabel=title)
    figure.savefig(path, dpi=120)


def points_of(history: Sequence[Mapping[str, float]], key: str) -> list[tuple[float, float]]:
    """(step, value) of what was logged as `key`."""
    return [(entry["step"], entry[key]) for entry in history if key in entry]


def spectrograms(recordings: Mapping[str, np.ndarray], sampling_rate: int, path: str | Path) -> None:
    """Log-magnitude spectrograms of recordings (time,), one above the other on one colour scale (dB)."""
    figure = Figure(figsize=(9, 2.6 * len(recordings)), layout="constrained")
    axes = figure.subplots(len(recordings), 1, squeeze=False, sharex=True)[:, 0]
    for axis, (name, audio) in zip(axes, recordings.items(), strict=True):
        image = draw_spectrogram(axis, audio, sampling_rate)
        axis.set(title=name, ylabel="Hz")
        figure.colorbar(image, ax=axis, label="dB")
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)


def draw_spectrogram(axis: Axes, audio: np.ndarray, sampling_rate: int) -> AxesImage:
    """The spectrogram of `audio` (time,) on an axis, -120 to -30 dB."""
    tone = 1e-7 * np.sin(np.arange(len(audio)))  # digital silence has no logarithm
    image = axis.specgram(audio + tone, NFFT=512, Fs=sampling_rate, noverlap=384)[3]
    image.set_clim(-120, -30)
    return image


def systems_scored(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The systems of an evaluation's record that have scores, without the noisy input."""
    return [system for system in record["systems"][1:] if system["scores"]]


def gain_over_snr(record: Mapping[str, Any], path: str | Path, bins: int = 6) -> None:
    """What every system adds to the noisy input's PESQ-WB and SI-SDR against the input's SI-SDR, which is its SNR where
    noise was added to speech: a dot a file, a line through the means of `bins` equally filled groups of files.

    The record must have SI-SDR.
    """
    metrics = [key for key in ("pesq", "si_sdr") if key in record["metrics"]]
    noisy = record["systems"][0]["scores"]
    figure = Figure(figsize=(6.5 * len(metrics), 4.6), layout="constrained")
    for axis, key in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for number, system in enumerate(systems_scored(record)):
            names = sorted(system["scores"].keys() & noisy.keys(), key=lambda name: noisy[name]["si_sdr"])
            if not names:
                continue
            snr = np.array([noisy[name]["si_sdr"] for name in names])
            gain = np.array([system["scores"][name][key] - noisy[name][key] for name in names])
            axis.scatter(snr, gain, s=8, alpha=0.35, color=f"C{number % 10}")
            groups = np.array_split(np.arange(len(names)), min(bins, len(names)))
            axis.plot(
                [snr[group].mean() for group in groups],
                [gain[group].mean() for group in groups],
                marker="o", color=f"C{number % 10}", label=system["name"],
            )  # fmt: skip
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set(title=f"{METRICS[key].title}, gain over noisy", xlabel="input SNR (dB, as SI-SDR)", ylabel="gain")
    legend_below(figure)
    figure.savefig(path, dpi=120)


def legend_below(figure: Figure) -> None:
    """One legend for all panels, outside of them; the entries are those of the first panel."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), fontsize="small")


def scatter_by_file(record: Mapping[str, Any], path: str | Path) -> None:
    """Score of every enhanced file against that of its noisy input, for PESQ-WB, STOI and SI-SDR, or for the record's
    first metric where it has none of them: above the diagonal is better, or below it where lower is."""
    metrics = [key for key in TITLES if key in record["metrics"]] or list(record["metrics"])[:1]
    noisy = record["systems"][0]["scores"]
    figure = Figure(figsize=(4.4 * len(metrics), 4.8), layout="constrained")
    for axis, key in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        shown = []
        for system in systems_scored(record):
            names = [name for name in system["scores"] if name in noisy]
            before = [noisy[name][key] for name in names]
            after = [system["scores"][name][key] for name in names]
            axis.scatter(before, after, s=9, alpha=0.6, label=system["name"])
            shown += before + after
        if shown:
            margin = 0.04 * (np.ptp(shown) or 1)
            ends = (min(shown) - margin, max(shown) + margin)
            axis.plot(ends, ends, color="grey", linewidth=0.8, zorder=0)
            axis.set(xlim=ends, ylim=ends)
        axis.set(title=METRICS[key].title, xlabel="noisy", ylabel="enhanced", aspect="equal")
    legend_below(figure)
    figure.savefig(path, dpi=120)


COSTS = {"parameters": "parameters", "flops_4s": "FLOPs for 4 s", "real_time_factor": "real-time factor, threads: {}"}


def quality_against_cost(record: Mapping[str, Any], path: str | Path) -> None:
    """Mean PESQ-WB of every system, or the record's first metric without it, with its interval, against parameters,
    FLOPs and real-time factor, each where some system has it; the noisy input is the dashed line. Below a panel stand
    the systems whose cost is not known."""
    metric = leading_metric(record["metrics"])
    systems = systems_scored(record)
    costs = [key for key in COSTS if any(key in system for system in systems)] or ["real_time_factor"]
    figure = Figure(figsize=(4.8 * len(costs), 4.4), layout="constrained")
    for axis, key in zip(figure.subplots(1, len(costs), sharey=True, squeeze=False)[0], costs, strict=True):
        for number, system in enumerate(systems):
            if key in system:
                mean, ends = system["means"][metric], system["intervals"][metric]
                spread = None if ends is None else [[mean - ends[0]], [ends[1] - mean]]
                axis.errorbar(system[key], mean, spread, fmt="o", capsize=3, color=f"C{number % 10}")
                axis.annotate(system["name"], (system[key], mean), (4, 4), textcoords="offset points", fontsize=8)
        if record["systems"][0]["means"]:
            noisy = record["systems"][0]["means"][metric]
            axis.axhline(noisy, color="grey", linestyle="--", linewidth=0.8)
            place = {"xycoords": axis.get_yaxis_transform(), "textcoords": "offset points"}
            axis.annotate("noisy", (1, noisy), (-3, 3), ha="right", fontsize=8, color="grey", **place)
        unknown = [system["name"] for system in systems if key not in system]
        note = f"\nnot known: {', '.join(unknown)}" if unknown else ""
        axis.set(xlabel=COSTS[key].format(record["threads"]) + note, xscale="log")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.margins(y=0.12)
        known = [system[key] for system in systems if key in system]
        if known:  # from decade to decade, where the ticks of a logarithmic axis have room
            axis.set_xlim(10 ** np.floor(np.log10(min(known)) - 0.2), 10 ** np.ceil(np.log10(max(known)) + 0.2))
    figure.axes[0].set_ylabel(METRICS[metric].title)
    figure.savefig(path, dpi=120)


def quality_by_method(record: Mapping[str, Any], path: str | Path) -> None:
    """PESQ-WB and SI-SDR against FLOPs, a line for every method of a study's record, a panel for every test set and
    metric; bars are the range over seeds, the dashed line is the noisy input."""
    from ..study import curves

    metrics = ("pesq", "si_sdr")
    figure = Figure(figsize=(5.2 * len(metrics), 3.9 * len(record["tests"])), layout="constrained")
    grid = figure.subplots(len(record["tests"]), len(metrics), squeeze=False)
    for axes, (test, about) in zip(grid, record["tests"].items(), strict=True):
        for axis, key in zip(axes, metrics, strict=True):
            for name, points in curves(record, test, key).items():
                flops = [cost / 1e9 for cost, _ in points]
                means = np.array([np.mean(seeds) for _, seeds in points])
                low, high = (np.array([end(seeds) for _, seeds in points]) for end in (min, max))
                axis.errorbar(
                    flops, means, [means - low, high - means], marker="o", markersize=4, capsize=3, label=name
                )
            axis.axhline(about["noisy"][key], color="grey", linestyle="--", linewidth=0.8)
            axis.set(title=test, xlabel="GFLOPs for 4 s", ylabel=METRICS[key].title)
    grid[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=110)


def validation_by_method(record: Mapping[str, Any], path: str | Path) -> None:
    """PESQ-WB, STOI and SI-SDR in validation over the steps, a line for every method of a study's record of one size;
    the band is the range over seeds."""
    from ..study import rows_of

    figure = Figure(figsize=(5 * len(TITLES), 3.9), layout="constrained")
    for axis, (metric, title) in zip(figure.subplots(1, len(TITLES)), TITLES.items(), strict=True):
        for (_, name), cells in rows_of(record, ablation=False).items():
            seeds = [dict(points_of(cell["validations"], f"eval_{metric}")) for cell in cells]
            steps = sorted(set.intersection(*(set(seed) for seed in seeds)))
            values = np.array([[seed[step] for step in steps] for seed in seeds])
            axis.plot(steps, values.mean(axis=0), marker="o", markersize=4, label=name)
            axis.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.2)
        axis.set(title="validation", xlabel="step", ylabel=title)
    legend_below(figure)
    figure.savefig(path, dpi=110)


def quality_by_release(history: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """PESQ-WB, STOI and SI-SDR of every release of a model (a record of `scripts/release_history.py`), a row for
    validation and one for every test set, whose other systems, of `evaluations`, are lines. A curve breaks where the
    files change."""
    releases = history["releases"]
    others = {
        record["dataset"]["name"]: [system for system in record["systems"] if system["name"] != history["model"]]
        for record in evaluations
    }
    sources = [*others, *(releases[-1]["scores"].keys() - others.keys())]  # the first panel has all of the legend
    figure = Figure(figsize=(5 * len(TITLES), 3.4 * len(sources)), layout="constrained")
    for axes, source in zip(figure.subplots(len(sources), len(TITLES), squeeze=False), sources, strict=True):
        scores = [(number, release["scores"][source]) for number, release in enumerate(releases, 1)]
        alike = [list(group) for _, group in groupby(scores, key=lambda numbered: numbered[1]["files"])]
        for axis, (metric, title) in zip(axes, TITLES.items(), strict=True):
            for group in alike:
                numbers, values = zip(*((number, found[metric]) for number, found in group), strict=True)
                label = history["model"] if group is alike[-1] else None
                axis.plot(numbers, values, marker="o", markersize=4, color="black", label=label)
            for number, system in enumerate(others.get(source, [])):
                axis.axhline(system["means"][metric], color=f"C{number}", linestyle="--", label=system["name"])
            axis.set(title=source, ylabel=title, xlabel="release", xlim=(0.5, len(releases) + 0.5))
    legend_below(figure)
    figure.savefig(path, dpi=100)


def step_times(record: Mapping[str, Any], path: str | Path) -> None:
    """Seconds of the parts of a training step, a bar a system (a record of `scripts/benchmarks/training_step.py`)."""
    rows = list(reversed(record["rows"]))
    figure = Figure(figsize=(9, 1.2 + 0.6 * len(rows)), layout="constrained")
    axis = figure.subplots()
    names = [f"{row['system']}, threads: {row['threads']}" for row in rows]
    start = np.zeros(len(rows))
    for part in rows[0]["parts"]:
        seconds = np.array([row["parts"][part] for row in rows])
        axis.barh(names, seconds, left=start, label=part)
        start += seconds
    axis.set(xlabel=f"seconds per step of {record['batch']} x {record['seconds']} s")
    axis.legend(fontsize="small", ncols=len(rows[0]["parts"]), loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(path, dpi=110)


def spectrogram_grid(examples: Mapping[str, Mapping[str, np.ndarray]], sampling_rate: int, path: str | Path) -> None:
    """Spectrograms of several recordings (time,) of several examples on one colour scale (dB): a row an example, a
    column a recording."""
    columns = list(next(iter(examples.values())))
    figure = Figure(figsize=(4.2 * len(columns) + 1, 2.8 * len(examples) + 0.4), layout="constrained")
    rows = figure.subfigures(len(examples), 1, squeeze=False)[:, 0]
    for number, (row, (example, recordings)) in enumerate(zip(rows, examples.items(), strict=True)):
        row.suptitle(example, fontsize="medium", x=0.01, ha="left")
        axes = row.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axis, column in zip(axes, columns, strict=True):
            image = draw_spectrogram(axis, recordings[column], sampling_rate)
            axis.set_title(column if number == 0 else "")
            axis.set_xlabel("s" if number == len(examples) - 1 else "")
        axes[0].set_ylabel("Hz")
        row.colorbar(image, ax=list(axes), label="dB", pad=0.01)
    figure.savefig(path, dpi=110)
