"""Any module can teach, and one that cannot is refused before training."""

import pytest
import torch
from datasets import Dataset
from torch import nn

from distilling_runs import ITEMS, Filtering, Scaled, distilling
from mvat_hf.distillation import build_method
from mvat_hf.training.run import training_record
from mvat_hf.utils.records import weights_hash
from training_runs import pairs, small_model


@pytest.mark.parametrize(
    "method",
    ["output", Scaled(), build_method("at", modules={"encoder.0": "inner", "encoder.1": "inner"})],
)
def test_any_module_can_teach(method, tmp_path):
    teacher = Filtering()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    trainer = distilling(tmp_path, method, teacher=teacher, teacher_cache=str(tmp_path / "cache"))
    trainer.train()
    assert all(entry["distillation"] > 0 for entry in trainer.state.log_history if "loss" in entry)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("method", "teacher", "message"),
    [
        ("mvat", Filtering(), 'reads "view_features", which Filtering does not give'),
        ("output", None, "needs a teacher, got none"),
        (build_method("at", modules={"encoder.0": "layers"}), Filtering(), 'Filtering has no module "layers".*inner'),
        (build_method("at", modules={"inner": "inner"}), Filtering(), 'MannerModel has no module "inner"'),
    ],
)
def test_what_cannot_be_read_is_an_error_before_training(method, teacher, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        distilling(tmp_path, method, teacher=teacher)


def test_a_teacher_whose_audio_is_of_another_length_is_refused(tmp_path):
    class Short(Filtering):
        def forward(self, audio):
            return super().forward(audio)[:, 1:]

    with pytest.raises(ValueError, match=r"must have the shape of the student's \(2, 1600\), got \(2, 1599\)"):
        distilling(tmp_path, "output", teacher=Short()).train()


def test_a_teacher_of_another_kind_is_in_the_record_and_the_card(tmp_path):
    teacher = Filtering()
    trainer = distilling(tmp_path, "output", teacher=teacher, max_steps=1, loss_weights={"snr": 0.5})
    trainer.train()
    trainer.eval_dataset = ITEMS
    trainer.train_dataset = Dataset.from_list(ITEMS)
    record = training_record(trainer, {}, {})
    assert record["teacher"]["parameters"] == sum(value.numel() for value in teacher.parameters())
    assert record["teacher"]["weights_sha256"] == weights_hash(teacher)
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert "teacher: a Filtering without a name" in card and "snr 0.5 in the loss" in card


class Adapted(nn.Module):
    """As PEFT wraps a model: its forward takes anything, what it does not have is the model's."""

    def __init__(self, model):
        super().__init__()
        self.base_model = model

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_model"), name)

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)

    def get_base_model(self):
        return self.base_model


def compiled(model):
    return torch.compile(model, backend="eager")


WITH_VIEWS = {"hidden_size": 8, "depth": 3, "attention_levels": "all"}
BY_MODULES = {"at": {"modules": {"encoder.0": "encoder.0"}}, "mvat": {}}


@pytest.mark.parametrize("method", ["mvat", "at"])
@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel, Adapted])
def test_a_wrapped_teacher_teaches_as_it_does_alone(wrap, method, tmp_path):
    losses = []
    for teacher in (small_model(1, **WITH_VIEWS), wrap(small_model(1, **WITH_VIEWS))):
        given = build_method(method, **BY_MODULES[method])
        trainer = distilling(tmp_path, given, teacher=teacher, max_steps=1)
        trainer.train()
        losses.append(trainer.state.log_history[0]["distillation"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("wrap", [compiled, Adapted])
def test_a_wrapped_student_learns_and_is_validated(wrap, tmp_path):
    student = wrap(small_model())
    trainer = distilling(tmp_path, "mvat", student=student, max_steps=1)
    before = trainer.network.input.weight.clone()
    trainer.train()
    assert trainer.state.log_history[0]["distillation"] > 0
    assert not torch.equal(trainer.network.input.weight, before)
    assert trainer.evaluate(pairs(1, 1.5))["eval_loss"] > 0


def test_what_is_no_module_cannot_teach(tmp_path):
    with pytest.raises(ValueError, match="got an object of class dict; of an exported model, give the checkpoint"):
        distilling(tmp_path, "output", teacher={})


class Silent(nn.Module):
    """A teacher without parameters, with a module to read."""

    def __init__(self):
        super().__init__()
        self.inner = nn.AvgPool1d(4)

    def forward(self, audio):
        self.inner(audio[:, None])
        return audio


def test_a_teacher_without_parameters_has_latents(tmp_path):
    method = build_method("latent-augmentation", modules={"encoder.0": "inner"})
    trainer = distilling(tmp_path, method, teacher=Silent(), max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["latent"] > 0
