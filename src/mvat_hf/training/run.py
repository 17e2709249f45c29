"""Runs: from the parts of a recipe to a trainer, and from there to weights, curve and record in the run's folder.

`scripts/train.py` and `scripts/distill.py` only wire these parts.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import TrainerState

from ..data.formatting import describe
from ..data.streaming import MixtureStream
from ..models.manner import MannerFeatureExtractor
from ..utils.cores import usable_cores
from ..utils.errors import extra
from ..utils.records import environment, weights_hash, write_json, write_text
from .arguments import EnhancementArguments
from .callbacks import FollowFolder
from .distillation_trainer import DistillationTrainer
from .recipe import DataArguments, ModelArguments, Recipe, RecipeError, read_recipe
from .trainer import EnhancementTrainer, training_items

with extra("training"):
    from accelerate.utils import gather_object

    from .curves import training_curve

RESIZING_ITEMS, RESIZING_BATCH = 160, 8  # clips that a checkpoint of another size is fitted to, and in one pass


def prepare(model: ModelArguments, args: EnhancementArguments, data: DataArguments) -> dict[str, Any]:
    """Keyword arguments of the trainers: model, data sets, collator and feature extractor.

    With `max_steps`, mixed data is as long as the run, so that no mixture is seen twice.
    """
    if args.device.type == "cpu" and args.world_size == 1:
        torch.set_num_threads(usable_cores())  # accelerate launch leaves a process on the CPU one thread
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    mixtures = batch * args.max_steps if args.max_steps > 0 else None
    seed = args.seed if args.data_seed is None else args.data_seed

    @cache
    def splits(rate: int) -> tuple[Any, Any]:
        return data.load(seed, mixtures, rate)

    def noisy(rate: int) -> Iterator[torch.Tensor]:
        items, collate = training_items(splits(rate)[0], RESIZING_ITEMS, seed), data.collator(rate, args.seed)
        for start in range(0, len(items), RESIZING_BATCH):
            yield collate(items[start : start + RESIZING_BATCH])["input_values"]

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


def run(trainer: EnhancementTrainer, recipe: Recipe) -> None:
    """Train, continuing where an interrupted run of the same recipe stopped; then save weights, curve and record.

    A finished run stays as it is. With `max_steps` 0 there is no training: what the run would begin at, the mean of
    checkpoints for example, is recalibrated, validated and saved.

    Raises:
        RecipeError: the output folder holds a run of another recipe or of another number of processes, or a model and
            no checkpoint to go on from, or is not the same for all processes; or `resume_from_checkpoint` is set.
    """
    if trainer.args.resume_from_checkpoint is not None:
        raise RecipeError("resume_from_checkpoint cannot be set: a run goes on from what its output_dir holds")
    folder = Path(str(trainer.args.output_dir))
    last = last_checkpoint(folder)
    if trainer.args.world_size > 1:
        check_same_folder(folder, gather_object([last and Path(last).name]))
    if last is not None:
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
        trainer.train(resume_from_checkpoint=last)
    trainer.save_model()
    if trainer.is_world_process_zero():
        training_curve(trainer.state.log_history, folder / "training_curve.png")
        write_json(folder / "results.json", training_record(trainer, recipe.described(), start))
        print(f"saved {folder}")
    trainer.accelerator.wait_for_everyone()


def take_finished(trainer: EnhancementTrainer, last: Path) -> bool:
    """Whether the checkpoint `last` is of the last step; the trainer then has what `train` would leave it with.

    transformers, asked to go on from there, takes another step where an epoch is longer than the run.
    """
    state = TrainerState.load_from_json(str(last / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return False
    trainer.state = state
    FollowFolder().on_train_begin(trainer.args, state, trainer.control)
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    trainer._load_from_checkpoint(best or str(last))
    return True


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint: a killed run may leave one without its state, which is written last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=step_of)) if whole else None


def step_of(checkpoint: Path) -> int:
    """The step at which a folder "checkpoint-N" was saved."""
    return int(checkpoint.name.rpartition("-")[2])


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
    current = recipe.described()
    defaults = {option.name: option.default for part in recipe for option in dataclasses.fields(part)}
    changed = [name for name in current if previous.get(name, defaults[name]) != current[name]]
    changed += [name for name in previous if name not in current and previous[name] != recipe.value(name)]
    if changed:
        raise RecipeError(f"{folder} holds a run with other {', '.join(changed)}: choose another output_dir")


def check_same_processes(checkpoint: Path, world: int) -> None:
    """RecipeError unless `world` processes saved the checkpoint: each step would be of another number of items, and
    data that was seen would come again."""
    saved = len(list(checkpoint.glob("rng_state*.pth")))  # one of each, unless the model alone was saved
    if saved not in (0, world):
        raise RecipeError(f"{checkpoint} was saved by {saved} processes, got {world}: go on with as many as it had")


def describe_model(model: Any) -> dict[str, Any]:
    """Parameters and hash of a model: what a record says of the teacher."""
    return {"parameters": model.num_parameters(), "weights_sha256": weights_hash(model)}


def training_record(
    trainer: EnhancementTrainer, described: dict[str, Any], environment: dict[str, Any]
) -> dict[str, Any]:
    """What a run measured on its validation data, with its recipe and environment."""
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
        "training_data": train.describe() if isinstance(train, MixtureStream) else describe(train),
        "validation_files": len(validation),
        "chosen": trainer.chosen_validation(),
        "validations": [entry for entry in state.log_history if "eval_pesq" in entry],
        "environment": environment,
    }
