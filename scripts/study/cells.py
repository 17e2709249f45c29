"""The cells of a study: students of several sizes by several methods and seeds, each distilled and measured alike.

A study is a YAML file (`scripts/recipes/study/`): a recipe that all cells share, and what differs from cell to cell.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mvat_hf.distillation import METHODS, build_method
from mvat_hf.metrics.scoring import QUICK
from mvat_hf.training.arguments import DistillationConfig
from mvat_hf.training.recipe import RESULT_OPTIONS, RecipeError, read_recipe
from mvat_hf.utils.records import environment, read_json, write_json, write_text

KEYS = {"title", "recipe", "presets", "seeds", "methods"}
OPTIONAL_KEYS = {"ablation"}
PLAIN = "none"  # the method that the others are compared with
DISTILL = Path(__file__).parents[2] / "scripts" / "distill.py"


@dataclass(frozen=True)
class Cell:
    """
    One training run of a study.

    Attributes:
        preset: the student's size.
        name: the method, or the variant of an ablation.
        seed: of weights, data order and crops; the same in all cells of a row.
        recipe: all options, those that all cells share and those that are the cell's own.
        ablation: whether it belongs to the ablation.
    """

    preset: str
    name: str
    seed: int
    recipe: Mapping[str, Any]
    ablation: bool

    @property
    def path(self) -> str:
        """Its folder below that of the study."""
        return f"{self.preset}/{self.name.replace(' ', '_')}/seed{self.seed}"

    def changed(self, trained: Mapping[str, Any]) -> list[str]:
        """Options that a run by the recipe `trained` had otherwise."""
        own = self.recipe
        return sorted(name for name in own.keys() & RESULT_OPTIONS if typed(trained.get(name)) != typed(own[name]))


def typed(value: Any) -> Any:
    """An option in one form, where YAML or a record has it as text: numbers such as 1e-3, and mappings in JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def read_study(path: str | Path) -> list[Cell]:
    """
    The cells of a study: for every seed all sizes by all methods, then those of the ablation if it has one. A cell with
    the name of a method has that method, unless it sets another; its options are `method_kwargs`.

    Raises:
        RecipeError: a key that is missing or unknown, or no method "none" to compare with.
        ValueError: a method or an option of it that there is not.
    """
    study = read_recipe(path)
    if differing := (study.keys() - OPTIONAL_KEYS) ^ KEYS:
        expected = f"{', '.join(sorted(KEYS))}, and may have {', '.join(OPTIONAL_KEYS)}"
        raise RecipeError(f"{path} must have the keys {expected}; missing or unknown: {', '.join(sorted(differing))}")
    if PLAIN not in study["methods"]:
        raise RecipeError(f'{path} needs the method "{PLAIN}", which the others are compared with')

    def cell(preset: str, name: str, seed: int, own: Mapping[str, Any] | None, ablation: bool) -> Cell:
        own = {**({"method": name} if not ablation and name in METHODS else {}), **(own or {})}
        method = own.get("method", study["recipe"].get("method", DistillationConfig.method))
        options = {**(study["recipe"].get("method_kwargs") or {}), **(own.get("method_kwargs") or {})}
        build_method(method, **options)  # now, not when the cells before it have run for hours
        return Cell(preset, name, seed, {**study["recipe"], "preset": preset, "seed": seed, **own}, ablation)

    cells = []
    for seed in study["seeds"]:
        for preset in study["presets"]:
            cells += [cell(preset, name, seed, own, False) for name, own in study["methods"].items()]
    if ablation := study.get("ablation"):
        for seed in study["seeds"]:
            cells += [cell(ablation["preset"], name, seed, own, True) for name, own in ablation["cells"].items()]
    return cells


