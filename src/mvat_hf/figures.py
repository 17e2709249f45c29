"""Pictures that the tools make: training curves and spectrograms. Matplotlib without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .metrics.scoring import TITLES

TRAINING_TERMS = ("loss", "l1", "spectral_convergence", "log_magnitude", "compressed", "distillation")


def training_curve(history: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Loss terms and validation metrics over steps, from a trainer's `log_history`, as a picture."""
    figure = Figure(figsize=(14, 3.5), layout="constrained")
    axes = figure.subplots(1, 1 + len(TITLES))
    for term in TRAINING_TERMS:
        points = [(entry["step"], entry[term]) for entry in history if term in entry]
        if points:
            axes[0].plot(*zip(*points, strict=True), label=term)
    axes[0].set(title="training", xlabel="step")
    axes[0].legend(fontsize="small")
    for axis, (metric, title) in zip(axes[1:], TITLES.items(), strict=True):
        key = f"eval_{metric}"
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3)
        axis.set(title=f"validation {title}", xlabel="step")
    figure.savefig(path, dpi=120)


def spectrograms(recordings: Mapping[str, np.ndarray], sampling_rate: int, path: str | Path) -> None:
    """Log-magnitude spectrograms of recordings (time,), one above the other on one colour scale (dB)."""
    figure = Figure(figsize=(9, 2.6 * len(recordings)), layout="constrained")
    axes = figure.subplots(len(recordings), 1, squeeze=False, sharex=True)[:, 0]
    for axis, (name, audio) in zip(axes, recordings.items(), strict=True):
        image = axis.specgram(audio + 1e-7 * np.sin(np.arange(len(audio))), 512, sampling_rate, noverlap=384)[3]
        image.set_clim(-120, -30)
        axis.set(title=name, ylabel="Hz")
        figure.colorbar(image, ax=axis, label="dB")
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)
