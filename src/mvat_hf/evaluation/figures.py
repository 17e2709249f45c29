"""Pictures of recordings and of what an evaluation found; without a display."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import NullFormatter

from ..metrics.scoring import METRICS, TITLES, leading_metric
from ..utils.plotting import legend_below

GROUPS = 6  # of files, equally filled, that a line goes through the means of


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


def gain_over_snr(record: Mapping[str, Any], path: str | Path) -> None:
    """Gains of every system in PESQ-WB and SI-SDR over the noisy input, against the input's SI-SDR, which is its SNR if
    noise was added to speech: a dot a file, a line through the means of `GROUPS` equally filled groups of files.

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
            groups = np.array_split(np.arange(len(names)), min(GROUPS, len(names)))
            axis.plot(
                [snr[group].mean() for group in groups],
                [gain[group].mean() for group in groups],
                marker="o", color=f"C{number % 10}", label=system["name"],
            )  # fmt: skip
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set(title=f"{METRICS[key].title}, gain over noisy", xlabel="input SNR (dB, as SI-SDR)", ylabel="gain")
    legend_below(figure)
    figure.savefig(path, dpi=120)


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
                # a mean of equal scores lies outside of their interval by rounding
                spread = None if ends is None else [[max(mean - ends[0], 0)], [max(ends[1] - mean, 0)]]
                axis.errorbar(system[key], mean, spread, fmt="o", capsize=3, color=f"C{number % 10}")
                timed = key == "real_time_factor" and system.get("device", "cpu") != "cpu"  # not on the threads below
                label = system["name"] + (f" ({system['device']})" if timed else "")
                axis.annotate(label, (system[key], mean), (4, 4), textcoords="offset points", fontsize=8)
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
