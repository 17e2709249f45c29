"""The picture of a training: its losses and validations over the steps; without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..metrics.scoring import TITLES
from ..utils.plotting import points_of

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
