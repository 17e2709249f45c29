"""Model cards and README tables, rendered from the records of `model_cards/NAME/`; no number in them is typed.

A folder there holds `about.md` (licence, languages and data sets as metadata; data, licences and limits in prose),
`training.json` (the run's record), one `eval_*.json` for every test set, and perhaps `trials.json` (records of short
runs by which the recipe was chosen) and `history.json` (what earlier releases scored).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CardData, EvalResult, ModelCard, ModelCardData

from ..evaluation.report import markdown, render_table
from ..metrics.scoring import METRICS, TITLES
from ..models.complexity import complexity
from ..models.manner import MannerConfig

# data set of a record: its title, how many pairs it has in full, and its id on the Hub
TEST_SETS = {
    "dns test": ("DNS Challenge 2020, synthetic no_reverb test set", 150, "dns-challenge-2020"),
    "valentini test": ("VoiceBank-DEMAND (Valentini) test set", 824, "JacobLinCool/VoiceBank-DEMAND-16k"),
}


def read_records(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(training record, evaluation records) of a card's folder."""
    evaluations = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("eval_*.json"))]
    return json.loads((folder / "training.json").read_text(encoding="utf-8")), evaluations


def render_card(folder: str | Path) -> str:
    """The card of `model_cards/NAME`, with the Hub's metadata in front."""
    folder = Path(folder)
    training, evaluations = read_records(folder)
    about = ModelCard.load(folder / "about.md")
    sections = [
        f"---\n{card_metadata(folder.name, about.data, training, evaluations).to_yaml()}\n---",
        f"# {folder.name}",
        about.text.strip(),
        "## How it was trained",
        render_training(training),
        *render_trials(folder / "trials.json"),
        "## What it scores",
        render_results(evaluations),
        *render_history(folder / "history.json"),
        "## What it costs",
        render_cost(folder.name),
        "## How to use it",
        USAGE.format(repo=f"mvat/{folder.name}"),
    ]
    return "\n\n".join(sections) + "\n"


# options that validation depends on too, see `load_dns` and `EnhancementTrainer`
VALIDATION_OPTIONS = ("snr_low", "snr_high", "level_low", "level_high", "silence_seconds", "active_snr", "high_pass_hz")
OTHER_FILES = "\\*"  # after a score that cannot be compared; Markdown shows the star alone
USAGE = """```python
from transformers import pipeline

clean = pipeline("audio-to-audio", model="{repo}", trust_remote_code=True)
cleaned = clean("noisy.wav")  # {{"audio": numpy, "sampling_rate": that of the file}}, of the file's length
```

That needs transformers, soundfile and soxr. With `mvat_hf` installed, no code is taken from the Hub:

```python
from mvat_hf import MannerModel, enhance

model = MannerModel.from_pretrained("{repo}")
cleaned = enhance(model, "noisy.wav")  # {{"audio": numpy, "sampling_rate": Hz}}, as the file has it
```"""

# of every card
HUB_METADATA: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "audio-to-audio"}
TAGS = ["speech-enhancement", "denoising", "manner"]
DISTILLED_TAGS = ["knowledge-distillation"]


def render_run_card(repo: str, config: MannerConfig, chosen: Mapping[str, Any] | None = None) -> str:
    """
    The card of weights that nobody has measured on a test set, which is what it says.

    Args:
        chosen: the validation by which a run chose its weights, of its log.
    """
    cost = complexity(config)
    validated = "" if chosen is None else f" {render_validation(chosen)}"
    sections = [
        f"---\n{ModelCardData(tags=TAGS, **HUB_METADATA).to_yaml()}\n---",
        f"# {repo.rpartition('/')[2]}",
        f"MANNER for speech enhancement at {config.sampling_rate} Hz: hidden size {config.hidden_size}, depth "
        f"{config.depth}, {cost.parameters:,} parameters.",
        f"**Not measured on a test set.** How good it is, nothing here says.{validated}",
        "## How to use it",
        USAGE.format(repo=repo),
    ]
    return "\n\n".join(sections) + "\n"


