"""The sections of a card in Markdown, each from one record."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.report import add_statistics, markdown, render_differences, render_table
from ..metrics.scoring import METRICS, TITLES
from ..models.complexity import complexity
from ..models.manner import MannerConfig
from ..utils.records import read_json

# data set of a record: its title, how many pairs it has in full, and its id on the Hub
TEST_SETS = {
    "dns test": ("DNS Challenge 2020, synthetic no_reverb test set", 150, "dns-challenge-2020"),
    "valentini test": ("VoiceBank-DEMAND (Valentini) test set", 824, "JacobLinCool/VoiceBank-DEMAND-16k"),
}


def render_lineage(folder: Path) -> str:
    """The stages of `lineage.json`, a row each, with the validation scores of releases from `history.json`."""
    if not (folder / "lineage.json").is_file():
        return "One run, see below."
    stages = read_json(folder / "lineage.json")["stages"]
    releases = read_json(folder / "history.json")["releases"]
    rows = [["stage", "data", "steps", "what changed", f"validation: {' / '.join(TITLES.values())}"]]
    for number, stage in enumerate(stages, 1):
        released = stage.get("release")
        scores = releases[released - 1]["scores"]["validation"] if released else {}
        shown = " / ".join(METRICS[key].show(scores[key]) for key in TITLES) if scores else "not recorded"
        if scores and scores["files"] != releases[-1]["scores"]["validation"]["files"]:
            shown += OTHER_FILES
        title = f"{number}, release {released}" if released else str(number)
        rows.append([title, stage["data"], f"{stage['steps']:,}", stage["change"], shown])
    return noted(markdown(rows))


def noted(table: str) -> str:
    """A table, followed by the meaning of its stars if it has any."""
    return f"{table}\n\n{OTHER_NOTE}" if OTHER_FILES in table else table


def render_recogniser(folder: Path, weights_sha256: str) -> str:
    """Word error rates by signal-to-noise ratio and share of the input, from `recogniser.json`; "" without that file.
    It says so if other weights than those of the card were measured."""
    if not (folder / "recogniser.json").is_file():
        return ""
    record = read_json(folder / "recogniser.json")
    shares = list(dict.fromkeys(row["dry"] for row in record["rows"]))
    rates: dict[float, list[str]] = {}
    for row in record["rows"]:
        shown = f"{row['word_error_rate']:.0%} ({row['low']:.0%} to {row['high']:.0%})"
        rates.setdefault(row["snr"], []).append(shown)
    whose = "" if record["weights_sha256"] == weights_sha256 else ", by the weights of an earlier release"
    titles = ["noisy" if share == 1 else f"`dry` {share:g}" for share in shares]
    rows = [["SNR (dB)", *titles], *([f"{snr:g}", *cells] for snr, cells in rates.items())]
    return (
        f"## For a speech recogniser\n\nWord error rate of PocketSphinx, against its text of the clean recording, over "
        f"{record['recordings']} validation recordings with {record['words']} words, and 95% intervals{whose}:\n\n"
        f"{markdown(rows)}"
    )


def render_versions(versions: Mapping[str, str]) -> str:
    """A line for every package of a run's environment."""
    return "\n".join(f"- {name} {version}" for name, version in versions.items())


# options that the validation mixtures depend on, see `load_dns`; and the high pass, as release 13 was compared with
# filtered clean audio
VALIDATION_OPTIONS = ("snr_low", "snr_high", "level_low", "level_high", "silence_seconds", "active_snr", "high_pass_hz")
OTHER_FILES = "\\*"  # after a score that cannot be compared; Markdown shows the star alone
OTHER_NOTE = f"{OTHER_FILES} on other files, or otherwise mixed, than those of the last release."


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


