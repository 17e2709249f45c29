"""Every recipe for two steps: a teacher, a student of it, what is refused; one of each kind as users launch it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import yaml
from transformers import TrainerState

from conftest import one_core, run_here
from mvat_hf.data.pairs import load_pairs
from mvat_hf.models.manner import MannerModel
from mvat_hf.training.distillation_trainer import DistillationTrainer
from mvat_hf.training.trainer import EnhancementTrainer

REPOSITORY = Path(__file__).parents[2]
RECIPES = {path: yaml.safe_load(path.read_text()) for path in (REPOSITORY / "scripts" / "recipes").glob("*.yaml")}
DISTILLING = sorted(path for path, recipe in RECIPES.items() if "method" in recipe)
METHODS = sorted((REPOSITORY / "scripts" / "recipes" / "methods").glob("*.yaml"))
TRAINING = sorted(RECIPES.keys() - set(DISTILLING))
# small enough for a test; levels as in the recipe's preset
SHORT = {
    "hidden_size": 6, "max_steps": 2, "eval_steps": 1, "save_steps": 1, "logging_steps": 1, "validation_files": 1,
    "per_device_train_batch_size": 2, "segment_seconds": 0.5, "scoring_processes": 1,
    "dataloader_num_workers": 0, "use_cpu": True, "bf16": False,
}  # fmt: skip
AT_THE_END = {"eval_steps": 2, "save_steps": 2}
OF_THE_DATA = {"dns": {}, "valentini": {"hop_seconds": 0.5}}


def flags(options: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def launch(script: str, *arguments: object, processes: int | None = 1, **options: object) -> subprocess.Popen[str]:
    """`accelerate launch scripts/SCRIPT …` on the CPU, each process on one thread; of `processes` None without
    accelerate, which takes seconds to start."""
    launcher = [
        "-m", "accelerate.commands.launch", "--quiet", f"--num_processes={processes}", "--num_machines=1",
        "--mixed_precision=no", "--dynamo_backend=no", *(["--multi_gpu"] if processes and processes > 1 else []),
    ]  # fmt: skip  # accelerate's word for several processes, on the CPU too
    script = str(REPOSITORY / "scripts" / script)
    command = [sys.executable, *(launcher if processes else []), script, *map(str, arguments), *flags(options)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "HF_HUB_OFFLINE": "1"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    options = {"text": True, "env": environment, "start_new_session": True, **pipes}
    with one_core() if processes != 2 else contextlib.nullcontext():
        return subprocess.Popen(command, **options)


def finished(process: subprocess.Popen[str]) -> SimpleNamespace:
    """What a launched process leaves: returncode, stdout, stderr."""
    out, err = process.communicate()
    return SimpleNamespace(returncode=process.returncode, stdout=out, stderr=err)


def call(script: str, *arguments: object, **options: object) -> SimpleNamespace:
    """The same as `finished(launch(…))` in this process, which has everything imported."""
    return run_here(script, *arguments, *flags(options))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A DNS folder of the demo's voices and generated noise."""
    root = tmp_path_factory.mktemp("dns")
    shutil.copytree(REPOSITORY / "scripts" / "demo" / "speech", root / "clean")
    rng = np.random.default_rng(0)
    for kind in ("a", "b", "c"):
        (root / "noise" / kind).mkdir(parents=True)
        soundfile.write(root / "noise" / kind / "0.flac", 0.1 * rng.standard_normal(32000), 16000)
    return root


@pytest.fixture(scope="module")
def valentini(tmp_path_factory, speech) -> Path:
    """A Valentini folder of the demo's voices: two speakers to train on, one to validate on."""
    root = tmp_path_factory.mktemp("valentini")
    rng = np.random.default_rng(0)
    for speaker, audio in zip(("p226", "p227", "p287"), speech, strict=False):
        for kind, recording in {"clean": audio, "noisy": audio + 0.02 * rng.standard_normal(len(audio))}.items():
            folder = root / f"{kind}_trainset_28spk_wav"
            folder.mkdir(exist_ok=True)
            soundfile.write(folder / f"{speaker}_001.wav", recording, 16000)
    return root


