"""Every parameter learns, at its own rate, from one's own items and losses; what cannot be trained is refused."""

import numpy as np
import pytest
import torch
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from mvat_hf.data.collator import SegmentCollator
from mvat_hf.data.matching import DataError
from mvat_hf.models.manner import MannerFeatureExtractor
from mvat_hf.training.arguments import EnhancementConfig
from mvat_hf.training.trainer import EnhancementTrainer
from mvat_hf.utils.errors import MissingExtraError
from training_runs import SECONDS, arguments, pairs, plain, rumble, small_model


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
        plain(tmp_path).validated(items)


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


def test_a_feature_extractor_of_another_rate_is_refused(tmp_path):
    options = {"args": arguments(tmp_path), "train_dataset": pairs(2)}
    with pytest.raises(ValueError, match="processing_class, which is saved .* must be of 16000 Hz, got 8000 Hz"):
        EnhancementTrainer(small_model(), processing_class=MannerFeatureExtractor(sampling_rate=8000), **options)


def test_model_init_may_take_a_trial_and_arguments_be_of_another_class(tmp_path):
    """As transformers has them; fields that only the other class has are left."""
    asked = []
    args = Seq2SeqTrainingArguments(str(tmp_path), max_steps=3, use_cpu=True, report_to="none")
    trainer = EnhancementTrainer(
        model_init=lambda trial: asked.append(trial) or small_model(), args=args, train_dataset=pairs(2)
    )
    assert asked and not any(asked) and trainer.args.max_steps == 3
    assert not hasattr(trainer.args, "predict_with_generate")


def test_the_threads_of_the_arguments_are_taken(tmp_path):
    before = torch.get_num_threads()
    try:
        plain(tmp_path, threads=before + 1)
        assert torch.get_num_threads() == before + 1
        plain(tmp_path)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


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


def test_frozen_statistics_stay_and_weights_move(tmp_path):
    trainer = plain(tmp_path, frozen_statistics=True)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert "input.weight" in moved and not any("running" in name or "num_batches" in name for name in moved)
    with pytest.raises(ValueError, match=r"expected one of them, got both \(recalibration_batches 2\)"):
        plain(tmp_path, frozen_statistics=True, recalibration_batches=2)


def test_the_loss_is_compiled_as_the_arguments_say(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(torch, "compile", lambda function, **options: seen.update({function.__name__: options}))
    plain(tmp_path, torch_compile_backend="eager", torch_compile_mode="max-autotune")
    assert seen == {"enhancement_loss": {"backend": "eager", "mode": "max-autotune"}}


def test_a_process_trains_on_one_gpu(tmp_path):
    args = arguments(tmp_path)
    args._n_gpu = 4  # what transformers finds where a process sees four
    assert args.n_gpu == 1 and args.train_batch_size == args.per_device_train_batch_size
