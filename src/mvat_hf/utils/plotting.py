"""Helpers of several pictures."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def legend_below(figure: Figure) -> None:
    """One legend for all panels, outside of them; the entries are those of the first panel."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), fontsize="small")


def points_of(history: Sequence[Mapping[str, float]], key: str) -> list[tuple[float, float]]:
    """(step, value) of what was logged as `key`."""
    return [(entry["step"], entry[key]) for entry in history if key in entry]
