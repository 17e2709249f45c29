"""Validation scores the model as it would be saved, changes nothing in it, and never ends a run."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator, debug_launcher
from accelerate.state import AcceleratorState
from datasets import Dataset

from conftest import REPOSITORY
from mvat_hf import enhance
from mvat_hf.acceleration.folding import unknown_part
from mvat_hf.data.audio import resample
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.metrics import pesq, si_sdr
from mvat_hf.models.manner import MannerModel
from mvat_hf.training.arguments import EnhancementConfig
from mvat_hf.training.trainer import EnhancementTrainer
from training_runs import arguments, pairs, plain, rumble, same_weights, small_model, without_times


def test_validation_scores_against_the_recording_as_it_is(tmp_path):
    """As `mvat evaluate` does, and any other system: below `high_pass_hz` too."""
    trainer = plain(tmp_path, model=small_model(high_pass_hz=70).eval())
    item = trainer.eval_dataset[0]
    clean = item["clean"] + rumble(len(item["clean"]))
    rows = Dataset.from_dict({"id": ["0"], "clean": [clean], "noisy": [item["noisy"]]}).with_format("numpy")
    with torch.no_grad():
        enhanced = trainer.model(torch.from_numpy(item["noisy"])[None]).audio_values[0].numpy()
    assert trainer.validated(rows)[0].score.scores["si_sdr"] == pytest.approx(si_sdr(clean, enhanced), abs=1e-3)


@pytest.mark.parametrize("best", [True, False])
def test_the_chosen_validation_is_that_of_the_saved_weights(best, tmp_path, monkeypatch):
    options = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1, "max_steps": 3}
    folder = tmp_path / "run"
    trainer = plain(folder, **options, metric_for_best_model="pesq", load_best_model_at_end=best)
    scores = iter((2.0, 3.0, 1.0))
    monkeypatch.setattr("mvat_hf.training.trainer.mean_scores", lambda _: {"pesq": next(scores)})
    trainer.train()
    assert trainer.chosen_validation()["step"] == (2 if best else 3)
    if best:  # a folder that was moved brings its best weights along
        moved = folder.rename(tmp_path / "moved")
        again = plain(moved, **options, metric_for_best_model="pesq", load_best_model_at_end=True)
        again.train(resume_from_checkpoint=str(moved / "checkpoint-3"))
        assert same_weights(again.model, trainer.model)


def test_the_best_weights_are_the_best_of_those_that_are_saved(tmp_path, monkeypatch):
    options = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 2, "max_steps": 6}
    trainer = plain(tmp_path, **options, load_best_model_at_end=True)
    scores = iter((1.0, 1.5, 1.4, 1.45, 1.9, 1.8))
    monkeypatch.setattr("mvat_hf.training.trainer.mean_scores", lambda _: {"pesq": next(scores)})
    trainer.train()
    chosen = trainer.chosen_validation()
    assert (chosen["step"], chosen["eval_pesq"], trainer.state.best_metric) == (6, 1.8, 1.8)
    assert same_weights(trainer.model, MannerModel.from_pretrained(tmp_path / "checkpoint-6"))
    trainer.state.best_global_step = 5  # as of runs before
    assert trainer.chosen_validation()["step"] == 6


def test_validations_come_with_the_checkpoints_unless_asked_otherwise(tmp_path):
    def steps(**options):
        return EnhancementConfig(str(tmp_path), use_cpu=True, **options).eval_steps

    assert (steps(), steps(save_steps=100), steps(eval_steps=50, save_steps=100)) == (500, 100, 50)
    assert steps(save_strategy="no", load_best_model_at_end=False) == 25  # as in transformers: logging_steps


@pytest.mark.parametrize("metric", ["pesq", "eval_stoi", "held_out_si_sdr", "loss", "eval_loss", "held_out_loss"])
def test_of_a_loss_less_is_better(metric, tmp_path):
    args = EnhancementConfig(str(tmp_path), use_cpu=True, metric_for_best_model=metric)
    assert args.greater_is_better == (not metric.endswith("loss"))


def test_a_validation_that_cannot_be_scored_does_not_end_a_run(tmp_path):
    silence = {"id": "silence", "clean": np.zeros(16000, np.float32), "noisy": np.zeros(16000, np.float32)}
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    trainer = EnhancementTrainer(
        small_model(),
        arguments(tmp_path, **options, load_best_model_at_end=True),
        SegmentCollator(0.2),
        train_dataset=pairs(2),
        eval_dataset=[silence],
    )
    with pytest.warns(UserWarning, match="none of 1 validation files can be scored: silence"):
        trainer.train()
    assert trainer.state.global_step == 2 and trainer.state.log_history[1]["eval_unscorable"] == 1


def test_validation_counts_silence_and_scores_the_rest(tmp_path):
    from mvat_hf.data.audio import find_audio, read_mono

    speech = [read_mono(path, 16000) for path in find_audio(REPOSITORY / "scripts/demo/speech/anna")[:2]]
    rng = np.random.default_rng(0)
    noisy = [clean + 0.01 * rng.standard_normal(len(clean)).astype(np.float32) for clean in speech]
    silent = np.zeros(16000, np.float32)
    items = {"id": ["a", "b", "silence"], "clean": [*speech, silent], "noisy": [*noisy, silent]}
    trainer = plain(tmp_path)
    metrics = trainer.evaluate(Dataset.from_dict(items).with_format("numpy"))
    assert metrics["eval_unscorable"] == 1
    assert {"eval_pesq", "eval_stoi", "eval_si_sdr"} <= metrics.keys()
    scores = [file.score for file in trainer.validated(Dataset.from_dict(items).with_format("numpy"))]
    assert metrics["eval_si_sdr"] == pytest.approx(np.mean([score.scores["si_sdr"] for score in scores[:2]]))


def test_predictions_are_of_whole_files_and_measured_as_validations_are(tmp_path):
    files = [pairs(1, seconds)[0] for seconds in (1.5, 1.0)]
    trainer = plain(tmp_path, recalibration_batches=1, model=small_model().eval())
    predicted, measured = trainer.predict(files), without_times(trainer.evaluate(files, metric_key_prefix="test"))
    assert [audio.shape for audio in predicted.predictions] == [(24000,), (16000,)]
    assert all(np.array_equal(clean, item["clean"]) for clean, item in zip(predicted.label_ids, files, strict=True))
    assert without_times(predicted.metrics) == measured and "test_pesq" in measured
    with trainer.recalibrated(), torch.no_grad():
        enhanced = trainer.model.eval()(torch.as_tensor(files[1]["noisy"])[None]).audio_values[0].numpy()
    np.testing.assert_allclose(predicted.predictions[1], enhanced, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 48000])
def test_recordings_of_another_rate_are_scored_at_16_khz(rate, tmp_path):
    item = pairs(1, 1.5 * rate / 16000)[0]
    model = small_model(sampling_rate=rate)
    trainer = EnhancementTrainer(model, arguments(tmp_path), eval_dataset=[item])
    predicted = trainer.predict([item])
    sides = [resample(audio[None], rate, 16000)[0] for audio in (item["clean"], predicted.predictions[0])]
    assert predicted.metrics["test_pesq"] == pytest.approx(pesq(*sides, 16000))
    assert predicted.metrics["test_si_sdr"] == pytest.approx(si_sdr(*sides), abs=1e-3)


def test_without_training_data_nothing_is_recalibrated(tmp_path):
    trainer = EnhancementTrainer(
        small_model(), arguments(tmp_path, recalibration_batches=2), eval_dataset=pairs(1, 1.5)
    )
    assert trainer.evaluate()["eval_loss"] > 0
    trainer.save_model()
    assert same_weights(MannerModel.from_pretrained(tmp_path), trainer.model)


def test_recalibration_needs_training_data_of_a_length(tmp_path):
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from pairs(2)

    with pytest.raises(ValueError, match="recalibration_batches needs training data with a length, got Endless"):
        EnhancementTrainer(small_model(), arguments(tmp_path, recalibration_batches=2), train_dataset=Endless())


def test_a_file_too_short_for_the_loss_is_left_out_of_its_mean(tmp_path):
    trainer = plain(tmp_path)
    whole, short = pairs(1, 1.5)[0], pairs(1, 1000 / 16000)[0]
    alone, both = (trainer.evaluate(files) for files in ([whole], [whole, short]))
    assert both["eval_unscorable"] == 1 and both["eval_loss"] == alone["eval_loss"] > 0
    with pytest.warns(UserWarning, match="none of 1 validation files can be scored"):
        assert np.isnan(trainer.evaluate([short])["eval_loss"])


class Stacking:
    """A collator that is no `SegmentCollator`."""

    def collate(self, items):
        batch = {"input_values": "noisy", "labels": "clean"}
        return {name: torch.stack([torch.as_tensor(item[side]) for item in items]) for name, side in batch.items()}


def test_recalibration_takes_any_collator(tmp_path):
    options = arguments(tmp_path, recalibration_batches=2)
    trainer = EnhancementTrainer(small_model(), options, Stacking().collate, train_dataset=pairs(4))
    before = {name: buffer.clone() for name, buffer in trainer.model.named_buffers()}
    trainer.recalibrate()
    assert not any(torch.equal(value, before[name]) for name, value in trainer.model.named_buffers())


def test_recalibration_makes_the_statistics_those_of_the_batches(tmp_path):
    trainer = plain(tmp_path, recalibration_batches=3)
    model = trainer.model
    first = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d))
    seen = []
    hook = first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].mean(dim=(0, 2))))
    momentum = first.momentum
    trainer.recalibrate()
    hook.remove()
    assert len(seen) == 3
    assert torch.allclose(first.running_mean, torch.stack(seen).mean(dim=0), atol=1e-6)
    assert first.momentum == momentum
    before = first.running_var.clone()
    trainer.recalibrate()
    assert torch.equal(first.running_var, before)


def test_recalibration_is_the_same_in_every_epoch(tmp_path):
    trainer = plain(tmp_path, recalibration_batches=2)
    statistics = []
    for epoch in (0, 1):
        trainer.data_collator.epoch, trainer.recalibration.of_weights = epoch, None  # what it remembers is not asked
        trainer.recalibrate()
        statistics.append({name: buffer.clone() for name, buffer in trainer.model.named_buffers()})
        assert trainer.data_collator.epoch == epoch
    assert all(torch.equal(value, statistics[1][name]) for name, value in statistics[0].items())


def test_validation_changes_nothing_and_what_it_measured_is_saved(tmp_path):
    trainer = plain(tmp_path, recalibration_batches=2, max_steps=1)
    trainer.train()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    generator = torch.random.get_rng_state()
    first, again = (without_times(trainer.evaluate()) for _ in range(2))
    assert first == again and first["eval_loss"] > 0
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), generator)
    trainer.save_model()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    saved = MannerModel.from_pretrained(tmp_path)
    assert not same_weights(saved, trainer.model)
    rescored = plain(tmp_path, model=saved).evaluate()
    assert rescored["eval_si_sdr"] == pytest.approx(first["eval_si_sdr"], abs=1e-4)


class WithInput(MannerModel):
    """Its input beside its output."""

    def forward(self, input_values, **options):
        output = super().forward(input_values, **options)
        output.audio_values = output.audio_values + input_values
        return output


@pytest.mark.parametrize("precision", [{}, {"bf16": True}])
def test_validation_goes_through_the_forward_of_the_model_without_autocast(tmp_path, precision):
    trainer = plain(tmp_path, model=WithInput(small_model().config), max_steps=1, **precision)
    trainer.train()
    item, seen = trainer.eval_dataset[0], []
    hook = trainer.model.register_forward_hook(lambda module, inputs, output: seen.append(output.audio_values[0]))
    scored = trainer.validated(trainer.eval_dataset)[0].score.scores["si_sdr"]
    hook.remove()
    with torch.no_grad():
        expected = WithInput.forward(trainer.model.eval(), torch.from_numpy(item["noisy"])[None]).audio_values[0]
    assert torch.equal(seen[0], expected)
    assert scored == pytest.approx(si_sdr(item["clean"], expected.numpy()), abs=1e-3)


def test_a_model_trained_in_mixed_precision_computes_as_it_is_saved(tmp_path):
    trainer, by_autocast = plain(tmp_path, max_steps=1, bf16=True), []
    hook = trainer.model.output.register_forward_hook(lambda *_: by_autocast.append(torch.is_autocast_enabled("cpu")))
    trainer.train()
    trainer.train()
    hook.remove()
    assert by_autocast == [True, True]
    assert unknown_part(trainer.model) is None
    trainer.save_model()
    noisy = trainer.eval_dataset[0]["noisy"]
    saved = MannerModel.from_pretrained(tmp_path)
    np.testing.assert_array_equal(enhance(trainer.model, noisy, 16000), enhance(saved, noisy, 16000))


def test_a_model_from_a_loop_of_accelerate_computes_as_before():
    model, noisy = small_model().eval(), pairs(1)[0]["noisy"]
    before, accelerator = enhance(model, noisy, 16000), Accelerator(cpu=True, mixed_precision="bf16")
    prepared = accelerator.prepare(model)
    assert unknown_part(prepared) is not None  # it computes by autocast
    unwrapped = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    assert unknown_part(unwrapped) is None
    np.testing.assert_array_equal(enhance(unwrapped, noisy, 16000), before)
    AcceleratorState._reset_state()  # which others share


def test_training_with_recalibration_learns_the_same_weights(tmp_path):
    """The statistics bear on validation alone: the steps between are those of a run without."""
    runs = [
        plain(tmp_path / name, eval_strategy="steps", eval_steps=2, recalibration_batches=count)
        for name, count in (("with", 2), ("without", 0))
    ]
    for trainer in runs:
        trainer.train()
    with_it, without = (dict(trainer.model.named_parameters()) for trainer in runs)
    assert all(torch.equal(with_it[name], without[name]) for name in without)


def validated_with_other_statistics(folder) -> None:
    """Two ranks whose batch norms differ; each rank's mean SI-SDR goes to `folder`."""
    AcceleratorState._reset_state(reset_partial_state=True)  # what was forked knows of one process
    trainer = plain(folder, scoring_processes=1)
    for norm in trainer.model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d):
            norm.running_var += trainer.args.process_index
    metrics = without_times(trainer.evaluate(pairs(2, seconds=1.5)))
    torch.save(metrics, folder / f"{trainer.args.process_index}.pt")


def test_every_rank_validates_the_model_of_the_first(tmp_path):
    for folder, processes in (("two", 2), ("one", 1)):
        (tmp_path / folder).mkdir()
        debug_launcher(validated_with_other_statistics, (tmp_path / folder,), num_processes=processes)
    one, *two = (torch.load(tmp_path / name) for name in ("one/0.pt", "two/0.pt", "two/1.pt"))
    assert two == [pytest.approx(one, rel=1e-6), pytest.approx(one, rel=1e-6)]  # to rounding
