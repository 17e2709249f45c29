"""What the trainers do between steps: other crops every epoch, and going on where a run, or its folder, stands."""

from pathlib import Path

from transformers import TrainerCallback

from ..data.collator import SegmentCollator


class CropAnew(TrainerCallback):
    """Tells the collator the epoch, so that every epoch crops at other places and a resumed one at the same."""

    def __init__(self, collator: SegmentCollator):
        self.collator = collator

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.collator.epoch = int(state.epoch or 0)


class FollowFolder(TrainerCallback):
    """Finds the best checkpoint of a run's folder that was moved; transformers warns that it is lost."""

    def on_train_begin(self, args, state, control, **kwargs):
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        if state.best_model_checkpoint is None and best.is_dir():
            state.best_model_checkpoint = str(best)


class FollowStream(TrainerCallback):
    """Starts a stream where the run stands; transformers would make all mixtures up to there anew and drop them."""

    def on_train_begin(self, args, state, control, train_dataloader, **kwargs):
        batches = state.global_step * args.gradient_accumulation_steps
        stream = train_dataloader.dataset
        stream.load_state_dict({"mixtures": batches * stream.batch_size * stream.world, "taken": 0})

    def on_step_end(self, args, state, control, **kwargs):
        state.epoch = state.global_step / state.max_steps  # transformers counts from where it resumed
