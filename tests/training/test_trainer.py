"""Trainers: zero weight is plain training, every part learns, resuming and accumulating change nothing."""

import numpy as np
import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from datasets import Dataset
from transformers import TrainerCallback, TrainingArguments

from conftest import REPOSITORY
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.data.matching import DataError
from mvat_hf.data.mixing import Mixer, MixingOptions
from mvat_hf.data.streaming import MixtureStream
from mvat_hf.distillation import build_method
from mvat_hf.metrics import si_sdr
from mvat_hf.models.manner import MannerConfig, MannerModel
from mvat_hf.training.arguments import EnhancementConfig
from mvat_hf.training.distillation_trainer import DistillationTrainer
from mvat_hf.training.trainer import EnhancementTrainer
from mvat_hf.utils.errors import MissingExtraError

SECONDS = 0.25


def pairs(count: int, seconds: float = SECONDS) -> Dataset:
    rng = np.random.default_rng(0)
    clean = [np.cumsum(rng.standard_normal(round(seconds * 16000))).astype(np.float32) / 300 for _ in range(count)]
    noisy = [speech + 0.05 * rng.standard_normal(len(speech)).astype(np.float32) for speech in clean]
    return Dataset.from_dict({"id": [str(n) for n in range(count)], "clean": clean, "noisy": noisy}).with_format(
        "numpy"
    )


def small_model(seed: int = 0, **options) -> MannerModel:
    torch.manual_seed(seed)
    return MannerModel(MannerConfig(**{"hidden_size": 6, "depth": 2, "attention_levels": "deepest", **options}))


def arguments(folder, **options) -> EnhancementConfig:
    defaults = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "dataloader_num_workers": 0,
        "scoring_processes": 1,
        "disable_tqdm": True,
    }
    return EnhancementConfig(**{**defaults, **options})


def plain(folder, callbacks=None, model=None, **options) -> EnhancementTrainer:
    return EnhancementTrainer(
        model or small_model(),
        arguments(folder, **options),
        SegmentCollator(0.2),
        train_dataset=pairs(6),
        eval_dataset=pairs(1, seconds=1.5),
        callbacks=callbacks,
    )


def rumble(count: int) -> np.ndarray:
    """A tone of 20 Hz that swells and fades, (time,)."""
    return (np.hanning(count) * np.sin(2 * np.pi * 20 * np.arange(count) / 16000)).astype(np.float32)


@pytest.mark.parametrize("where", ["clean", "noisy", "both"])
def test_no_loss_counts_what_the_model_never_hears(tmp_path, where):
    trainer = plain(tmp_path, model=small_model(high_pass_hz=70).eval(), loss_weights={"snr": 0.1})
    item, losses = trainer.eval_dataset[0], []
    for added in (0, rumble(len(item["clean"]))):
        clean = item["clean"] + (added if where != "noisy" else 0)
        noisy = item["noisy"] + (added if where != "clean" else 0)
        batch = {"input_values": torch.from_numpy(noisy)[None], "labels": torch.from_numpy(clean)[None]}
        losses.append((trainer.model(**batch).loss.item(), trainer.compute_loss(trainer.model, batch).item()))
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_validation_scores_against_the_recording_as_it_is(tmp_path):
    """As `mvat evaluate` does, and any other system: below `high_pass_hz` too."""
    trainer = plain(tmp_path, model=small_model(high_pass_hz=70).eval())
    item = trainer.eval_dataset[0]
    clean = item["clean"] + rumble(len(item["clean"]))
    rows = Dataset.from_dict({"id": ["0"], "clean": [clean], "noisy": [item["noisy"]]}).with_format("numpy")
    with torch.no_grad():
        enhanced = trainer.model(torch.from_numpy(item["noisy"])[None]).audio_values[0].numpy()
    assert trainer.score(rows)[0].scores["si_sdr"] == pytest.approx(si_sdr(clean, enhanced), abs=1e-3)


def distilling(
    folder, method: str, beta: float, teacher: MannerModel | None = None, teacher_cache=None, student=None, **options
) -> DistillationTrainer:
    return DistillationTrainer(
        student or small_model(),
        teacher=teacher or small_model(1, hidden_size=8, depth=3, attention_levels="all"),
        method=build_method(method),
        beta=beta,
        teacher_cache=teacher_cache,
        args=arguments(folder, **options),
        data_collator=SegmentCollator(0.2),
        train_dataset=pairs(6),
    )


