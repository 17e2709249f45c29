"""Runs: from the parts of a recipe to a trainer, and from there to weights, curve and record in the run's folder.

`scripts/train.py` and `scripts/distill.py` only wire these parts.
"""

import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import TrainerState

from ..data.formatting import describe
from ..data.streaming import EndlessStream
from ..models.manner import MannerFeatureExtractor, MannerModel
from ..utils.cores import threads_of_launcher, usable_cores
from ..utils.errors import extra
from ..utils.files import SPARE_BYTES
from ..utils.records import environment, weights_hash, write_json, write_text
from .arguments import EnhancementConfig
from .callbacks import MovedFolderCallback, step_of
from .data_arguments import DataArguments
from .distillation_trainer import DistillationTrainer
from .items import count_of, noisy_batches, training_items
from .model_arguments import ModelArguments, RecipeError
from .recipe import RESULT_OPTIONS, Recipe, read_recipe
from .trainer import EnhancementTrainer

with extra("training"):
    from accelerate.utils import gather_object

    from .curves import training_curve

RESIZING_ITEMS, RESIZING_BATCH = 160, 8  # clips that a checkpoint of another size is fitted to, and in one pass
MEAN_BATCHES = 24  # that the batch norms of a mean of checkpoints are recalibrated on where nothing else is asked


def prepare(model: ModelArguments, args: EnhancementConfig, data: DataArguments) -> dict[str, Any]:
    """Keyword arguments of the trainers: model, data sets, collator and feature extractor.

    With `max_steps`, mixed data is as long as the run, so that no mixture is seen twice. A mean of checkpoints that is
    not trained is recalibrated, unless its statistics are frozen.
    """
    if data.stream.streaming and args.max_steps < 1:
        raise RecipeError(f"streaming has no end: expected --max_steps, the steps to train for, got {args.max_steps}")
    torch.set_num_threads(threads_of(args))
    if args.max_steps == 0 and model.is_mean and not args.recalibration_batches and not args.frozen_statistics:
        args.recalibration_batches = MEAN_BATCHES
        if args.process_index == 0:
            print(f"recalibrating the mean on {MEAN_BATCHES} batches: --recalibration_batches N for others")
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    mixtures = batch * args.max_steps if args.max_steps > 0 else None
    seed = args.seed if args.data_seed is None else args.data_seed

    @cache
    def splits(rate: int) -> tuple[Any, Any]:
        return data.load(seed, mixtures, rate)

    def noisy(rate: int) -> Iterator[torch.Tensor]:
        items, collate = training_items(splits(rate)[0], RESIZING_ITEMS, seed), data.collator(rate, args.seed)
        yield from noisy_batches(items, collate, RESIZING_BATCH)

    built = model.build(noisy)
    rate = built.config.sampling_rate
    train, validation = splits(rate)
    return {
        "model": built,
        "args": args,
        "train_dataset": train,
        "eval_dataset": validation,
        "data_collator": data.collator(rate, args.seed),
        "processing_class": MannerFeatureExtractor(sampling_rate=rate),
    }


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """OSError that names `folder` in place of what torch and safetensors say where the disk is full."""
    try:
        yield
    except (RuntimeError, SafetensorError, OSError) as error:
        words = " ".join(str(error).split())
        if "No space left" not in words and "file write failed" not in words and "unexpected pos" not in words:
            raise
        free = shutil.disk_usage(folder).free
        if free >= SPARE_BYTES:  # that of a temporary folder, perhaps, or there is another limit
            raise OSError(f"a file of the run in {folder}, or a temporary one, cannot be written: {words}") from error
        raise OSError(f"{folder} cannot be written: the disk is full, {free / 2**20:.0f} MiB are free") from error


def threads_of(args: EnhancementConfig) -> int:
    """CPU threads of a process: those that are asked for, OMP_NUM_THREADS where the user set it, else all cores of a
    single process on the CPU. Fewer than these are told."""
    if args.threads is not None:
        return args.threads
    threads, cores = torch.get_num_threads(), usable_cores()
    if args.device.type != "cpu" or args.world_size > 1:
        return threads
    if not os.environ.get("OMP_NUM_THREADS") or threads_of_launcher():
        return cores
    if threads < cores:
        print(f"computing on {threads} of {cores} cores, as OMP_NUM_THREADS says: --threads N for others")
    return threads