@pytest.fixture(scope="module")
def corpora(data, valentini) -> dict[str, Path]:
    return {"dns": data, "valentini": valentini}


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    config = ("--config", REPOSITORY / "scripts" / "recipes" / "release" / "1_plain.yaml")
    done = finished(launch("train.py", *config, processes=None, data_root=data, output_dir=folder, **SHORT))
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_a_run_leaves_weights_curve_record_and_recipe(teacher):
    assert MannerModel.from_pretrained(teacher).config.hidden_size == 6
    assert (teacher / "training_curve.png").read_bytes()[1:4] == b"PNG"
    record = json.loads((teacher / "results.json").read_text())
    assert record["steps"] == 2
    assert record["training_data"]["speech"]["files"] > 0
    assert record["chosen"]["eval_pesq"] == max(entry["eval_pesq"] for entry in record["validations"])
    recipe = yaml.safe_load((teacher / "recipe.yaml").read_text())
    assert recipe["learning_rate"] == 1e-3
    assert record["recipe"] == recipe


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_every_training_recipe_runs(path, corpora, tmp_path):
    dataset = RECIPES[path]["dataset"]
    options = {"data_root": corpora[dataset], "output_dir": tmp_path / "run", **OF_THE_DATA[dataset]}
    done = call("train.py", "--config", path, **options, **SHORT | AT_THE_END)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == 2


def parameters(run: Path) -> torch.Tensor:
    """All parameters that a run left, one after the other; statistics of batch norms are none."""
    return torch.cat([value.detach().flatten() for value in MannerModel.from_pretrained(run).parameters()])


@pytest.mark.parametrize("path", DISTILLING, ids=lambda path: path.stem)
def test_every_distillation_recipe_trains_another_student_than_without_its_method(path, corpora, teacher, tmp_path):
    dataset = RECIPES[path]["dataset"]
    options = {"data_root": corpora[dataset], "teacher_model_name_or_path": teacher, **OF_THE_DATA[dataset], **SHORT}
    unvalidated = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    for name, other in (("run", AT_THE_END), ("without", {"method": "none", **unvalidated})):
        done = call("distill.py", "--config", path, output_dir=tmp_path / name, **options | other)
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads((tmp_path / name / "results.json").read_text())["steps"] == 2
    assert not torch.equal(parameters(tmp_path / "run"), parameters(tmp_path / "without"))


def run_of_method(path, data, teacher, folder) -> SimpleNamespace:
    """Two steps by a recipe of a method."""
    options = {name: SHORT[name] for name in ("hidden_size", "segment_seconds", "dataloader_num_workers")}
    options |= {"max_steps": 2, "data_root": data, "output_dir": folder, "teacher_model_name_or_path": teacher}
    return call("distill.py", "--config", path, **options)


@pytest.fixture(scope="module")
def undistilled(data, teacher, tmp_path_factory) -> Path:
    """A run without a method, of the seed and steps of all others."""
    folder = tmp_path_factory.mktemp("undistilled")
    (path,) = [path for path in METHODS if path.stem == "none"]
    done = run_of_method(path, data, teacher, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_every_method_has_a_recipe_that_trains_another_student(path, data, teacher, undistilled, tmp_path):
    folder = undistilled
    if path.stem != "none":
        folder = tmp_path / "run"
        done = run_of_method(path, data, teacher, folder)
        assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((folder / "results.json").read_text())
    assert record["steps"] == 2 and record["recipe"]["method"] == path.stem
    assert (record["teacher"] is None) == (path.stem in ("none", "peers"))
    assert torch.equal(parameters(folder), parameters(undistilled)) == (path.stem == "none")


def killed_at(step, trainer):
    """`training_step` of a class, which does not come to more than so many steps."""
    train = trainer.training_step

    def training_step(self, *inputs):
        if self.state.global_step == step:
            raise KeyboardInterrupt
        return train(self, *inputs)

    return training_step


def test_a_run_killed_in_its_second_stage_goes_on_to_the_bit(data, teacher, tmp_path, monkeypatch):
    """Of two-step distillation: the teacher's part is over when it is killed."""
    config = ("--config", REPOSITORY / "scripts/recipes/methods/two-step.yaml")
    options = {**SHORT, "max_steps": 4, "data_root": data, "teacher": teacher, "streaming": True}
    options |= {"save_strategy": "steps", "method_kwargs": '{"first": 0.5, "bins": 8}'}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DistillationTrainer, "training_step", killed_at(3, DistillationTrainer))
        call("distill.py", *config, **options, output_dir=tmp_path / "killed")
    assert (tmp_path / "killed/checkpoint-3").is_dir() and not (tmp_path / "killed/results.json").exists()
    for name in ("killed", "whole"):
        done = call("distill.py", *config, **options, output_dir=tmp_path / name)
        assert done.returncode == 0, done.stderr[-2000:]
        assert ("continuing from" in done.stdout) == (name == "killed")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    log = TrainerState.load_from_json(str(tmp_path / "killed/checkpoint-4/trainer_state.json")).log_history
    assert ["gram" in entry for entry in log if "loss" in entry] == [True, True, False, False]