def without_times(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "per_second" not in name and "runtime" not in name}


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(("method", "beta"), [("none", 0.5), ("mvat", 0.0), ("output", 0.0), ("at", 0.0)])
def test_no_distillation_is_plain_training_to_the_bit(tmp_path, method, beta):
    baseline, student = plain(tmp_path), distilling(tmp_path, method, beta)
    baseline.train()
    student.train()
    assert same_weights(baseline.model, student.model)


@pytest.mark.parametrize("method", ["output", "at", "mvat"])
def test_a_method_changes_the_student_and_not_the_teacher(tmp_path, method):
    teacher = small_model(1, hidden_size=8, depth=3, attention_levels="all")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    baseline, trainer = plain(tmp_path), distilling(tmp_path, method, 1.0, teacher)
    baseline.train()
    trainer.train()
    assert not same_weights(baseline.model, trainer.model)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    entry = trainer.state.log_history[0]
    assert entry["loss"] == pytest.approx(entry["enhancement"] + entry["distillation"], rel=1e-4)


@pytest.mark.parametrize("method", ["output", "at", "mvat"])
def test_the_logged_distance_is_that_to_the_whole_ordinary_teacher(tmp_path, method):
    trainer = distilling(tmp_path, method, 1.0, max_steps=1)
    batch = next(iter(trainer.get_train_dataloader()))
    student, teacher = small_model().train(), small_model(1, hidden_size=8, depth=3, attention_levels="all").eval()
    options = trainer.method.forward_options
    with torch.no_grad():
        outputs = [model(batch["input_values"], **options) for model in (student, teacher)]
        expected = sum(trainer.method(*outputs, batch).values())
        trainer.compute_loss(trainer.model.train(), batch)
    assert float(trainer.logged_terms["distillation"]) == pytest.approx(float(expected), rel=1e-4)


