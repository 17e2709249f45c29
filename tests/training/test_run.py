"""A run goes on from the last checkpoint that can be read, on the threads asked for, and refuses another's folder."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors import SafetensorError
from transformers import TrainerState

from mvat_hf.data.collator import SegmentCollator
from mvat_hf.models.manner import MannerModel
from mvat_hf.training.arguments import EnhancementConfig
from mvat_hf.training.recipe import ModelArguments, RecipeError, parse_recipe
from mvat_hf.training.run import (
    asked_checkpoint,
    check_same_folder,
    check_same_processes,
    check_same_recipe,
    disk_errors,
    is_of,
    last_checkpoint,
    load_teacher,
    prepare,
    run,
    take_finished,
    threads_of,
)
from mvat_hf.training.trainer import EnhancementTrainer
from mvat_hf.utils.cores import usable_cores
from recipe_options import KINDS
from training_runs import arguments, pairs, plain, same_weights


def test_only_what_bears_on_the_result_tells_runs_apart(tmp_path):
    (tmp_path / "recipe.yaml").write_text("run_name: a\nloss_weights: {snr: 0.5}\nlog_level: info\nuse_cpu: true\n")
    check_same_recipe(tmp_path, parse_recipe(KINDS, ["--run_name=b", "--loss_weights", '{"snr": 0.5}']))
    with pytest.raises(RecipeError, match="other loss_weights"):
        check_same_recipe(tmp_path, parse_recipe(KINDS, ["--run_name=b"]))


def test_another_number_of_processes_is_told(tmp_path):
    check_same_processes(tmp_path, 4)  # nothing tells how many saved the model alone
    for rank in range(2):
        (tmp_path / f"rng_state_{rank}.pth").touch()
    check_same_processes(tmp_path, 2)
    with pytest.raises(RecipeError, match="was saved by 2 processes, got 1"):
        check_same_processes(tmp_path, 1)


def test_a_checkpoint_that_cannot_be_read_is_named_and_the_one_before_it_taken(tmp_path, tiny_model, capsys):
    for step in (9, 10, 11, 12):  # by number, not by name
        tiny_model().save_pretrained(tmp_path / f"checkpoint-{step}")
        TrainerState(global_step=step).save_to_json(str(tmp_path / f"checkpoint-{step}" / "trainer_state.json"))
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-12") and not capsys.readouterr().err
    (tmp_path / "checkpoint-12" / "trainer_state.json").write_bytes(b"")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-11")
    assert "checkpoint-12: trainer_state.json (0 bytes) cannot be read" in capsys.readouterr().err
    weights = tmp_path / "checkpoint-11" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    (tmp_path / "checkpoint-10" / "optimizer.pt").write_bytes(b"PK")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    told = capsys.readouterr().err
    assert "checkpoint-11: model.safetensors cannot be read" in told and "checkpoint-10: optimizer.pt is cut" in told
    (tmp_path / "checkpoint-9" / "model.safetensors").unlink()
    assert last_checkpoint(tmp_path) is None
    assert "checkpoint-9: it has no weights" in capsys.readouterr().err


@pytest.mark.parametrize(("asked", "environment", "expected"), [(2, "1", 2), (None, None, usable_cores())])
def test_threads_are_those_that_are_asked_for(tmp_path, monkeypatch, capsys, asked, environment, expected):
    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    else:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_of(EnhancementConfig(str(tmp_path), use_cpu=True, threads=asked)) == expected
    assert not capsys.readouterr().out


def test_fewer_threads_that_the_environment_asks_for_are_told():
    """In a process of its own: torch reads the variable as it starts."""
    code = (
        "from mvat_hf.training.arguments import EnhancementConfig\nfrom mvat_hf.training.run import threads_of\n"
        "print(threads_of(EnhancementConfig('run', use_cpu=True)))"
    )
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    *told, threads = done.stdout.splitlines()
    assert threads == "1"
    cores = usable_cores()
    expected = [f"computing on 1 of {cores} cores, as OMP_NUM_THREADS says: --threads N for others"]
    assert told == (expected if cores > 1 else [])


@pytest.mark.parametrize(
    ("of_the_user", "command", "sets", "expected"),
    [
        (None, "bin/accelerate launch", "1", True),
        (None, "-m accelerate.commands.launch", "1", True),
        ("1", "bin/accelerate launch", "1", False),
        (None, "bin/accelerate launch --num_cpu_threads_per_process=1", "1", False),
        (None, "bin/accelerate launch", "4", False),
        (None, "a shell", "1", False),
    ],
)
def test_what_the_launcher_sets_is_told_from_what_its_user_sets(of_the_user, command, sets, expected):
    """A process that starts another, with the environment that `accelerate launch` gives it."""
    asks = "from mvat_hf.utils.cores import threads_of_launcher\nprint(threads_of_launcher())"
    launcher = (
        "import os, subprocess, sys\n"
        f"environment = {{**os.environ, 'OMP_NUM_THREADS': '{sets}'}}\n"
        f"subprocess.run([sys.executable, '-c', {asks!r}], env=environment, check=True)"
    )
    others = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    variables = others | ({"OMP_NUM_THREADS": of_the_user} if of_the_user else {})
    started = [sys.executable, "-c", launcher, *command.split()]
    done = subprocess.run(started, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(expected)]


def test_a_teacher_that_is_not_there_is_named(tmp_path):
    for name in (str(tmp_path / "nowhere"), "./nowhere"):
        with pytest.raises(RecipeError, match="no such teacher: .*nowhere, expected a checkpoint folder or Hub id"):
            load_teacher(name)


def test_a_checkpoint_that_is_asked_for_is_gone_on_from(tmp_path, tiny_model):
    """As elsewhere: a folder, or "true" for the last one."""
    folder = tmp_path / "checkpoint-3"
    tiny_model().save_pretrained(folder)
    with pytest.raises(RecipeError, match="checkpoint-3: trainer_state.json is missing"):
        asked_checkpoint(str(folder), None, tmp_path)
    TrainerState(global_step=3).save_to_json(str(folder / "trainer_state.json"))
    assert asked_checkpoint(str(folder), None, tmp_path) == str(folder)
    assert asked_checkpoint("True", "last", tmp_path) == "last"
    with pytest.raises(RecipeError, match="holds no checkpoint to go on from"):
        asked_checkpoint("true", None, tmp_path)
    with pytest.raises(RecipeError, match="resume_from_checkpoint: .*nowhere: no such folder"):
        asked_checkpoint(str(tmp_path / "nowhere"), None, tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told(tmp_path, error, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(OSError, match=f"{tmp_path} cannot be written: the disk is full, 1 MiB"), disk_errors(tmp_path):
        raise error
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2**40))  # another disk is
    with pytest.raises(OSError, match="or a temporary one, cannot be written: .*(pos|left)"), disk_errors(tmp_path):
        raise error
    with pytest.raises(RuntimeError, match="shapes"), disk_errors(tmp_path):
        raise RuntimeError("shapes")


def test_another_recipe_is_told_from_the_same_one_with_its_defaults_spelt_out(tmp_path):
    (tmp_path / "recipe.yaml").write_text("beta: 0.5\n")
    check_same_recipe(tmp_path, parse_recipe(KINDS, ["--beta=0.5"]))
    (tmp_path / "recipe.yaml").write_text("beta: 0.1\n")
    check_same_recipe(tmp_path, parse_recipe(KINDS, []))
    check_same_recipe(tmp_path, parse_recipe(KINDS, ["--seed=42"]))
    with pytest.raises(RecipeError, match="other beta, seed"):
        check_same_recipe(tmp_path, parse_recipe(KINDS, ["--beta=0.5", "--seed=3"]))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("train_sampling_strategy", "sequential"),
        ("dataloader_drop_last", "true"),
        ("eval_delay", "2"),
        ("accelerator_config", '{"even_batches": false}'),
    ],
)
def test_what_changes_the_batches_or_the_choice_tells_runs_apart(option, value, tmp_path):
    recipe = parse_recipe(KINDS, [f"--{option}={value}"])
    with pytest.raises(RecipeError, match=f"other {option}"):
        check_same_recipe(tmp_path, recipe)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.described()))
    check_same_recipe(tmp_path, recipe)
    with pytest.raises(RecipeError, match=f"other {option}"):
        check_same_recipe(tmp_path, parse_recipe(KINDS, []))


def test_a_stream_needs_a_number_of_steps(tmp_path):
    args, model, data = parse_recipe(KINDS, ["--streaming=true", f"--output_dir={tmp_path}", "--use_cpu"])
    with pytest.raises(RecipeError, match="streaming has no end: expected --max_steps, the steps to train for, got -1"):
        prepare(model, args, data)


def test_processes_that_do_not_share_a_folder_are_told():
    check_same_folder(Path("runs"), ["checkpoint-1", "checkpoint-1"])
    with pytest.raises(RecipeError, match="disk that all processes share.*by rank: checkpoint-1, none"):
        check_same_folder(Path("runs"), ["checkpoint-1", None])


def test_a_finished_run_elsewhere_is_gone_on_from(tmp_path):
    """As far as this run's own last step, and no further."""
    recipe, save = parse_recipe(KINDS, []), {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    plain(tmp_path / "first", **save).train()
    asked = str(tmp_path / "first" / "checkpoint-1")
    for name, steps in (("second", 2), ("third", 1)):
        trainer = plain(tmp_path / name, **{**save, "max_steps": steps}, resume_from_checkpoint=asked)
        run(trainer, recipe)
        assert trainer.state.global_step == steps
        saved = MannerModel.from_pretrained(tmp_path / name)
        assert same_weights(saved, MannerModel.from_pretrained(asked)) == (steps == 1)
    last = tmp_path / "second" / "checkpoint-2"
    assert take_finished(trainer, last) and is_of(tmp_path / "third" / ".." / "second", last)


def test_the_best_checkpoint_of_a_finished_run_that_was_moved_is_found(tmp_path):
    save = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2, "eval_strategy": "steps", "eval_steps": 1}
    plain(tmp_path / "run", **save, load_best_model_at_end=True).train()
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    trainer = plain(moved, **save, load_best_model_at_end=True)
    assert take_finished(trainer, moved / "checkpoint-2")
    best = moved / f"checkpoint-{trainer.chosen_validation()['step']}"
    assert same_weights(trainer.model, MannerModel.from_pretrained(best))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_mean_that_is_not_trained_is_recalibrated_unless_frozen(frozen, tmp_path, tiny_model):
    for name, seed in (("a", 0), ("b", 1)):
        tiny_model(seed=seed).save_pretrained(tmp_path / name)
    recipe, model = parse_recipe(KINDS, []), ModelArguments(init_from=f"{tmp_path / 'a'},{tmp_path / 'b'}")
    data = SimpleNamespace(
        stream=SimpleNamespace(streaming=False),
        load=lambda seed, mixtures, rate: (pairs(6), pairs(1, 1.5)),
        collator=lambda rate, seed: SegmentCollator(0.2),
    )
    args = arguments(tmp_path / "mean", max_steps=0, threads=1, frozen_statistics=frozen)
    run(EnhancementTrainer(**prepare(model, args, data)), recipe)
    mean, saved = model.build(), MannerModel.from_pretrained(tmp_path / "mean")
    assert all(torch.equal(*pair) for pair in zip(mean.parameters(), saved.parameters(), strict=True))
    assert same_weights(mean, saved) == frozen