def test_a_stream_of_the_hub_goes_on_to_the_bit(valentini, tmp_path, monkeypatch):
    sides = [valentini / f"{side}_trainset_28spk_wav" for side in ("clean", "noisy")]
    (tmp_path / "hub").mkdir()
    load_pairs(*sides).to_parquet(tmp_path / "hub" / "train.parquet")
    options = {**SHORT, "dataset": "hub", "data_root": tmp_path / "hub", "streaming": True, "max_steps": 4}
    options |= {"shuffle_buffer": 2, "save_total_limit": 9}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EnhancementTrainer, "training_step", killed_at(3, EnhancementTrainer))
        call("train.py", **options, output_dir=tmp_path / "killed")
    for name in ("killed", "whole"):
        done = call("train.py", **options, output_dir=tmp_path / name)
        assert done.returncode == 0, done.stderr[-2000:]
    weights = [(tmp_path / name / "checkpoint-4" / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    record = json.loads((tmp_path / "whole/results.json").read_text())
    assert record["training_data"] == {"pairs": {"rows": "not counted"}} and record["validation_files"] == 1


def test_two_processes_share_a_run(data, tmp_path):
    config = ("--config", REPOSITORY / "scripts" / "recipes" / "release" / "1_plain.yaml")
    options = {**SHORT, **AT_THE_END, "validation_files": 3}
    done = finished(launch("train.py", *config, processes=2, data_root=data, output_dir=tmp_path / "run", **options))
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["processes"] == 2
    assert "eval_pesq" in record["chosen"]


def test_the_same_command_continues_and_another_recipe_is_refused(data, teacher):
    before, record = ((teacher / name).read_bytes() for name in ("model.safetensors", "results.json"))
    config = ("--config", REPOSITORY / "scripts" / "recipes" / "release" / "1_plain.yaml")
    again = call("train.py", *config, data_root=data, output_dir=teacher, **SHORT)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "continuing from" not in again.stdout and "was finished before" in again.stdout
    assert (teacher / "results.json").read_bytes() == record
    other = call("train.py", *config, data_root=data, output_dir=teacher, **{**SHORT, "hidden_size": 8})
    assert other.returncode != 0
    assert "holds a run with other hidden_size" in other.stderr
    assert (teacher / "model.safetensors").read_bytes() == before


def test_no_steps_recalibrate_validate_and_save_the_mean(data, teacher, tmp_path):
    last = teacher / "checkpoint-2"
    config = ("--config", REPOSITORY / "scripts" / "recipes" / "release" / "1_plain.yaml")
    options = {**SHORT, "max_steps": 0, "init_from": f"{teacher},{last}", "recalibration_batches": 2}
    done = call("train.py", *config, data_root=data, output_dir=tmp_path / "run", **options)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["steps"] == 0 and record["chosen"]["eval_pesq"] > 1
    mean, first, second = (MannerModel.from_pretrained(folder) for folder in (tmp_path / "run", teacher, last))
    for name, weight in mean.named_parameters():
        expected = (first.get_parameter(name) + second.get_parameter(name)) / 2
        torch.testing.assert_close(weight, expected)
    statistics = "input_norm.running_mean"
    assert not torch.allclose(mean.get_buffer(statistics), first.get_buffer(statistics))


def test_a_run_that_was_killed_at_its_end_is_recorded_without_another_step(data, tmp_path):
    folder = tmp_path / "run"
    config = ("--config", REPOSITORY / "scripts" / "recipes" / "release" / "1_plain.yaml")
    options = {
        **SHORT,
        "data_root": data,
        "output_dir": folder,
        "streaming": True,
        "one_cycle": True,
        "warmup_steps": 0,
    }
    done = call("train.py", *config, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    weights, record = (folder / "model.safetensors").read_bytes(), json.loads((folder / "results.json").read_text())
    (folder / "model.safetensors").unlink()
    (folder / "results.json").unlink()
    again = call("train.py", *config, **options)
    assert again.returncode == 0, again.stderr[-2000:]
    assert (folder / "model.safetensors").read_bytes() == weights
    assert json.loads((folder / "results.json").read_text()) == record
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    other = call("train.py", *config, **options, loss_weights='{"snr": 5}')
    assert other.returncode != 0 and "holds a model, and no checkpoint to go on from" in other.stderr
    assert (folder / "model.safetensors").read_bytes() == weights


def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(data, tmp_path):
    config = ("--config", REPOSITORY / "scripts" / "recipes" / "release" / "1_plain.yaml")
    options = {**SHORT, "data_root": data, "streaming": True, "max_steps": 4}
    killed = launch("train.py", *config, processes=None, **options, output_dir=tmp_path / "killed")
    logged = (line for line in killed.stdout if "'loss'" in line)
    assert next(logged) and next(logged) and next(logged)  # the second step is saved before the third is logged
    os.killpg(killed.pid, signal.SIGKILL)
    assert finished(killed).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "results.json").exists()
    again = call("train.py", *config, **options, output_dir=tmp_path / "killed")
    assert again.returncode == 0, again.stderr[-2000:]
    assert "continuing from" in again.stdout
    whole = call("train.py", *config, **options, output_dir=tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr[-2000:]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]


def test_the_bare_command_distils_what_the_repo_carries_and_says_what_is_next(tmp_path, monkeypatch):
    """As it is typed, but for a recipe of fewer steps."""
    scripts = shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("study"))
    recipe = scripts / "recipes" / "demo.yaml"
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **SHORT}))
    monkeypatch.chdir(tmp_path)
    done = finished(launch(str(scripts / "distill.py")))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "To change next:" in done.stdout and "'distillation'" in done.stdout
    assert (tmp_path / "runs/first/student/model.safetensors").is_file()


