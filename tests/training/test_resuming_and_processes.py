"""A run resumed, with batches accumulated or in two processes learns what a plain one does."""

import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from transformers import TrainerCallback

from conftest import REPOSITORY
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.data.mixing import Mixer, MixingOptions
from mvat_hf.data.streaming import MixtureStream
from mvat_hf.training.trainer import EnhancementTrainer
from training_runs import StopAt, arguments, distilling, pairs, plain, same_weights, small_model


@pytest.mark.parametrize(
    ("workers", "other"), [(0, {}), (1, {}), (0, {"bf16": True}), (0, {"muon_learning_rate": 1e-2})]
)
def test_resuming_equals_never_stopping(tmp_path, workers, other):
    # 6 items in batches of 2: step 4 lies in the second epoch, with other crops; validation comes in between
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "dataloader_num_workers": workers}
    options |= {"eval_strategy": "steps", "eval_steps": 2, **other}
    whole = plain(tmp_path / "whole", **{**options, "save_strategy": "no"})
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        plain(tmp_path / "cut", callbacks=[StopAt(4)], **options).train()
    resumed = plain(tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=True)
    assert same_weights(whole.model, resumed.model)
    assert [entry.get("loss") for entry in whole.state.log_history[:6]] == [
        entry.get("loss") for entry in resumed.state.log_history[:6]
    ]


def test_accumulated_loss_is_the_mean_of_its_batches(tmp_path):
    """Eight batches of one item train as one of eight, but for the statistics of batch norms, which stay here."""
    runs = []
    for size, batches in ((8, 1), (1, 8)):
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": batches, "max_steps": 2}
        trainer = plain(tmp_path, frozen_statistics=True, optim="sgd", learning_rate=0.05, **options)
        trainer.train_dataset = pairs(8, seconds=0.2)  # as long as a crop
        trainer.train()
        runs.append(trainer)
    whole, split = runs
    losses = [[entry["loss"] for entry in trainer.state.log_history if "loss" in entry] for trainer in runs]
    assert len(losses[0]) == 2 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, weight in whole.model.state_dict().items():
        torch.testing.assert_close(split.model.state_dict()[name], weight, rtol=1e-4, atol=1e-6)
    terms = split.state.log_history[0]
    assert terms["loss"] == pytest.approx(
        terms["l1"] + 0.5 * (terms["spectral_convergence"] + terms["log_magnitude"]), rel=1e-4
    )


class Draw(TrainerCallback):
    """Draws a random number in every step, as a method of distillation does."""

    def __init__(self):
        self.drawn = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.drawn.append(torch.rand(()).item())


class NoteItems(SegmentCollator):
    """Writes down which items went into each batch."""

    def __call__(self, items):
        self.seen.append([item["id"] for item in items])
        return super().__call__(items)


def streaming(folder, callbacks=None, **options) -> EnhancementTrainer:
    speech = [path for path in sorted((REPOSITORY / "scripts/demo/speech").glob("*/*.ogg")) if "finn" not in str(path)]
    mixer = Mixer(speech, speech[:3], MixingOptions(seconds=0.2), seed=4)
    collator = NoteItems(0.2)
    collator.seen = []
    return EnhancementTrainer(
        small_model(), arguments(folder, **options), collator, train_dataset=MixtureStream(mixer), callbacks=callbacks
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_equals_one_that_never_stopped(tmp_path, workers):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 5, "gradient_accumulation_steps": 2}
    options["dataloader_num_workers"] = workers
    drawing = [Draw(), Draw()]
    whole = streaming(tmp_path / "whole", drawing[:1], **{**options, "save_strategy": "no"})
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        streaming(tmp_path / "cut", [StopAt(2), Draw()], **options).train()
    resumed = streaming(tmp_path / "cut", drawing[1:], **options)
    resumed.train(resume_from_checkpoint=True)
    assert same_weights(whole.model, resumed.model)
    logs = [
        [(entry["step"], entry["epoch"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
        for trainer in (whole, resumed)
    ]
    assert len(logs[0]) == 5 and logs[0] == logs[1]
    assert len(drawing[1].drawn) == 3 and drawing[0].drawn[2:] == drawing[1].drawn
    if workers == 0:  # nothing was made again only to be skipped
        assert whole.data_collator.seen[0] == ["mixture_0", "mixture_1"]
        assert resumed.data_collator.seen == whole.data_collator.seen[4:]


def test_batches_of_a_stream_are_not_split(tmp_path):
    with pytest.raises(ValueError, match="split_batches cannot be with a stream"):
        streaming(tmp_path, accelerator_config={"split_batches": True})


def three_steps(folder, batch_size: int, batches: int = 1, loss_func=None, loss_weights=None) -> None:
    """MV-AT with batch norms that keep their statistics; the losses and the weights go to `folder`."""
    AcceleratorState._reset_state(reset_partial_state=True)  # what was forked knows of one process
    options = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": batches}
    options |= {"max_steps": 3, "optim": "sgd", "learning_rate": 0.05, "loss_weights": loss_weights}
    trainer = distilling(folder, "mvat", 1.0, **options)
    trainer.compute_loss_func = loss_func
    trainer.train_dataset = pairs(6, seconds=0.2)  # as long as a crop
    for norm in trainer.model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            norm.eval()
            norm.train = lambda mode=True: None
    trainer.train()
    if trainer.is_world_process_zero():
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        terms = [entry["enhancement"] + entry["distillation"] for entry in trainer.state.log_history if "loss" in entry]
        saved = {"processes": trainer.args.world_size, "losses": losses, "terms": terms, "weights": weights}
        torch.save(saved, folder / "run.pt")


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    """To rounding, but for the statistics that batch norms take of each process's own batch."""
    debug_launcher(three_steps, (tmp_path / "two", 1), num_processes=2)
    debug_launcher(three_steps, (tmp_path / "one", 2), num_processes=1)
    two, one = (torch.load(tmp_path / name / "run.pt") for name in ("two", "one"))
    assert (two["processes"], one["processes"]) == (2, 1)
    assert len(one["losses"]) == 3 and one["losses"][0] != pytest.approx(one["losses"][2], rel=1e-3)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert two["terms"] == pytest.approx(two["losses"], rel=1e-4)
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-4, atol=1e-6)


def by_items(outputs, labels, num_items_in_batch):
    """A `compute_loss_func` as transformers has them: a part of the mean over all items of the step."""
    return (outputs["audio_values"] - labels).abs().sum() / num_items_in_batch


def test_a_loss_by_items_weighs_the_same_however_they_are_divided(tmp_path):
    """And so do the terms beside it, which are means."""
    for name, *how, processes in (("whole", 2, 1, 1), ("processes", 1, 1, 2), ("accumulated", 1, 2, 1)):
        given = (tmp_path / name, *how, by_items, {"snr": 0.1})
        debug_launcher(three_steps, given, num_processes=processes)
    whole, *divided = (torch.load(tmp_path / name / "run.pt") for name in ("whole", "processes", "accumulated"))
    assert [run["processes"] for run in divided] == [2, 1]
    for run in divided:
        assert run["losses"] == pytest.approx(whole["losses"], rel=1e-5)
        assert run["terms"] == pytest.approx(run["losses"], rel=1e-4)
        for name, weight in whole["weights"].items():
            torch.testing.assert_close(run["weights"][name], weight, rtol=1e-4, atol=1e-6)
