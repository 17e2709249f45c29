"""The one command that makes the family: every stage in its order, and again without doing anything twice."""

import shutil

import numpy as np
import pytest
import soundfile
import yaml

from conftest import REPOSITORY, run_here
from mvat_hf.models.manner import MannerConfig, MannerModel

RECIPES = sorted((REPOSITORY / "scripts" / "recipes" / "release").glob("*.yaml"))
# small enough for a test: what is left of the recipes is their order, who begins at whom, and who teaches
SHORT = {
    "max_steps": 1, "eval_steps": 1, "save_steps": 1, "validation_files": 1, "per_device_train_batch_size": 2,
    "segment_seconds": 0.25, "recalibration_batches": 0, "scoring_processes": 1, "dataloader_num_workers": 0,
    "use_cpu": True, "bf16": False,
}  # fmt: skip


def train_family(**options: object):
    return run_here("train_family.py", *(f"--{name}={value}" for name, value in {**SHORT, **options}.items()))


def test_every_stage_begins_at_one_before_it():
    known = set()
    for recipe in (yaml.safe_load(path.read_text(encoding="utf-8")) for path in RECIPES):
        assert {recipe[key] for key in ("init_from", "teacher_model_name_or_path") if key in recipe} <= known
        known.add(recipe["output_dir"])
    assert known == {f"runs/release/{path.stem}" for path in RECIPES}


def test_the_family_is_trained_in_one_command_that_goes_on(tmp_path, monkeypatch):
    data = tmp_path / "dns"
    shutil.copytree(REPOSITORY / "scripts" / "demo" / "speech", data / "clean")
    for kind in ("a", "b", "c"):
        (data / "noise" / kind).mkdir(parents=True)
        noise = 0.1 * np.random.default_rng(0).standard_normal(32000)
        soundfile.write(data / "noise" / kind / "0.flac", noise, 16000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mvat_hf.training.run.RESIZING_ITEMS", 2)
    done = train_family(data_root=data)
    assert done.returncode == 0, done.stderr[-2000:]
    for path in RECIPES:
        made = MannerModel.from_pretrained(tmp_path / "runs" / "release" / path.stem)
        expected = MannerConfig.from_preset(yaml.safe_load(path.read_text(encoding="utf-8"))["preset"])
        assert made.config.hidden_size == expected.hidden_size and made.config.high_pass_hz == 70
    (tmp_path / "runs" / "release" / RECIPES[-1].stem / "results.json").unlink()
    again = train_family(data_root=data)
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stdout.count("was finished before") == len(RECIPES) - 1


@pytest.mark.parametrize("name", ["output_dir", "config"])
def test_a_stage_keeps_its_own_folder_and_recipe(name, tmp_path):
    done = train_family(**{name: tmp_path / "mine"})
    assert done.returncode == 1 and "every stage has a folder and a recipe of its own, got --" in done.stderr
    assert not (tmp_path / "mine").exists()