def load_teacher(name: str | None) -> MannerModel:
    """The model of a checkpoint folder or Hub id; RecipeError where it is not set, or is a path that is not there."""
    if not name:
        raise RecipeError("teacher is not set, expected a checkpoint folder or Hub id: --teacher mvat/manner-s-8.1gf")
    if not Path(name).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise RecipeError(f"no such teacher: {name}, expected a checkpoint folder or Hub id")
    return MannerModel.from_pretrained(name)


def run(trainer: EnhancementTrainer, recipe: Recipe) -> None:
    """Train, continuing where an interrupted run of the same recipe stopped; then save weights, curve and record.

    A finished run stays as it is. With `max_steps` 0 there is no training: what the run would begin at, the mean of
    checkpoints for example, is validated and saved, recalibrated where the arguments say so.

    Raises:
        RecipeError: the output folder holds a run of another recipe or of another number of processes, or a model and
            no checkpoint to go on from, or is not the same for all processes; or `resume_from_checkpoint` is none.
    """
    folder = Path(str(trainer.args.output_dir))
    last = last_checkpoint(folder, told=trainer.is_world_process_zero())
    if asked := trainer.args.resume_from_checkpoint:
        last = asked_checkpoint(asked, last, folder)
    if trainer.args.world_size > 1:
        check_same_folder(folder, gather_object([last and Path(last).name]))
    if last is not None:
        if is_of(folder, Path(last)) or (folder / "recipe.yaml").is_file():  # not of a checkpoint from elsewhere
            check_same_recipe(folder, recipe)
    elif (folder / "model.safetensors").is_file():
        raise RecipeError(f"{folder} holds a model, and no checkpoint to go on from: choose another output_dir")
    trained = last is not None and take_finished(trainer, Path(last))
    if trained and (folder / "results.json").is_file():
        if trainer.is_world_process_zero():
            print(f"{folder} was finished before")
        return
    if last is not None and not trained:
        check_same_processes(Path(last), trainer.args.world_size)
    if trainer.is_world_process_zero():
        if last is not None:
            print(f"continuing from {last}")
        write_text(folder / "recipe.yaml", yaml.safe_dump(recipe.described()))
    start = environment()  # the code that runs is the code of now, whatever the checkout holds at the end
    if trainer.args.max_steps == 0:
        trainer.evaluate()
    elif not trained:
        with disk_errors(folder):
            trainer.train(resume_from_checkpoint=last)
    with disk_errors(folder):
        trainer.save_model()
    if trainer.is_world_process_zero():
        training_curve(trainer.state.log_history, folder / "training_curve.png")
        write_json(folder / "results.json", training_record(trainer, recipe.described(), start))
        print(f"saved {folder}")
    trainer.accelerator.wait_for_everyone()


def take_finished(trainer: EnhancementTrainer, last: Path) -> bool:
    """True if the checkpoint `last` is of the last step; the trainer is then in the state that `train` would leave. For
    a checkpoint of another run, the last step is this run's `max_steps`, if it is set.

    transformers would take another step from there if an epoch is longer than the run.
    """
    state = TrainerState.load_from_json(str(last / "trainer_state.json"))
    steps = state.max_steps if is_of(Path(str(trainer.args.output_dir)), last) else trainer.args.max_steps
    if steps < 1 or state.global_step < steps:
        return False
    trainer.state = state
    MovedFolderCallback().on_train_begin(trainer.args, state, trainer.control)
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    trainer._load_from_checkpoint(best or str(last))
    return True


def is_of(folder: Path, checkpoint: Path) -> bool:
    """Whether the run in `folder` saved the checkpoint."""
    return checkpoint.resolve().parent == folder.resolve()