def test_a_teacher_from_the_cache_teaches_the_same(tmp_path):
    runs = [distilling(tmp_path, "mvat", 1.0)]
    runs += [distilling(tmp_path, "mvat", 1.0, teacher_cache=tmp_path / "cache") for _ in range(2)]
    for trainer in runs:
        trainer.train()
    losses = [[entry["loss"] for entry in trainer.state.log_history if "loss" in entry] for trainer in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == losses[1]  # the second reads what the first has kept
    assert list((tmp_path / "cache").rglob("*.safetensors"))


def test_students_of_other_levels_do_not_share_what_the_cache_keeps(tmp_path):
    """The teacher runs no further than the last level that a student reads."""
    teacher = small_model(1, hidden_size=8, depth=3, attention_levels="all")
    cached, whole = tmp_path / "cache", []
    for levels in ("deepest", "all"):
        trainer = distilling(tmp_path, "mvat", 1.0, teacher, cached, student=small_model(attention_levels=levels))
        batch = next(iter(trainer.get_train_dataloader()))
        whole.append(trainer.cache(batch["input_values"], trainer.teach)["view_features"].keys())
    assert whole[0] < whole[1]


@pytest.mark.parametrize(
    "name",
    ["per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "scoring_processes"],
)
@pytest.mark.parametrize("count", [0, -1])
def test_none_of_what_there_must_be_one_of_is_refused(tmp_path, name, count):
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, got {count}$"):
        arguments(tmp_path, **{name: count})


def test_persistent_workers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="dataloader_persistent_workers must be false"):
        arguments(tmp_path, dataloader_num_workers=1, dataloader_persistent_workers=True)


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


def test_every_parameter_learns_and_every_term_is_logged(tmp_path):
    trainer = plain(tmp_path)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    unchanged = [name for name, value in trainer.model.named_parameters() if torch.equal(value, before[name])]
    assert not unchanged
    entry = trainer.state.log_history[0]
    spectral = entry["spectral_convergence"] + entry["log_magnitude"]
    assert entry["loss"] == pytest.approx(entry["l1"] + 0.5 * spectral, rel=1e-4)


def test_one_cycle_rises_to_the_learning_rate_and_falls_below_its_start(tmp_path):
    trainer = plain(tmp_path, one_cycle=True, max_steps=20, learning_rate=1e-2)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert max(rates) == pytest.approx(1e-2, rel=0.02)
    assert rates.index(max(rates)) in (5, 6) and rates[-1] < rates[0] < 1e-3


@pytest.mark.parametrize(
    ("schedule", "rate"), [({"lr_scheduler_type": "constant"}, "lr"), ({"one_cycle": True}, "max_lr")]
)
def test_matrices_have_a_learning_rate_of_their_own(tmp_path, schedule, rate):
    trainer = plain(tmp_path, muon_learning_rate=1e-2, learning_rate=1e-3, **schedule)
    trainer.train()
    assert [group[rate] for group in trainer.optimizer.param_groups] == [1e-2, 1e-3, 1e-3]


def test_the_logged_learning_rate_is_that_of_adamw_and_muons_stands_beside(tmp_path):
    trainer = plain(tmp_path, muon_learning_rate=1e-2, learning_rate=1e-3, lr_scheduler_type="constant")
    trainer.train()
    entry = trainer.state.log_history[0]
    assert (entry["learning_rate"], entry["muon_learning_rate"]) == (1e-3, 1e-2)


def test_a_loss_that_is_no_number_stops_the_run_at_once(tmp_path):
    trainer = plain(tmp_path, lr_scheduler_type="constant")
    bad = pairs(6)
    bad = bad.map(lambda item: {"noisy": np.full_like(item["noisy"], np.nan)}).with_format("numpy")
    trainer.train_dataset = bad
    with pytest.raises(ValueError, match="the loss is nan in step 1, at a learning rate of 0.001"):
        trainer.train()


def test_a_service_that_is_not_installed_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("mvat_hf.training.callbacks.find_spec", lambda name: None)
    monkeypatch.setattr("mvat_hf.utils.errors.find_spec", lambda name: None)
    monkeypatch.setattr("mvat_hf.training.trainer.check_metrics", lambda names: None)
    with pytest.raises(MissingExtraError, match=r"tensorboard is not installed: pip install 'mvat_hf\[tensorboard\]'"):
        plain(tmp_path, report_to="tensorboard")
    with pytest.raises(ValueError, match="report_to: wandb is not installed: pip install wandb"):
        plain(tmp_path, report_to=["wandb"])


def test_pairs_of_unlike_lengths_are_refused_wherever_they_come_from(tmp_path):
    items = [{"id": "a", "clean": np.ones(4000, np.float32), "noisy": np.ones(3999, np.float32)}]
    with pytest.raises(DataError, match="pair a: clean has 4000 samples, noisy 3999"):
        SegmentCollator(0.2)(items)
    with pytest.raises(DataError, match="pair a: clean has 4000 samples, noisy 3999"):
        plain(tmp_path).score(items)


def test_items_may_be_decoded_audio_without_names():
    """As `datasets` gives it: the batch is the same as of plain arrays."""
    plain_items = [{"id": str(n), "clean": item["clean"], "noisy": item["noisy"]} for n, item in enumerate(pairs(2))]
    nameless = [
        {side: {"array": item[side].tolist(), "sampling_rate": 16000} for side in ("clean", "noisy")}
        for item in plain_items
    ]
    collate = SegmentCollator(SECONDS)  # as long as they are: there is one crop
    for name, batch in collate(plain_items).items():
        assert torch.equal(batch, collate(nameless)[name])
    assert torch.equal(*(SegmentCollator(0.1)(nameless)["labels"] for _ in range(2)))
    nameless[0]["clean"]["sampling_rate"] = 8000
    with pytest.raises(DataError, match="clean is at 8000 Hz, expected 16000"):
        collate(nameless)
    with pytest.raises(DataError, match="an item has no noisy, expected clean and noisy, got clean"):
        collate([{"clean": np.ones(4)}])
    with pytest.raises(DataError, match=r"shape \(2, 4\), expected samples of one channel"):
        collate([{"clean": np.ones((2, 4)), "noisy": np.ones((2, 4))}])


def test_a_trainer_of_few_arguments_and_sets_to_validate_by_name(tmp_path):
    """Plain arguments, no collator, items of one's own, `model_init`."""
    items = [
        {side: {"array": item[side], "sampling_rate": 16000} for side in ("clean", "noisy")} for item in pairs(2, 1.5)
    ]
    args = TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to="none", save_strategy="no", seed=3)
    trainer = EnhancementTrainer(
        model_init=lambda: small_model(), args=args, train_dataset=items, eval_dataset={"one": items[:1], "both": items}
    )
    assert isinstance(trainer.args, EnhancementConfig) and trainer.args.seed == 3
    trainer.train()
    metrics = trainer.evaluate()
    mean = (metrics["eval_one_si_sdr"] + metrics["eval_both_si_sdr"]) / 2
    assert metrics["eval_si_sdr"] == pytest.approx(mean) and {"eval_loss", "eval_one_loss"} <= metrics.keys()
    assert "eval_runtime" in metrics
    assert trainer.processing_class.sampling_rate == 16000


