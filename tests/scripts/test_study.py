"""Studies: their cells, what their record says, and one cell run as a user does."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import yaml
from cells import collect, read_record, read_study, recorded, run_cell
from figures import quality_by_method
from tables import gain, render_study

from conftest import run_here
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.training.recipe import RecipeError

REPOSITORY = Path(__file__).parents[2]
STUDIES = sorted((REPOSITORY / "scripts" / "recipes" / "study").glob("*.yaml"))
TESTS = ("dns test", "valentini test")
METHODS = {  # of those studies
    "cpu": {"none", "output", "at", "mvat"},
    "longer": {"none", "output", "at", "mvat", "two-step", "at-kl"},
}
STUDY = {
    "title": "A small study.",
    "presets": ["manner-s-2.2gf", "manner-s-5.3gf"],
    "seeds": [3, 4],
    "recipe": {"max_steps": 2, "beta": 0.5},
    "methods": {"none": {"method": "none"}, "mvat": {"method": "mvat", "beta": 0.1}},
    "ablation": {"preset": "manner-s-2.2gf", "cells": {"p 1": {"method_kwargs": {"p": 1.0}}}},
}


def written(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return path


def test_cells_are_sizes_by_methods_by_seeds_then_the_ablation(tmp_path):
    cells = read_study(written(tmp_path / "study.yaml"))
    assert [cell.path for cell in cells[:4]] == [
        "manner-s-2.2gf/none/seed3", "manner-s-2.2gf/mvat/seed3", "manner-s-5.3gf/none/seed3",
        "manner-s-5.3gf/mvat/seed3",
    ]  # fmt: skip
    assert [cell.path for cell in cells[-2:]] == ["manner-s-2.2gf/p_1/seed3", "manner-s-2.2gf/p_1/seed4"]
    assert len(cells) == 10 and [cell.ablation for cell in cells] == [False] * 8 + [True] * 2
    assert cells[1].recipe == {"max_steps": 2, "beta": 0.1, "preset": "manner-s-2.2gf", "seed": 3, "method": "mvat"}


def test_a_method_is_meant_by_its_name_and_has_options(tmp_path):
    methods = {"none": {}, "two-step": None, "early": {"method": "two-step", "method_kwargs": {"first": 0.1}}}
    path = written(
        tmp_path / "study.yaml", methods=methods, ablation={"preset": "manner-s-2.2gf", "cells": {"p 1": {}}}
    )
    none, by_name, early, *_ = read_study(path)
    assert (none.recipe["method"], by_name.recipe["method"], early.recipe["method"]) == ("none", "two-step", "two-step")
    assert early.recipe["method_kwargs"] == {"first": 0.1} and early.changed({**early.recipe}) == []
    assert early.changed({**early.recipe, "method_kwargs": {"first": 0.2}}) == ["method_kwargs"]
    methods["early"]["method_kwargs"] = {"last": 1}
    with pytest.raises(ValueError, match='"two-step" has no option last, expected first, bins, modules'):
        read_study(written(tmp_path / "study.yaml", methods=methods))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"sizes": []}, "missing or unknown: sizes"), ({"methods": {"mvat": {}}}, 'needs the method "none"')],
)
def test_a_study_with_other_keys_is_refused(tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message):
        read_study(written(tmp_path / "study.yaml", **changes))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_of_the_repository_can_be_read(path):
    cells = read_study(path)
    assert len({cell.path for cell in cells}) == len(cells)
    assert {cell.recipe["method"] for cell in cells if not cell.ablation} == METHODS[path.stem]


def cell_record(preset: str, name: str, seed: int, pesq: list[float]) -> dict:
    scores = {key: {str(index): value for index, value in enumerate(pesq)} for key in ("pesq", "stoi", "si_sdr")}
    means = {key: float(np.mean(pesq)) for key in scores}
    tests = {"dns test": {"scores": scores, "means": means, "failures": []}}
    return {"preset": preset, "name": name, "seed": seed, "ablation": name == "p 1", "tests": tests}


@pytest.fixture
def record() -> dict:
    cells = [
        cell_record("manner-s-2.2gf", "none", 0, [1.0, 2.0, 3.0, 4.0]),
        cell_record("manner-s-2.2gf", "none", 1, [2.0, 3.0, 4.0, 5.0]),
        cell_record("manner-s-2.2gf", "mvat", 0, [1.5, 2.5, 3.5, 4.0]),
        cell_record("manner-s-2.2gf", "mvat", 1, [2.1, 3.1, 4.1, 5.0]),
        cell_record("manner-s-2.2gf", "mvat", 2, [9.0, 9.0, 9.0, 9.0]),  # no plain run of that seed
        cell_record("manner-s-2.2gf", "p 1", 0, [1.0, 2.0, 3.0, 4.5]),
    ]
    noisy = {"pesq": 1.5, "stoi": 0.5, "si_sdr": 3.0}
    tests = {"dns test": {"name": "dns test", "files": 4, "noisy": noisy}}
    return {"title": "A study.", "cells": cells, "planned": 9, "tests": tests, "teacher": None}


def test_a_gain_is_paired_by_file_and_seed(record):
    by_name = {name: [cell for cell in record["cells"] if cell["name"] == name] for name in ("none", "mvat")}
    found = gain(by_name["mvat"], by_name["none"], "dns test", "pesq")
    assert found["by_seed"] == pytest.approx([0.375, 0.075]) and found["files"] == 4
    assert found["mean"] == pytest.approx(np.mean([0.3, 0.3, 0.3, 0.0]))
    assert found["interval"][0] < found["mean"] < found["interval"][1]
    assert gain(by_name["mvat"], [], "dns test", "pesq") == {"mean": None, "interval": None, "by_seed": []}


def test_the_table_has_what_is_there_and_says_how_much(record, tmp_path):
    text = render_study(record)
    assert "6 of 9 cells are measured" in text
    alone = {**record, "cells": [cell for cell in record["cells"] if cell["seed"] == record["cells"][0]["seed"]]}
    assert render_study(alone).startswith("Only one seed was run, so the difference between seeds is not known. ")
    first = "Most variants differ from plain training by no more than its seeds differ from each other. "
    assert text.startswith(first) and "(of 2, by method or variant)" in text
    assert "difference is 2 by PESQ-WB, 2 by STOI, 2 by SI-SDR (dB).\n" in text
    seeds, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| m")
    ]
    assert seeds == ["manner-s-2.2gf", "2", "1.00", "100.0%", "1.00"]
    assert rows[1][:3] == ["mvat", "2", "+0.22 (+0.07 to +0.38), 2 of 2"]
    assert rows[3] == rows[1] and "| p 1 | 1 | +0.12, 1 of 1 |" in text  # the ablation stands beside the whole
    rows = rows[4:]
    assert [row[:3] for row in rows] == [
        ["manner-s-2.2gf", "none", "2"], ["manner-s-2.2gf", "mvat", "3"], ["manner-s-2.2gf", "p 1", "1"],
    ]  # fmt: skip
    assert rows[0][3] == "3.00 (2.50 to 3.50)" and rows[0][6] == ""
    assert rows[1][6].startswith("+0.22 [") and rows[1][6].endswith("] (+0.07 to +0.38)")
    quality_by_method(record, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes()[1:4] == b"PNG"


def test_a_row_over_fewer_files_says_so_and_its_gain_is_over_common_files(record):
    for key in ("pesq", "stoi", "si_sdr"):
        del record["cells"][3]["tests"]["dns test"]["scores"][key]["0"]  # mvat of seed 1
    record["tests"]["dns test"]["noisy_scored"] = 3
    lines = render_study(record).splitlines()
    assert any("| mvat (3 of 4 files) | 3 |" in line for line in lines)
    assert any("| noisy (3 of 4 files) |" in line for line in lines)
    assert any("| none | 2 |" in line for line in lines)
    by_name = {name: [cell for cell in record["cells"] if cell["name"] == name] for name in ("none", "mvat")}
    assert gain(by_name["mvat"], by_name["none"], "dns test", "pesq")["files"] == 3


@pytest.fixture(scope="module")
def corpora(tmp_path_factory, speech) -> Path:
    """DNS and Valentini folders of generated noise and the demo's voices, a pair in each test set."""
    root = tmp_path_factory.mktemp("corpora")
    rng = np.random.default_rng(0)
    pairs = {"dns/test_set/synthetic/no_reverb": "clean_fileid_1", "valentini": "p232_001"}
    for number, audio in enumerate(speech):
        (root / "dns" / "clean" / f"voice{number}").mkdir(parents=True)
        soundfile.write(root / "dns" / "clean" / f"voice{number}" / "0.flac", audio, 16000)
        (root / "dns" / "noise" / f"type{number}").mkdir(parents=True)
        soundfile.write(root / "dns" / "noise" / f"type{number}" / "0.flac", 0.1 * rng.standard_normal(32000), 16000)
    for below, name in pairs.items():
        for kind, audio in {
            "clean": speech[0],
            "noisy": speech[0] + 0.02 * rng.standard_normal(len(speech[0])),
        }.items():
            folder = root / below / (kind if below.startswith("dns") else f"{kind}_testset_wav")
            folder.mkdir(parents=True)
            soundfile.write(folder / f"{name}.flac", audio, 16000)
    return root


