"""Model cards and README tables, rendered from the records of `model_cards/NAME/`; no number in them is typed.

A folder there holds `about.md` (prose: data, licences, limits), `training.json` (the run's record) and one
`eval_*.json` for every test set.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from .complexity import complexity
from .evaluation import render_table
from .metrics.scoring import TITLES
from .models.manner import MannerConfig

# data set of a record: its title, how many pairs it has in full, and its id on the Hub
TEST_SETS = {
    "dns test": ("DNS Challenge 2020, synthetic no_reverb test set", 150, "dns-challenge-2020"),
    "valentini test": ("VoiceBank-DEMAND (Valentini) test set", 824, "JacobLinCool/VoiceBank-DEMAND-16k"),
}


def read_records(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(training record, evaluation records) of a card's folder."""
    evaluations = [json.loads(path.read_text()) for path in sorted(folder.glob("eval_*.json"))]
    return json.loads((folder / "training.json").read_text()), evaluations


def render_card(folder: str | Path) -> str:
    """The card of `model_cards/NAME`, with the Hub's metadata in front."""
    folder = Path(folder)
    training, evaluations = read_records(folder)
    sections = [
        f"---\n{card_metadata(folder.name, evaluations).to_yaml()}\n---",
        f"# {folder.name}",
        (folder / "about.md").read_text().strip(),
        "## How it was trained",
        render_training(training),
        "## What it scores",
        render_results(evaluations),
        "## What it costs",
        render_cost(folder.name),
        "## How to use it",
        USAGE.format(name=folder.name),
    ]
    return "\n\n".join(sections) + "\n"


USAGE = """```python
from mvat_hf import MannerModel, enhance

model = MannerModel.from_pretrained("mvat/{name}")
cleaned = enhance(model, "noisy.wav")  # numpy, at the rate and length of the file
```"""


def card_metadata(name: str, evaluations: list[dict[str, Any]]) -> ModelCardData:
    """The Hub's metadata, with every mean of this model as an evaluation result."""
    results = [
        EvalResult(
            task_type="audio-to-audio",
            task_name="Speech enhancement",
            dataset_type=TEST_SETS[record["dataset"]["name"]][2],
            dataset_name=f"{TEST_SETS[record['dataset']['name']][0]}, {record['dataset']['files']} pairs",
            metric_type=key,
            metric_name=title,
            metric_value=round(system["means"][key], 4),
        )
        for record in evaluations
        for system in record["systems"]
        if system["name"] == name
        for key, title in TITLES.items()
    ]
    return ModelCardData(
        model_name=name,
        license="apache-2.0",
        library_name="mvat_hf",
        pipeline_tag="audio-to-audio",
        language="en",
        tags=["speech-enhancement", "denoising", "manner", "mv-at", "knowledge-distillation"],
        metrics=list(TITLES),
        eval_results=results,
    )


def render_training(record: Mapping[str, Any]) -> str:
    """Data, recipe and validation of a run in a few lines."""
    recipe, data, chosen = record["recipe"], record["training_data"], record["chosen"]
    versions = record["environment"]["versions"]
    options = ", ".join(f"{name} {value}" for name, value in sorted(recipe.items()))
    machine = record["environment"]["machine"]
    scores = ", ".join(f"{title} {chosen[f'eval_{key}']:.3f}" for key, title in TITLES.items())
    lines = [
        f"- Data: {', '.join(f'{part}: {describe_part(files)}' for part, files in data.items())}.",
        f"- Recipe: {record['steps']} steps; {options}.",
        f"- Validation ({record['validation_files']} files) chose step {chosen['step']}: {scores}.",
        f"- Commit {record['environment']['commit']}, seed {record['seed']}, torch {versions['torch']}, "
        f"{machine['processor']}, {machine['cores']} cores.",
    ]
    return "\n".join(lines)


def describe_part(part: Mapping[str, Any]) -> str:
    """ "907 files, 1.8 h in 255 folders"."""
    return f"{part['files']} files, {part['hours']:.1f} h in {part['folders']} folders"


def render_results(evaluations: list[dict[str, Any]]) -> str:
    """A table for every test set, with how much of the full set it is."""
    parts = []
    for record in evaluations:
        title, full, _ = TEST_SETS[record["dataset"]["name"]]
        files = record["dataset"]["files"]
        share = f"all {full} pairs" if files == full else f"{files} of its {full} pairs"
        parts.append(f"{title}, {share} (means):\n\n{render_table(record)}")
    return "\n\n".join(parts)


def render_cost(name: str) -> str:
    """Parameters and FLOPs of a preset for 4 s of audio."""
    cost = complexity(MannerConfig.from_preset(name))
    return (
        f"{cost.parameters:,} parameters; {cost.flops / 1e9:.2f} GFLOPs for 4 s of audio counted truly, "
        f"{cost.flops_thop / 1e9:.2f} in the papers' convention (`mvat info {name}` explains the difference)."
    )


def render_speed(record: Mapping[str, Any]) -> str:
    """A table of `scripts/benchmarks/inference.json` for every model and number of threads."""
    machine, limit = record["environment"]["machine"], record["limit"]
    parts = []
    for name, model in record["models"].items():
        for threads in sorted({row["threads"] for row in model["rows"]}):
            rows = [row for row in model["rows"] if row["threads"] == threads]
            bound = model["gflops_of_10_seconds"] / limit["oneDNN"]
            parts.append(
                f"{name}, {threads} thread{'s' * (threads > 1)} of {machine['processor']}; times the speed of the "
                f"baseline, by length of the input:\n\n{speed_table(rows, model.get('quality', []))}\n\n"
                f"One core's float32 matrix products reach {limit['oneDNN']:.0f} GFLOP/s there by oneDNN, "
                f"{limit['matmul']:.0f} by `torch.matmul`. The straightforward graph is "
                f"{model['gflops_of_10_seconds']:.1f} GFLOP for 10 s: {1000 * bound:.0f} ms at the first rate."
            )
    return "\n\n".join(parts)


def speed_table(rows: list[dict[str, Any]], quality: list[dict[str, Any]]) -> str:
    """A line for every system: ratios by length, time for 10 s, largest error, memory at the longest, scores."""
    lengths = sorted({row["seconds"] for row in rows})
    titles = ["", *(f"{length:g} s" for length in lengths), "10 s take", "largest error", f"memory, {lengths[-1]:g} s"]
    titles += ["PESQ", "SI-SDR (dB)"] if quality else []
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for system in dict.fromkeys(row["system"] for row in rows):
        own = {row["seconds"]: row for row in rows if row["system"] == system}
        cells = [system, *(f"{own[length]['ratio']:.2f}x" for length in lengths)]
        cells.append(f"{1000 * own[10]['median_seconds']:.0f} ms" if 10 in own else "not measured")
        cells.append(f"{max(row['error'] for row in own.values()):.0e}")
        cells.append(f"{own[lengths[-1]]['peak_megabytes']:.0f} MB")
        for score in (score for score in quality if score["system"] == system):
            cells += [f"{score[key]:.3f} ({score[f'{key}_change']:+.4f})" for key in ("pesq", "si_sdr")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fill_block(text: str, name: str, content: str) -> str:
    """`text` with what stands between `<!-- NAME -->` and `<!-- /NAME -->` replaced.

    Raises:
        ValueError: the markers are not there.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise ValueError(f"no block {start} … {end} to fill")
    before, rest = text.split(start, 1)
    return f"{before}{start}\n{content}\n{end}{rest.split(end, 1)[1]}"