def test_own_metrics_and_an_own_loss_are_honoured(tmp_path):
    trainer = EnhancementTrainer(
        small_model(),
        arguments(tmp_path),
        train_dataset=pairs(2),
        eval_dataset=pairs(2, 1.5),
        compute_metrics=lambda found: {"longest": max(map(len, found.predictions)), "pairs": len(found.label_ids)},
        compute_loss_func=lambda outputs, labels, num_items_in_batch=None: (outputs["audio_values"] * 0).sum() + 7,
    )
    metrics = trainer.evaluate()
    assert (metrics["eval_longest"], metrics["eval_pairs"]) == (24000, 2)
    trainer.train()
    assert trainer.state.log_history[-2]["loss"] == pytest.approx(7)


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


def test_no_shared_level_is_an_error_before_training(tmp_path):
    with pytest.raises(ValueError, match="share no level"):
        distilling(tmp_path, "mvat", 1.0, small_model(1, depth=3, attention_levels=[2]))


class StopAt(TrainerCallback):
    """Dies right after the checkpoint of a step, as a killed run does."""

    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("workers", "other"), [(0, {}), (1, {}), (0, {"bf16": True}), (0, {"muon_learning_rate": 1e-2})]
)
def test_resuming_equals_never_stopping(tmp_path, workers, other):
    # 6 items in batches of 2: step 4 lies in the second epoch, with other crops; validation comes in between
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "dataloader_num_workers": workers}
    options |= {"eval_strategy": "steps", "eval_steps": 2, **other}
    whole = plain(tmp_path / "whole", **options)
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
    """The loss is a mean: two batches of 1 accumulated log what their average is, not their sum."""
    whole = plain(tmp_path, max_steps=1, learning_rate=0.0)
    split = plain(
        tmp_path, max_steps=1, learning_rate=0.0, per_device_train_batch_size=1, gradient_accumulation_steps=2
    )
    whole.train()
    split.train()
    assert split.state.log_history[0]["loss"] == pytest.approx(whole.state.log_history[0]["loss"], rel=0.2)
    terms = split.state.log_history[0]
    assert terms["loss"] == pytest.approx(
        terms["l1"] + 0.5 * (terms["spectral_convergence"] + terms["log_magnitude"]), rel=1e-4
    )


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
    scores = trainer.score(Dataset.from_dict(items).with_format("numpy"))
    assert metrics["eval_si_sdr"] == pytest.approx(np.mean([score.scores["si_sdr"] for score in scores[:2]]))


def test_frozen_statistics_stay_and_weights_move(tmp_path):
    trainer = plain(tmp_path, frozen_statistics=True)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert "input.weight" in moved and not any("running" in name or "num_batches" in name for name in moved)
    with pytest.raises(ValueError, match=r"expected one of them, got both \(recalibration_batches 2\)"):
        plain(tmp_path, frozen_statistics=True, recalibration_batches=2)


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
    scored = trainer.score(trainer.eval_dataset)[0].scores["si_sdr"]
    hook.remove()
    with torch.no_grad():
        expected = WithInput.forward(trainer.model.eval(), torch.from_numpy(item["noisy"])[None]).audio_values[0]
    assert torch.equal(seen[0], expected)
    assert scored == pytest.approx(si_sdr(item["clean"], expected.numpy()), abs=1e-3)


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
    whole = streaming(tmp_path / "whole", **options)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        streaming(tmp_path / "cut", callbacks=[StopAt(2)], **options).train()
    resumed = streaming(tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=True)
    assert same_weights(whole.model, resumed.model)
    logs = [
        [(entry["step"], entry["epoch"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
        for trainer in (whole, resumed)
    ]
    assert len(logs[0]) == 5 and logs[0] == logs[1]
    if workers == 0:  # nothing was made again only to be skipped
        assert whole.data_collator.seen[0] == ["mixture_0", "mixture_1"]
        assert resumed.data_collator.seen == whole.data_collator.seen[4:]


def three_steps(folder, batch_size: int) -> None:
    """MV-AT with batch norms that keep their statistics; the losses and the weights go to `folder`."""
    AcceleratorState._reset_state(reset_partial_state=True)  # what was forked knows of one process
    trainer = distilling(
        folder, "mvat", 1.0, per_device_train_batch_size=batch_size, max_steps=3, optim="sgd", learning_rate=0.05
    )
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


def test_a_process_trains_on_one_gpu(tmp_path):
    args = arguments(tmp_path)
    args._n_gpu = 4  # what transformers finds where a process sees four
    assert args.n_gpu == 1 and args.train_batch_size == args.per_device_train_batch_size


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
