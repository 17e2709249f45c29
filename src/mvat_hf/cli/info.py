"""`mvat info`: the cost of models."""

from pathlib import Path
from typing import Annotated

import typer

from .options import parse_name

A_DAY = 86400  # seconds


def info(
    model: Annotated[
        str | None, typer.Argument(parser=parse_name, metavar="MODEL-OR-PRESET", help="Folder, Hub id or preset.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of the input.")] = 4.0,
) -> int:
    """Parameters and FLOPs of a model or preset. Without a name: all presets, and scores of the weights."""
    from ..models.complexity import complexity
    from ..models.manner import PRESETS, MannerConfig

    if not 0 < seconds <= A_DAY:
        raise ValueError(f"--seconds must be above 0 and at most {A_DAY}, got {seconds:g}")
    costs = {}
    for name in [model] if model else list(PRESETS):
        preset = not Path(name).exists() and (name in PRESETS or "/" not in name)  # a bare word is meant as a preset
        config = MannerConfig.from_preset(name) if preset else MannerConfig.from_pretrained(name)
        costs[name] = complexity(config, seconds)
    print(f"{'model':<18} {'parameters':>11} {'GFLOPs (thop)':>14} {'GFLOPs (true)':>14}  {seconds:g} s audio")
    for name, cost in costs.items():
        print(f"{name:<18} {cost.parameters:>11,} {cost.flops_thop / 1e9:>14.2f} {cost.flops / 1e9:>14.2f}")
    print(
        "thop, the papers' counter, takes a transposed convolution at its output length without dividing by the stride "
        "(4x too many), counts batch norms, and leaves out products of attention; the true count does none of these."
    )
    if not model:
        baseline, student = costs["manner-s"], costs["manner-s-8.1gf"]
        print(
            f"manner-s to manner-s-8.1gf: {baseline.parameters / student.parameters:.1f}x fewer parameters, "
            f"{baseline.flops_thop / student.flops_thop:.1f}x fewer FLOPs by thop, "
            f"{baseline.flops / student.flops:.1f}x truly"
        )
        for name in costs:
            for line in released_scores(name):
                print(line)
    return 0


def released_scores(preset: str) -> list[str]:
    """Scores of a preset's weights in the package, a line for every test set; none without weights."""
    from huggingface_hub import ModelCard

    from ..metrics.scoring import METRICS
    from ..models.snapshots import HUB_OWNER, find_snapshot

    folder = find_snapshot(f"{HUB_OWNER}/{preset}")
    if folder is None:
        return []
    scores: dict[str, list[str]] = {}
    for result in ModelCard.load(folder / "README.md").data.eval_results:
        metric = METRICS[result.metric_type]
        scores.setdefault(result.dataset_name, []).append(f"{metric.title} {metric.show(result.metric_value)}")
    return [f"{HUB_OWNER}/{preset} on {name}: {', '.join(shown)}" for name, shown in scores.items()]