def train_here(command, stdout, **_) -> SimpleNamespace:
    """What a cell needs of `subprocess.run` for its training, in this process."""
    done = run_here("distill.py", *command[2:])
    stdout.write(done.stdout + done.stderr)
    return done


def test_a_study_runs_resumes_and_measures(corpora, tmp_path, monkeypatch):
    teacher = SNAPSHOTS / "manner-s-8.1gf"
    recipe = {
        "teacher_model_name_or_path": str(teacher), "dataset": "dns", "segment_seconds": 0.3, "max_steps": 2,
        "eval_steps": 2, "save_steps": 2, "per_device_train_batch_size": 2, "validation_files": 1, "use_cpu": True,
        "hidden_size": 6,
    }  # fmt: skip
    changes = {"presets": ["manner-s-2.2gf"], "seeds": [0]}
    config = written(tmp_path / "study.yaml", recipe=recipe, **changes)
    arguments = [
        f"--config={config}", f"--dns_root={corpora}/dns", f"--valentini_root={corpora}/valentini",
        f"--folder={tmp_path}/runs", f"--output={tmp_path}/study.json",
    ]  # fmt: skip
    for name, value in {"PYTHONPATH": str(REPOSITORY / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)

    def launch(*options: str) -> dict:
        command = [sys.executable, REPOSITORY / "scripts" / "study" / "run.py", *arguments, *options]
        return result(subprocess.run(command, capture_output=True, text=True, check=False))

    def run(*options: str) -> dict:
        with monkeypatch.context() as patch:
            patch.setattr("cells.subprocess", SimpleNamespace(run=train_here, STDOUT=subprocess.STDOUT))
            return result(run_here("study/run.py", *arguments, *options))

    def result(done) -> dict:
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads((tmp_path / "study.json").read_text())

    first = launch("--cells", "none")
    assert [cell["name"] for cell in first["cells"]] == ["none"] and first["planned"] == 3
    weights = (tmp_path / "runs" / "manner-s-2.2gf" / "none" / "seed0" / "model.safetensors").stat().st_mtime_ns
    record = run()
    assert (tmp_path / "runs" / "manner-s-2.2gf" / "none" / "seed0" / "model.safetensors").stat().st_mtime_ns == weights
    assert {cell["name"] for cell in record["cells"]} == {"none", "mvat", "p 1"}
    assert all(set(cell["tests"]) == {"dns test", "valentini test"} for cell in record["cells"])
    assert record["cells"][0] == first["cells"][0]
    assert all([entry["step"] for entry in cell["validations"]] == [2] for cell in record["cells"])
    assert (tmp_path / "study.png").read_bytes()[1:4] == b"PNG"
    assert not (tmp_path / "runs" / "teacher").exists()  # no students of other sizes share it
    assert collect(read_study(config), tmp_path / "elsewhere", "", {}, TESTS)["cells"] == []
    longer = read_study(written(tmp_path / "longer.yaml", recipe={**recipe, "max_steps": 3}, **changes))
    assert collect(longer, tmp_path / "runs", "", {}, TESTS)["cells"] == []
    steps = {"max_steps": 3}
    before = {**record, "cells": [{**row, "recipe": {**row["recipe"], **steps}} for row in record["cells"]]}
    assert collect(longer, tmp_path / "runs", "", before, TESTS)["cells"] == before["cells"]
    with pytest.raises(RecipeError, match=r"dns_test.json is of 1 pairs, others are of 75"):
        tests = {name: {**test, "files": 75} for name, test in record["tests"].items()}
        collect(read_study(config), tmp_path / "runs", "", {**record, "tests": tests}, TESTS)

    half = tmp_path / "runs" / "manner-s-2.2gf" / "none" / "seed0" / "valentini_test.json"
    half.rename(tmp_path / "kept.json")  # as after a kill between the two test sets
    assert [cell["name"] for cell in collect(read_study(config), tmp_path / "runs", "", {}, TESTS)["cells"]] == [
        "mvat", "p 1",
    ]  # fmt: skip
    (tmp_path / "kept.json").rename(half)

    (tmp_path / "runs").rename(tmp_path / "lost")
    assert run() == record and not (tmp_path / "runs").exists()
    again = run("--cells", "none", "--again")["cells"]
    assert [cell["name"] for cell in again] == [cell["name"] for cell in record["cells"]]
    assert again[1:] == record["cells"][1:] and (tmp_path / "runs").exists()
    for name, test in record["cells"][0]["tests"].items():  # in a process that has computed before: to rounding
        assert again[0]["tests"][name]["means"] == pytest.approx(test["means"], rel=1e-3)


def test_a_training_that_dies_is_told(tmp_path, monkeypatch):
    cell = read_study(written(tmp_path / "study.yaml"))[0]
    log = tmp_path / cell.path / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("what an earlier try said\n")
    script = tmp_path / "distill.py"
    monkeypatch.setattr("cells.DISTILL", script)
    for source, says in (("import os; os.kill(os.getpid(), 9)", "-9: it said nothing"), ("exit('a, b')", "1: a, b")):
        script.write_text(source)
        with pytest.raises(RecipeError, match=f"none/seed3 failed with exit status {says}"):
            run_cell(cell, tmp_path, tmp_path, {}, None)


def test_options_that_yaml_has_as_text_are_the_same(tmp_path):
    cell = read_study(written(tmp_path / "study.yaml", recipe={"attention_levels": "2"}))[0]
    assert cell.changed({**cell.recipe}) == [] and cell.changed({**cell.recipe, "attention_levels": "1"})


def test_a_record_stands_for_lost_runs_of_the_same_recipe_only(tmp_path, record):
    recipe = {"max_steps": 2, "learning_rate": "1e-3", "lr_scheduler_kwargs": '{"num_decay_steps": 5}'}
    cells = read_study(written(tmp_path / "study.yaml", seeds=[0, 1], recipe=recipe))
    by_key = {(cell.preset, cell.name, cell.seed): cell for cell in cells}
    for row in record["cells"]:
        cell = by_key.get((row["preset"], row["name"], row["seed"]))
        trained = {"learning_rate": 0.001, "lr_scheduler_kwargs": {"num_decay_steps": 5}, "weight_decay": 0.01}
        row["recipe"] = {**cell.recipe, **trained} if cell else {}
    earlier = {**record, "teacher": None}
    kept = recorded(cells, earlier)
    assert len(kept) == 5 and kept["manner-s-2.2gf/p_1/seed0"] == record["cells"][-1]
    kept_rows = [kept[cell.path] for cell in cells if cell.path in kept]
    assert collect(cells, tmp_path, "", earlier, TESTS)["cells"] == kept_rows
    record["cells"][0]["recipe"]["max_steps"] = 3
    assert recorded(cells, earlier).keys() == kept.keys() - {"manner-s-2.2gf/none/seed0"}


def test_a_record_of_other_test_files_is_refused(tmp_path, record):
    (tmp_path / "study.json").write_text(json.dumps(record))
    assert read_record(tmp_path / "study.json", {"dns test": range(4)}) == record
    with pytest.raises(RecipeError, match="is of 4 pairs of dns test, here are 75"):
        read_record(tmp_path / "study.json", {"dns test": range(75)})
    assert read_record(tmp_path / "none.json", {"dns test": range(75)}) == {}
