"""What cannot be trained, or would be without effect, is told before the first step, or at it."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn
from transformers import DataCollatorWithPadding

from distilling_runs import ITEMS, Scaled, distilling
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.distillation import DistillationMethod
from mvat_hf.models.manner import MannerFeatureExtractor
from mvat_hf.training.arguments import DistillationConfig
from mvat_hf.training.distillation_trainer import DistillationTrainer
from mvat_hf.training.trainer import EnhancementTrainer
from training_runs import arguments, pairs, plain, small_model


def enhancing(folder, model=None, train=ITEMS, collator=None, parts=None, **options) -> EnhancementTrainer:
    args = arguments(folder, max_steps=1, **options)
    collator = collator or SegmentCollator(0.1)
    return EnhancementTrainer(model or small_model(), args, collator, train_dataset=train, **(parts or {}))


def test_pesq_as_a_loss_needs_its_sampling_rate(tmp_path):
    with pytest.raises(ValueError, match="loss_weights: pesq is defined at 16000 Hz, the model is at 8000 Hz"):
        enhancing(tmp_path, small_model(sampling_rate=8000), loss_weights={"pesq": 0.1})
    enhancing(tmp_path, small_model(sampling_rate=8000), loss_weights={"snr": 0.1, "pesq": 0})


def test_a_trainer_without_a_teacher_refuses_what_names_one(tmp_path):
    args = arguments(tmp_path, DistillationConfig)
    with pytest.raises(ValueError, match="EnhancementTrainer has no teacher, got a DistillationConfig: expected Dist"):
        EnhancementTrainer(small_model(), args, train_dataset=ITEMS)


def test_options_without_effect_are_named_in_one_warning(tmp_path, recwarn):
    parts = {"preprocess_logits_for_metrics": lambda logits, labels: logits}
    enhancing(tmp_path, parts=parts, per_device_eval_batch_size=2, prediction_loss_only=True)
    told = [str(one.message) for one in recwarn if "without effect" in str(one.message)]
    names = "per_device_eval_batch_size, prediction_loss_only, preprocess_logits_for_metrics"
    assert len(told) == 1 and told[0].startswith(f"{names}: without effect")
    recwarn.clear()
    enhancing(tmp_path)
    assert not [one for one in recwarn if "without effect" in str(one.message)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"muon_learning_rate": 0.01, "optim": "sgd"}, "muon_learning_rate 0.01 beside optim sgd"),
        ({"one_cycle": True, "warmup_steps": 3}, "one_cycle beside warmup_steps 3"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **options)


def test_arguments_that_contradict_options_are_refused(tmp_path):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(ValueError, match=r"muon_learning_rate 0.01 beside optimizers"):
        enhancing(tmp_path, model, parts={"optimizers": (optimizer, None)}, muon_learning_rate=0.01)
    with pytest.raises(ValueError, match=r"muon_learning_rate 0.01 beside optimizer_cls_and_kwargs"):
        enhancing(tmp_path, parts={"optimizer_cls_and_kwargs": (torch.optim.SGD, {})}, muon_learning_rate=0.01)
    with pytest.raises(ValueError, match="one_cycle beside a scheduler"):
        enhancing(tmp_path, model, parts={"optimizers": (optimizer, scheduler)}, one_cycle=True)
    with pytest.raises(ValueError, match="method_kwargs {'p': 1} beside an object of Scaled"):
        distilling(tmp_path, Scaled(), method_kwargs={"p": 1})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_validated_and_not_trained(tmp_path, dtype):
    model = small_model().to(dtype)
    with pytest.raises(ValueError, match=rf"weights of {dtype}, .*load with dtype=torch.float32 and set bf16=True"):
        enhancing(tmp_path, model)
    trainer = EnhancementTrainer(model, arguments(tmp_path), eval_dataset=pairs(1, 1.5))
    assert trainer.evaluate()["eval_loss"] > 0


def test_a_model_without_a_parameter_to_train_is_refused(tmp_path):
    model = small_model().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that can be trained: a trainer freezes a teacher in place"):
        enhancing(tmp_path, model)
    same = small_model()
    with pytest.raises(ValueError, match="the teacher is the student, and a teacher is frozen in place"):
        distilling(tmp_path, "output", student=same, teacher=same)
    assert all(parameter.requires_grad for parameter in same.parameters())


class Giving(DistillationMethod):
    """A method that gives what a test says."""

    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, student, teacher, inputs):
        return self.give((student["audio_values"] - teacher["audio_values"]).abs())


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda value: value.mean(), "Giving gave an object of class Tensor, expected a mapping of scalars"),
        (lambda value: {"far": value}, 'the term "far" of Giving has the shape (2, 1600), expected a tensor of shape'),
        (lambda value: {"far": 1.0}, 'the term "far" of Giving has class float, expected a tensor'),
        (lambda value: {}, "Giving gave no terms"),
        *((lambda value, name=name: {name: value.mean()}, f"Giving gave a term {name}, a name that the log has already")
          for name in ("loss", "grad_norm", "learning_rate", "epoch", "enhancement", "distillation", "l1", "snr")),
    ],
)  # fmt: skip
def test_terms_that_are_no_scalars_or_are_logged_already_are_refused(tmp_path, give, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        distilling(tmp_path, Giving(give), loss_weights={"snr": 0.1}).train()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Scaled, r"method must be an object, got the class Scaled: expected Scaled\(\)"),
        (nn.Linear(1, 1), "method must be a DistillationMethod, got an object of class Linear"),
    ],
)
def test_what_is_no_method_is_refused(tmp_path, method, message):
    with pytest.raises(ValueError, match=message):
        distilling(tmp_path, method)
    with pytest.raises(ValueError, match='got "at": a name goes into DistillationConfig'):
        DistillationTrainer(small_model(), teacher=small_model(1), method="at", train_dataset=ITEMS)


def test_a_loss_that_is_no_number_tells_the_side_that_is_none(tmp_path):
    for side, name in (("noisy", "input_values, the noisy side"), ("clean", "labels, the clean side")):
        bad = [{**item, side: np.full_like(item[side], np.nan)} for item in ITEMS]
        with pytest.raises(ValueError, match=f"the loss is nan in step 1, .*: {name} of the batch, holds NaN"):
            enhancing(tmp_path, train=bad).train()


def test_a_batch_without_labels_is_named(tmp_path):
    crop = SegmentCollator(0.1)
    with pytest.raises(ValueError, match=r"the batch has no labels, expected of the collator .* got input_values"):
        enhancing(tmp_path, collator=lambda items: {"input_values": crop(items)["input_values"]}).train()


class Weighted(DistillationMethod):
    """Reads a tensor of the batch that the model has no use for."""

    def forward(self, student, teacher, inputs):
        return {"weighted": (inputs["weight"] * (student["audio_values"] - teacher["audio_values"]).abs()).mean()}


def test_methods_get_all_tensors_of_a_batch_and_the_model_its_own(tmp_path):
    crop = SegmentCollator(0.1)
    trainer = distilling(tmp_path, Weighted(), max_steps=1)
    trainer.data_collator = lambda items: {**crop(items), "weight": torch.full((len(items), 1), 2.0)}
    trainer.train()
    assert trainer.state.log_history[0]["weighted"] > 0


def test_the_collator_of_a_feature_extractor_will_do(tmp_path):
    """It adds an attention_mask."""
    items = [{"input_values": item["noisy"], "labels": torch.from_numpy(item["clean"])} for item in ITEMS]
    padding = DataCollatorWithPadding(MannerFeatureExtractor())
    trainer = enhancing(tmp_path, train=items, collator=lambda rows: dict(padding(copy.deepcopy(rows))))
    trainer.train()
    assert trainer.state.log_history[0]["loss"] > 0


@pytest.mark.parametrize("model", ["mvat/manner", {"hidden_size": 6}])
def test_a_model_that_is_no_module_is_named(tmp_path, model):
    message = "MannerModel.from_pretrained loads it" if isinstance(model, str) else "must be a module, got dict"
    with pytest.raises(ValueError, match=message):
        enhancing(tmp_path, model)
    with pytest.raises(ValueError, match="args must be of class EnhancementConfig, got dict"):
        EnhancementTrainer(small_model(), {"max_steps": 3})


def test_plain_runs_are_not_refused(tmp_path):
    plain(tmp_path, max_steps=1, muon_learning_rate=0.01, one_cycle=True).train()