def test_processes_that_write_the_first_data_at_once_leave_it_whole(load_script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    distil = load_script("distill.py")

    def write_last(folder):
        for made in (Path("runs/first/data"), folder):  # another process was first
            made.mkdir(parents=True)
            (made / "file").touch()

    monkeypatch.setitem(sys.modules, "demo", SimpleNamespace(write_data=write_last))
    assert "--data_root=runs/first/data/dns" in distil.first_run()
    assert [path.name for path in Path("runs/first").iterdir()] == ["data"]


def test_own_pairs_from_a_checkpoint(valentini, teacher, tmp_path):
    sides = {side: valentini / f"{side}_trainset_28spk_wav" for side in ("clean", "noisy")}
    options = {name: value for name, value in SHORT.items() if name != "hidden_size"} | {"dataset": "pairs", **sides}
    done = call("train.py", init_from=teacher, output_dir=tmp_path / "run", **options)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["validation_files"] == 1 and record["recipe"]["dataset"] == "pairs"


def test_bad_input_is_one_line_and_writes_nothing(data, tmp_path):
    (tmp_path / "recipe.yaml").write_text("bta: 1\n")
    folder = tmp_path / "run"
    refused = call("distill.py", "--config", tmp_path / "recipe.yaml", data_root=data, output_dir=folder)
    assert refused.returncode != 0
    assert "error: " in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "unknown key bta" in refused.stderr
    assert not folder.exists()