def publish_faults(card: Path, weights_sha256: str) -> list[str]:
    """
    What keeps weights of that hash (`records.weights_hash`) from being published with `card`: a card that lacks its
    licence, its data or its results, or results that were measured on other weights.
    """
    if not card.is_file():
        return [f"there is no card ({card.name})"]
    try:
        data = ModelCard.load(card).data
    except (yaml.YAMLError, ValueError) as error:
        return [f"the metadata of its card cannot be read: {error}"]
    needed = {"license": "licence (license)", "datasets": "data (datasets)", "eval_results": "results (model-index)"}
    faults = [f"its card names no {what}" for key, what in needed.items() if not data.get(key)]
    measured = data.get("weights_sha256")
    if measured is None:
        faults.append("its card does not say on which weights the results were measured (weights_sha256)")
    elif measured != weights_sha256:
        faults.append(f"its results were measured on other weights ({measured}) than these ({weights_sha256})")
    return faults


def measured_weights(name: str, evaluations: list[dict[str, Any]]) -> str:
    """Hash of the weights on which all results of a model were measured; ValueError if that is not one."""
    systems = [system for record in evaluations for system in record["systems"] if system["name"] == name]
    hashes = {system["weights_sha256"] for system in systems}
    if len(hashes) != 1:
        raise ValueError(f"the results of {name} must be of one set of weights, got {len(hashes)}")
    return hashes.pop()


