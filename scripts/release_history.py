"""Write what every release of a model scored, from the records of its card in the history of this repository.

    python scripts/release_history.py [model_cards/manner-s-8.1gf]

Writes `history.json` beside the records, and `history.png`: all releases, and the other systems of the newest records.
Needs the whole history: a shallow clone knows the last releases only. To be run after a release was committed.
"""

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mvat_hf.hub.cards import measured_weights, read_records
from mvat_hf.hub.sections import validated_on
from mvat_hf.metrics.scoring import TITLES
from mvat_hf.utils.errors import run_script
from mvat_hf.utils.plotting import legend_below
from mvat_hf.utils.records import write_json


def read_history(folder: Path) -> dict[str, Any]:
    """The record of all releases, the oldest first: a release is a set of weights, and its last records count."""
    releases: dict[str, dict[str, Any]] = {}
    for line in git(folder, "log", "--reverse", "--format=%H %cs", "--", "eval_*.json").splitlines():
        commit, date = line.split()
        names = git(folder, "ls-tree", "--name-only", commit, "./").split()
        records = {name: json.loads(git(folder, "show", f"{commit}:./{name}")) for name in names if is_record(name)}
        training = records.pop("training.json")
        evaluations = list(records.values())
        weights = measured_weights(folder.name, evaluations)
        date = releases.pop(weights, {"date": date})["date"]
        releases[weights] = {
            "commit": commit,
            "date": date,
            "scores": scores_of(folder.name, training, evaluations),
        }
    return {"kind": "history", "model": folder.name, "releases": list(releases.values())}


def git(folder: Path, *arguments: str) -> str:
    """The output of git in `folder`; ValueError with its error message."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def is_record(name: str) -> bool:
    """Whether a file of a card's folder is the record of its training or of an evaluation."""
    return name == "training.json" or (name.startswith("eval_") and name.endswith(".json"))


def scores_of(name: str, training: dict[str, Any], evaluations: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The means of a release in validation and by test set, each with what says which "files" these were."""
    validated = {key: training["chosen"][f"eval_{key}"] for key in TITLES}
    scores = {"validation": {"files": list(validated_on(training)), **validated}}
    for record in evaluations:
        means = next(system["means"] for system in record["systems"] if system["name"] == name)
        data = record["dataset"]
        scores[data["name"]] = {"files": data["files"], **{key: means[key] for key in TITLES}}
    return scores


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("model_cards/manner-s-8.1gf"))
    folder = parser.parse_args().folder
    history = read_history(folder)
    write_json(folder / "history.json", history)
    quality_by_release(history, read_records(folder)[1], folder / "history.png")
    print(f"{len(history['releases'])} releases in {folder / 'history.json'}")


if __name__ == "__main__":
    run_script(main)