def run_cell(cell: Cell, folder: Path, data_root: Path, test_sets: Mapping[str, Any], cache: Path | None) -> None:
    """Train a cell below `folder` by `scripts/distill.py` and measure it, as far as that is not done.

    Args:
        data_root: DNS folder to train and validate on.
        test_sets: data sets by their names in records, "dns test" and "valentini test".
        cache: see `TargetCache`.

    Raises:
        RecipeError: the training failed, or the folder holds a run of another recipe.
    """
    from mvat_hf.evaluation.evaluating import evaluate_systems

    own = folder / cell.path
    if not (own / "results.json").is_file():
        recipe = write_text(own / "cell.yaml", yaml.safe_dump(dict(cell.recipe)))
        command = [sys.executable, str(DISTILL), "--config", str(recipe), "--data_root", str(data_root)]
        command += ["--output_dir", str(own), *(["--teacher_cache", str(cache)] if cache else [])]
        log = own / "log.txt"
        earlier = log.stat().st_size if log.is_file() else 0
        with log.open("a", encoding="utf-8") as output:
            status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
        if status:
            said = log.read_bytes()[earlier:].decode(errors="replace").split("\n")
            last = next((line for line in reversed(said) if line.strip()), "it said nothing")
            raise RecipeError(f"{cell.path} failed with exit status {status}: {last}")
    if changed := cell.changed(read_results(own)["recipe"]):
        raise RecipeError(f"{own} holds a run with other {', '.join(changed)}: choose another folder")
    for name, dataset in test_sets.items():
        record = record_path(own, name)
        if not record.is_file():
            journal = record.with_suffix(".jsonl")
            write_json(record, evaluate_systems({"student": own}, dataset, name=name, metrics=QUICK, journal=journal))
            journal.unlink(missing_ok=True)


def read_results(run: Path) -> dict[str, Any]:
    """What a run says of its training."""
    results: dict[str, Any] = read_json(run / "results.json")
    return results


def record_path(run: Path, name: str) -> Path:
    """Where a run keeps its record of a test set."""
    return run / f"{name.replace(' ', '_')}.json"


def read_record(path: Path, test_sets: Mapping[str, Any]) -> dict[str, Any]:
    """An earlier record of the study, empty where there is none yet.

    Raises:
        RecipeError: it is of test sets with another number of files.
    """
    record: dict[str, Any] = read_json(path) if path.is_file() else {}
    for name, test in record.get("tests", {}).items():
        if name in test_sets and len(test_sets[name]) != test["files"]:
            found = f"{test['files']} pairs of {name}, here are {len(test_sets[name])}"
            raise RecipeError(f"{path} is of {found}: choose another --output")
    return record


def recorded(cells: Sequence[Cell], record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier record by the paths of their cells: those whose recipe is still the cell's."""
    rows = {(row["preset"], row["name"], row["seed"]): row for row in record.get("cells", [])}
    found = [(cell, rows.get((cell.preset, cell.name, cell.seed))) for cell in cells]
    return {cell.path: row for cell, row in found if row and not cell.changed(row["recipe"])}


def collect(
    cells: Sequence[Cell], folder: Path, title: str, before: Mapping[str, Any], test_sets: Iterable[str]
) -> dict[str, Any]:
    """The record of a study: every cell that is measured on all `test_sets`, with its validation and scores by file.

    A run of another recipe than its cell's is none of it.

    Args:
        before: an earlier record, or nothing; its rows stand for the cells that `folder` lacks or has of another
            recipe, so that a study goes on where its runs are no more.
    """
    kept = recorded(cells, before)
    found: list[dict[str, Any]] = []
    tests: dict[str, Any] = dict(before.get("tests", {})) if kept else {}
    teacher = before["teacher"] if kept else None
    for cell in cells:
        paths = [record_path(folder / cell.path, name) for name in test_sets]
        training = read_results(folder / cell.path) if all(path.is_file() for path in paths) else None
        if training is None or cell.changed(training["recipe"]):
            found += [kept[cell.path]] if cell.path in kept else []
            continue
        teacher = teacher or training["teacher"]
        row = {
            "preset": cell.preset,
            "name": cell.name,
            "seed": cell.seed,
            "ablation": cell.ablation,
            "recipe": training["recipe"],
            "steps": training["steps"],
            "chosen": training["chosen"],
            "validations": training["validations"],
            "environment": training["environment"],
            "tests": {},
        }
        for path in paths:
            record = read_json(path)
            noisy, student = record["systems"]
            about = {**record["dataset"], "noisy": noisy["means"], "noisy_scored": noisy["scored"]}
            test = tests.setdefault(record["dataset"]["name"], about)
            if record["dataset"]["files"] != test["files"]:
                raise RecipeError(f"{path} is of {record['dataset']['files']} pairs, others are of {test['files']}")
            row["weights_sha256"] = student["weights_sha256"]
            row["tests"][record["dataset"]["name"]] = {
                "failures": student["failures"],
                "means": student["means"],
                "scores": {
                    key: {name: round(score[key], 4) for name, score in student["scores"].items()}
                    for key in record["metrics"]
                },
            }
        found.append(row)
    return {
        "kind": "study",
        "title": title,
        "cells": found,
        "planned": len(cells),
        "tests": tests,
        "teacher": teacher,
        "environment": environment(),
    }