def card_metadata(
    name: str, about: CardData, training: Mapping[str, Any], evaluations: list[dict[str, Any]]
) -> ModelCardData:
    """The Hub's metadata: licence, languages and data sets of `about`, every mean of this model as a result."""
    results = [
        EvalResult(
            task_type="audio-to-audio",
            task_name="Speech enhancement",
            dataset_type=TEST_SETS[record["dataset"]["name"]][2],
            dataset_name=f"{TEST_SETS[record['dataset']['name']][0]}, {scored_pairs(system, record)}",
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
        license=about.get("license"),
        language=about.get("language"),
        datasets=about.get("datasets"),
        tags=[*TAGS, *(DISTILLED_TAGS if training["teacher"] else [])],
        metrics=list(TITLES),
        eval_results=results,
        weights_sha256=measured_weights(name, evaluations),
        **HUB_METADATA,
    )


def scored_pairs(system: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """ "150 pairs", or "148 of 150 pairs" where the means of a system lack some."""
    files = record["dataset"]["files"]
    return f"{files} pairs" if system["scored"] == files else f"{system['scored']} of {files} pairs"


def render_training(record: Mapping[str, Any]) -> str:
    """Data, recipe and validation of a run in a few lines."""
    recipe, data, chosen = record["recipe"], record["training_data"], record["chosen"]
    versions = record["environment"]["versions"]
    options = ", ".join(f"{name} {value}" for name, value in sorted(recipe.items()))
    machine = record["environment"]["machine"]
    processes = record.get("processes", 1)
    steps = f"{record['steps']} steps" + (f" of {processes} processes, a batch each" if processes > 1 else "")
    lines = [
        f"- Data: {', '.join(f'{part}: {describe_part(files)}' for part, files in data.items())}.",
        f"- Recipe: {steps}; {options}.",
        f"- {record['validation_files']} files for validation. {render_validation(chosen)}",
        f"- Commit {record['environment']['commit'] or 'not recorded'}, seed {record['seed']}, "
        f"torch {versions['torch']}, {machine['processor']}, {machine['cores']} cores.",
    ]
    return "\n".join(lines)


def render_trials(path: Path) -> list[str]:
    """What differed between short runs and how they validated, under a heading; nothing without a record.

    A table for every kind of run: of the same model, first weights, seed and validation mixtures.
    """
    if not path.is_file():
        return []
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for trial in json.loads(path.read_text(encoding="utf-8")):
        recipe = trial["recipe"]
        kind = (recipe["preset"], recipe.get("init_from"), trial["seed"], validated_on(trial))
        kinds.setdefault(kind, []).append(trial)
    parts = ["### What was tried"]
    for (preset, weights, _, (files, *_)), trials in kinds.items():
        begun = f"from {weights}" if weights else "from the first step on"
        runs = f"Short runs of {preset} {begun}, on the same mixtures" if trials[1:] else f"A run of {preset} {begun}"
        parts.append(f"{runs}, validated on {files} files:\n\n{trials_table(trials)}")
    return parts


def validated_on(training: Mapping[str, Any]) -> tuple[Any, ...]:
    """How many files a run's record validated on, and the options that these depend on: alike if scores compare."""
    return (training["validation_files"], *(training["recipe"].get(name) for name in VALIDATION_OPTIONS))


def trials_table(trials: Sequence[Mapping[str, Any]]) -> str:
    """A line for every run: its own options (of a run by itself, the weights of its losses) and its last validation."""
    # a plain run of `scripts/distill.py` names the teacher that it does not use
    names = sorted({name for trial in trials for name in trial["recipe"]} - {"teacher", "method"})
    differing = [name for name in names if len({str(trial["recipe"].get(name)) for trial in trials}) > 1]
    if len(trials) == 1:
        differing = [name for name in names if name.endswith("_weight")]
    rows = [[*differing, "steps", *(f"validation {title}" for title in TITLES.values())]]
    for trial in trials:
        last = trial["validations"][-1]
        scores = [METRICS[key].format.format(last[f"eval_{key}"]) for key in TITLES]
        steps = f"{trial['steps']}{not_scored(last)}"
        rows.append([*(str(trial["recipe"].get(name, 0)) for name in differing), steps, *scores])
    return markdown(rows)


def render_validation(chosen: Mapping[str, Any]) -> str:
    """ "Validation chose step 250: …", of an entry in a run's log."""
    scores = ", ".join(f"{title} {chosen[f'eval_{key}']:.3f}" for key, title in TITLES.items())
    return f"Validation chose step {chosen['step']}: {scores}{not_scored(chosen)}."


def not_scored(validation: Mapping[str, Any]) -> str:
    """ " (2 files not scored)" of an entry in a run's log, whose means lack them; nothing where all are scored."""
    count = validation.get("eval_unscorable", 0)
    return f" ({count:.0f} {'files' if count > 1 else 'file'} not scored)" if count else ""


def describe_part(part: Mapping[str, Any]) -> str:
    """ "907 files, 1.8 h in 255 folders"."""
    return f"{part['files']} files, {part['hours']:.1f} h in {part['folders']} folders"


def render_results(evaluations: list[dict[str, Any]], metrics: Sequence[str] | None = None) -> str:
    """A table for every test set, with how much of the full set it is; `metrics` selects its columns."""
    parts = []
    for record in evaluations:
        title, share = TEST_SETS[record["dataset"]["name"]][0], share_of_set(record)
        parts.append(
            f"{title}, {share} (means, with 95 % bootstrap intervals over files):\n\n{render_table(record, metrics)}"
        )
    return "\n\n".join(parts)


def share_of_set(record: Mapping[str, Any]) -> str:
    """ "all 150 pairs", or "75 of its 150 pairs", of the test set that an evaluation is of."""
    files, full = record["dataset"]["files"], TEST_SETS[record["dataset"]["name"]][1]
    return f"all {full} pairs" if files == full else f"{files} of its {full} pairs"


def render_history(path: Path) -> list[str]:
    """What every release scored, the oldest first, under a heading; nothing without a record."""
    if not path.is_file():
        return []
    releases = json.loads(path.read_text(encoding="utf-8"))["releases"]
    last = releases[-1]["scores"]
    rows = [["release", "date", *(f"{source} {title}" for source in last for title in TITLES.values())]]
    for number, release in enumerate(releases, 1):
        rows.append([str(number), release["date"]])
        for source in last:
            scores = release["scores"][source]
            mark = "" if scores["files"] == last[source]["files"] else OTHER_FILES
            rows[-1] += [METRICS[key].format.format(scores[key]) + mark for key in TITLES]
    table = markdown(rows)
    note = [f"{OTHER_FILES} on other files, or otherwise mixed, than those of the last release."]
    return ["### What earlier releases scored", table, *(note if OTHER_FILES in table else [])]


def render_cost(name: str) -> str:
    """Parameters and FLOPs of a preset for 4 s of audio."""
    cost = complexity(MannerConfig.from_preset(name))
    return (
        f"{cost.parameters:,} parameters; {cost.flops / 1e9:.2f} GFLOPs for 4 s of audio counted truly, "
        f"{cost.flops_thop / 1e9:.2f} in the papers' convention (`mvat info {name}` explains the difference)."
    )


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
