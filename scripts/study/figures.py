"""Pictures of the record of a study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tables import PLAIN, curves, rows_of

from mvat_hf.metrics.scoring import METRICS, TITLES
from mvat_hf.utils.plotting import legend_below, points_of


def quality_by_method(record: Mapping[str, Any], path: str | Path) -> None:
    """PESQ-WB and SI-SDR against FLOPs, a line for every method of a study's record, a panel for every test set and
    metric; bars are the range over seeds, the dashed line is the noisy input."""
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
    the band is the range over seeds. What is far from plain training, as the first half of two-step, is left out."""
    figure = Figure(figsize=(5 * len(TITLES), 3.9), layout="constrained")
    for axis, (metric, title) in zip(figure.subplots(1, len(TITLES)), TITLES.items(), strict=True):
        for (_, name), cells in rows_of(record, ablation=False).items():
            seeds = [dict(points_of(cell["validations"], f"eval_{metric}")) for cell in cells]
            steps = sorted(set.intersection(*(set(seed) for seed in seeds)))
            values = np.array([[seed[step] for step in steps] for seed in seeds])
            axis.plot(steps, values.mean(axis=0), marker="o", markersize=4, label=name)
            axis.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.2)
            if name == PLAIN:
                margin = np.ptp(values) / 2
                axis.set_ylim(values.min() - margin, values.max() + margin)
        axis.set(title="validation", xlabel="step", ylabel=title)
    legend_below(figure)
    figure.savefig(path, dpi=110)
