"""Callbacks of the trainers: other crops in every epoch, and resuming where a run, or its folder, was left."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ..data.collator import SegmentCollator
from ..utils.errors import need

REPORTERS = ("wandb", "mlflow", "trackio", "comet_ml", "swanlab")  # services whose packages have their names


class CropEpochCallback(TrainerCallback):
    """Tells the collator the epoch, so that every epoch crops at other places and a resumed one at the same."""

    def __init__(self, collator: SegmentCollator):
        self.collator = collator

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.collator.epoch = int(state.epoch or 0)


class MovedFolderCallback(TrainerCallback):
    """Finds the best checkpoint of a run's folder that was moved; it is lost to transformers."""

    def on_train_begin(self, args, state, control, **kwargs):
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        if state.best_model_checkpoint is None or not Path(state.best_model_checkpoint).is_dir():
            state.best_model_checkpoint = str(best) if best.is_dir() else None


class StreamResumeCallback(TrainerCallback):
    """Starts a stream where the run stands; transformers would make all mixtures up to there anew and drop them."""

    def on_train_begin(self, args, state, control, train_dataloader, **kwargs):
        batches = state.global_step * args.gradient_accumulation_steps
        stream = train_dataloader.dataset
        stream.load_state_dict({"items": batches * stream.batch_size * stream.world, "taken": 0})

    def on_step_end(self, args, state, control, **kwargs):
        state.epoch = state.global_step / state.max_steps  # transformers counts from where it resumed


def step_of(checkpoint: Path) -> int:
    """The step at which a folder "checkpoint-N" was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def check_reporters(names: Any) -> None:
    """MissingExtraError, or ValueError, where a service that is to be reported to is not installed; transformers has a
    traceback for it."""
    for name in names or ():
        if name == "tensorboard" and find_spec("tensorboardX") is None:
            need("tensorboard", "tensorboard")
        elif name in REPORTERS and find_spec(name) is None:
            raise ValueError(f"report_to: {name} is not installed: pip install {name}")