def last_checkpoint(folder: Path, told: bool = True) -> str | None:
    """The newest checkpoint that can be read. Broken ones, of runs killed while saving, are named and skipped."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        fault = fault_of(checkpoint)
        if fault is None:
            return str(checkpoint)
        if told:
            print(f"passing over {checkpoint}: {fault}", file=sys.stderr)
    return None


def asked_checkpoint(asked: str, last: str | None, folder: Path) -> str:
    """What `resume_from_checkpoint` means: "true" for the last checkpoint of the run, else a folder; RecipeError if it
    is not there or cannot be read."""
    if str(asked).lower() == "true":
        if last is None:
            raise RecipeError(f"{folder} holds no checkpoint to go on from")
        return last
    fault = fault_of(Path(asked)) if Path(asked).is_dir() else "no such folder"
    if fault:
        raise RecipeError(f"resume_from_checkpoint: {asked}: {fault}")
    return asked


def fault_of(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be read (weights or state that are missing or cut short); None if it can."""
    state = checkpoint / "trainer_state.json"
    if not state.is_file():
        return "trainer_state.json is missing"
    try:
        TrainerState.load_from_json(str(state))
    except (ValueError, TypeError) as error:
        return f"trainer_state.json ({state.stat().st_size} bytes) cannot be read: {error}"
    if not any(checkpoint.glob("model*.safetensors")):
        return "it has no weights"
    for path in checkpoint.glob("*.safetensors"):
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            return f"{path.name} cannot be read: {error}"
    cut = [path.name for kind in ("*.pt", "*.pth") for path in checkpoint.glob(kind) if not zipfile.is_zipfile(path)]
    return f"{cut[0]} is cut short" if cut else None


def check_same_folder(folder: Path, found: Sequence[str | None]) -> None:
    """RecipeError unless all processes `found` the same checkpoint: they would go on from different steps."""
    if len(set(found)) > 1:
        checkpoints = ", ".join(name or "none" for name in found)
        raise RecipeError(
            f"{folder} must be on a disk that all processes share, but they do not find the same checkpoint there; "
            f"by rank: {checkpoints}"
        )


def check_same_recipe(folder: Path, recipe: Recipe) -> None:
    """RecipeError unless the run in `folder` has the options of `recipe`."""
    previous = read_recipe(folder / "recipe.yaml") if (folder / "recipe.yaml").is_file() else {}
    current, defaults = recipe.described(), recipe.defaults()
    changed = [name for name in current if previous.get(name, defaults[name]) != current[name]]
    unsaid = previous.keys() & RESULT_OPTIONS - current.keys()
    changed += [name for name in sorted(unsaid) if previous[name] != recipe.value(name)]
    if changed:
        raise RecipeError(f"{folder} holds a run with other {', '.join(changed)}: choose another output_dir")


def check_same_processes(checkpoint: Path, world: int) -> None:
    """RecipeError unless `world` processes saved the checkpoint: each step would be of another number of items, and
    data that was seen would come again."""
    saved = len(list(checkpoint.glob("rng_state*.pth")))  # one of each, unless the model alone was saved
    if saved not in (0, world):
        raise RecipeError(f"{checkpoint} was saved by {saved} processes, got {world}: go on with as many as it had")


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Parameters and hash of a model: what a record says of the teacher."""
    return {"parameters": sum(map(torch.numel, model.parameters())), "weights_sha256": weights_hash(model)}


def training_record(
    trainer: EnhancementTrainer, described: dict[str, Any], environment: dict[str, Any]
) -> dict[str, Any]:
    """The record of a run: its validation scores, recipe and environment."""
    state = trainer.state
    model: Any = trainer.model
    train: Any = trainer.train_dataset
    validation: Any = trainer.eval_dataset
    teacher = trainer.teacher if isinstance(trainer, DistillationTrainer) and trainer.method is not None else None
    return {
        "kind": "training",
        "recipe": described,
        "seed": trainer.args.seed,
        "steps": state.global_step,
        "processes": trainer.args.world_size,
        "parameters": model.num_parameters(),
        "teacher": None if teacher is None else describe_model(teacher),
        "training_data": train.describe() if isinstance(train, EndlessStream) else describe(train),
        "validation_files": count_of(validation),
        "chosen": untimed(trainer.chosen_validation()),
        "validations": [untimed(entry) for entry in state.log_history if "eval_pesq" in entry],
        "environment": environment,
    }


def untimed(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    """An entry of the log without how long it took, which another run of the same would not give."""
    if entry is None:
        return None
    return {name: value for name, value in entry.items() if not name.endswith(("_runtime", "_per_second"))}