def render_trials(path: Path) -> str:
    """The options that differ between short runs, and their validation scores.

    A table for every kind of run: of the same model, first weights, seed and validation mixtures.
    """
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for trial in read_json(path):
        recipe = trial["recipe"]
        kind = (recipe["preset"], recipe.get("init_from"), trial["seed"], validated_on(trial))
        kinds.setdefault(kind, []).append(trial)
    parts = []
    for (preset, weights, _, (files, *_)), trials in kinds.items():
        begun = f"from {weights}" if weights else "from the first step on"
        runs = f"Short runs of {preset} {begun}, on the same mixtures" if trials[1:] else f"A run of {preset} {begun}"
        parts.append(f"{runs}, validated on {files} files:\n\n{trials_table(trials)}")
    return "\n\n".join(parts)


def validated_on(training: Mapping[str, Any]) -> tuple[Any, ...]:
    """The number of a run's validation files, and the options that they depend on; equal if scores can be compared."""
    return (training["validation_files"], *(training["recipe"].get(name) for name in VALIDATION_OPTIONS))


def trials_table(trials: Sequence[Mapping[str, Any]]) -> str:
    """A line for every run: its own options (of a run by itself, the weights of its losses) and its last validation."""
    # a plain run of `scripts/distill.py` names the teacher that it does not use
    unused = {"teacher", "teacher_model_name_or_path", "method"}
    names = sorted({name for trial in trials for name in trial["recipe"]} - unused)
    differing = [name for name in names if len({str(trial["recipe"].get(name)) for trial in trials}) > 1]
    if len(trials) == 1:
        differing = [name for name in names if name.endswith("_weight")]
    rows = [[*differing, "steps", *(f"validation {title}" for title in TITLES.values())]]
    for trial in trials:
        last = trial["validations"][-1]
        scores = [METRICS[key].show(last[f"eval_{key}"]) for key in TITLES]
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


def render_twin(name: str, evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Score differences of a distilled model to its twin without a teacher, for every test set with a row `NAME-plain`;
    "" if there is none."""
    parts = []
    for record in evaluations:
        rows = {system["name"]: system for system in record["systems"]}
        if twin := rows.get(f"{name}-plain"):
            systems = [dict(row) for row in (record["systems"][0], twin, rows[name])]
            differences = render_differences(add_statistics({**record, "systems": systems}))
            parts.append(f"{TEST_SETS[record['dataset']['name']][0]}:\n\n{differences}")
    if not parts:
        return ""
    about = (
        f"`{name}-plain` is its twin: the same first weights, data, steps and seed, without a teacher; a run each. "
        "Mean differences by file, with 95 % bootstrap intervals over files, which leave out differences between seeds:"
    )
    return "\n\n".join(["### What the teacher added", about, *parts])


def share_of_set(record: Mapping[str, Any]) -> str:
    """ "all 150 pairs", or "75 of its 150 pairs", of the test set that an evaluation is of."""
    files, full = record["dataset"]["files"], TEST_SETS[record["dataset"]["name"]][1]
    return f"all {full} pairs" if files == full else f"{files} of its {full} pairs"


def render_history(path: Path) -> str:
    """Scores of every release, the oldest first."""
    releases = read_json(path)["releases"]
    last = releases[-1]["scores"]
    rows = [["release", "date", *(f"{source} {title}" for source in last for title in TITLES.values())]]
    for number, release in enumerate(releases, 1):
        rows.append([str(number), release["date"]])
        for source in last:
            scores = release["scores"][source]
            mark = "" if scores["files"] == last[source]["files"] else OTHER_FILES
            rows[-1] += [METRICS[key].show(scores[key]) + mark for key in TITLES]
    return noted(markdown(rows))


def render_cost(name: str) -> str:
    """Parameters and FLOPs of a preset for 4 s of audio."""
    cost = complexity(MannerConfig.from_preset(name))
    return (
        f"{cost.parameters:,} parameters; {cost.flops / 1e9:.2f} GFLOPs for 4 s of audio counted truly, "
        f"{cost.flops_thop / 1e9:.2f} in the papers' convention (`mvat info {name}` explains the difference)."
    )
