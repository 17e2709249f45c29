"""The trainer's side of the seam: parameters of a method, stages, and resuming to the bit."""

from dataclasses import dataclass, field

import pytest
import torch
import yaml
from accelerate import debug_launcher
from accelerate.state import AcceleratorState

from conftest import REPOSITORY
from distilling_runs import ITEMS, Filtering, Scaled, distilling, pairs
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.distillation import METHODS, Stage, build_method, register
from mvat_hf.models.manner import MannerModel
from mvat_hf.training.arguments import DistillationConfig, EnhancementConfig
from mvat_hf.training.distillation_trainer import METHOD_FILE, DistillationTrainer
from mvat_hf.training.trainer import EnhancementTrainer
from training_runs import StopAt, arguments, same_weights, small_model

NAMES = [name for name in METHODS if name != "none"]
RECIPES = sorted((REPOSITORY / "scripts/recipes/methods").glob("*.yaml"))


class InTwoStages(Scaled):
    """Its terms alone in the first half, then none."""

    def stage(self, progress):
        return Stage(0, 1) if progress < 0.5 else Stage(1, 0)


def test_a_method_is_one_class_with_its_name():
    register("scaled")(Scaled)
    try:
        assert build_method("scaled", start=2.0).scale == 2
        with pytest.raises(ValueError, match='"scaled" has no option q, expected start'):
            build_method("scaled", q=1)
        with pytest.raises(ValueError, match='the name "scaled" belongs to another'):
            register("scaled")(InTwoStages)
    finally:
        del METHODS["scaled"]


class Keen(Scaled):
    """One option that must be given, and any others."""

    def __init__(self, need, **others):
        super().__init__()
        self.need, self.others = need, others


class Bare(Scaled.__base__):
    """No constructor of its own."""


def test_the_options_of_a_method_are_those_of_its_constructor():
    register("keen")(Keen)
    register("bare")(Bare)
    try:
        built = build_method("keen", need=1, more=2)
        assert (built.need, built.others, built.built_with) == (1, {"more": 2}, {"need": 1, "more": 2})
        with pytest.raises(ValueError, match='"keen" needs the option need, got none'):
            build_method("keen")
        with pytest.raises(ValueError, match='"bare" has no option q, expected none'):
            build_method("bare", q=1)
        assert isinstance(build_method("bare"), Bare)
    finally:
        del METHODS["keen"], METHODS["bare"]


def test_parameters_of_a_method_learn_and_their_gradients_do_not_pile_up(tmp_path):
    method = Scaled()
    trainer = distilling(tmp_path, method, max_steps=1, optim="sgd", learning_rate=0.1, max_grad_norm=0)
    trainer.train()
    first = trainer.state.log_history[0]
    assert method.scale != 0.5 and (method.scale.grad is None or method.scale.grad == 0)
    assert first["loss"] == pytest.approx(first["enhancement"] + first["scaled"], rel=1e-4)


@pytest.fixture(scope="module", params=[Scaled, InTwoStages, "two-step", "latent-augmentation", "peers"])
def uninterrupted(request, tmp_path_factory):
    """What makes a method, and a run with it that was never stopped."""

    def method():
        return build_method(request.param) if isinstance(request.param, str) else request.param()

    whole = distilling(tmp_path_factory.mktemp("whole"), method(), max_steps=6)
    whole.train()
    return method, whole


@pytest.mark.parametrize("step", [2, 4])  # the second lies in the second stage
def test_a_killed_run_resumes_to_the_bit_with_its_method(uninterrupted, step, tmp_path):
    method, whole = uninterrupted
    options = {"save_strategy": "steps", "save_steps": step, "max_steps": 6}
    with pytest.raises(KeyboardInterrupt):
        distilling(tmp_path, method(), callbacks=[StopAt(step)], **options).train()
    saved = tmp_path / f"checkpoint-{step}" / METHOD_FILE
    assert saved.is_file() == bool(whole.method.state_dict())
    resumed = distilling(tmp_path, method(), **options)
    resumed.train(resume_from_checkpoint=True)
    assert same_weights(whole.model, resumed.model) and same_weights(whole.method, resumed.method)
    logged = [[entry.get("loss") for entry in trainer.state.log_history[:6]] for trainer in (whole, resumed)]
    assert len(logged[0]) == 6 and logged[0] == logged[1]


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> MannerModel:
    """The student trained as all here are, by nobody's method."""
    args = arguments(tmp_path_factory.mktemp("baseline"), max_steps=3)
    trainer = EnhancementTrainer(small_model(), args, data_collator=SegmentCollator(0.1), train_dataset=ITEMS)
    trainer.train()
    return trainer.model


@pytest.mark.parametrize("name", NAMES)
def test_a_method_changes_the_student_trains_its_own_and_not_the_teacher(name, baseline, tmp_path):
    teacher = small_model(1, hidden_size=9, depth=3, attention_levels="all")
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    trainer = distilling(tmp_path, name, teacher=teacher)
    own = {key: value.clone() for key, value in trainer.method.named_parameters()}
    trainer.train()
    assert not same_weights(baseline, trainer.model)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    still = [key for key, value in trainer.method.named_parameters() if torch.equal(value, own[key])]
    assert not still, f"not trained: {still}"
    assert trainer.state.log_history[0]["distillation"] > 0


def test_parameters_of_a_method_train_with_muon_and_one_cycle(tmp_path):
    trainer = distilling(tmp_path, "latent-augmentation", muon_learning_rate=1e-2, one_cycle=True)
    own = {key: value.clone() for key, value in trainer.method.named_parameters()}
    trainer.train()
    assert own and not any(torch.equal(value, own[key]) for key, value in trainer.method.named_parameters())


@pytest.mark.parametrize("scheduled", [False, True])
def test_parameters_of_a_method_train_with_an_optimizer_of_ones_own(scheduled, tmp_path):
    student = small_model()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0) if scheduled else None
    given = (optimizer, scheduler)
    trainer = distilling(tmp_path, "latent-augmentation", student=student, max_steps=2, optimizers=given)
    own = {key: value.clone() for key, value in trainer.method.named_parameters()}
    for _ in range(2):  # the second time they are there
        trainer.train()
    assert own and not any(torch.equal(value, own[key]) for key, value in trainer.method.named_parameters())
    held = [id(one) for group in optimizer.param_groups for one in group["params"]]
    assert len(held) == len(set(held)) == len([*student.parameters(), *own])


def test_stages_weigh_the_loss(tmp_path):
    trainer = distilling(tmp_path, InTwoStages(), max_steps=4)
    trainer.train()
    early, late = trainer.state.log_history[0], trainer.state.log_history[3]
    assert early["loss"] == pytest.approx(early["scaled"], rel=1e-4)
    assert late["loss"] == pytest.approx(late["enhancement"], rel=1e-4) and "scaled" not in late


def test_the_weight_of_the_enhancement_loss(tmp_path):
    trainer = distilling(tmp_path, "output", 2.0, enhancement_weight=0.25, max_steps=1)
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["loss"] == pytest.approx(0.25 * entry["enhancement"] + 2 * entry["output"], rel=1e-4)


@pytest.mark.parametrize("method", [*NAMES, Scaled()])
def test_a_weight_of_zero_is_plain_training_to_the_bit(method, baseline, tmp_path):
    teacher, before = (small_model(1, hidden_size=8, depth=3, attention_levels="all") for _ in range(2))
    student = distilling(tmp_path, method, 0.0, teacher=teacher)
    student.train()
    assert same_weights(student.model, baseline) and same_weights(teacher, before)


@dataclass
class OtherArguments(EnhancementConfig):
    """Arguments of another class that say what is transferred."""

    method: str = "mvat"
    method_kwargs: dict = field(default_factory=dict)
    beta: float = 0.3


def test_arguments_of_another_class_are_taken_over(tmp_path):
    options = {"use_cpu": True, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    args = OtherArguments(str(tmp_path), method="at", method_kwargs={"p": 1}, **options)
    data = {"args": args, "data_collator": SegmentCollator(0.1), "train_dataset": ITEMS}
    trainer = DistillationTrainer(small_model(), teacher=small_model(1), **data)
    assert isinstance(trainer.method, METHODS["at"]) and trainer.method.p == 1
    assert isinstance(trainer.args, DistillationConfig) and trainer.args.beta == 0.3


def test_a_method_that_is_given_goes_before_that_of_the_arguments(tmp_path):
    assert isinstance(distilling(tmp_path, Scaled()).method, Scaled)
    assert distilling(tmp_path, "none", teacher=None).method is None


def three_steps(folder, batch_size: int) -> None:
    """Steps of a method with a parameter, with batch norms that keep their statistics; losses and weights to a file."""
    AcceleratorState._reset_state(reset_partial_state=True)  # what was forked knows of one process
    method = Scaled()
    trainer = distilling(
        folder, method, per_device_train_batch_size=batch_size, optim="sgd", learning_rate=0.05, frozen_statistics=True
    )
    trainer.train_dataset = pairs(6, samples=1600)  # as long as a crop
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    saved = {"processes": trainer.args.world_size, "losses": losses, "scale": method.scale.detach()}
    torch.save(saved, folder / f"{trainer.args.process_index}.pt")


def test_two_processes_train_a_method_as_one_with_twice_the_batch(tmp_path):
    for folder, processes in (("two", 2), ("one", 1)):
        (tmp_path / folder).mkdir()
        debug_launcher(three_steps, (tmp_path / folder, 2 // processes), num_processes=processes)
    one, *two = (torch.load(tmp_path / name) for name in ("one/0.pt", "two/0.pt", "two/1.pt"))
    assert two[0]["processes"] == 2 and one["scale"] != 0.5
    assert two[0]["scale"] == two[1]["scale"] == pytest.approx(float(one["scale"]), rel=1e-5)
    assert two[0]["losses"] == pytest.approx(one["losses"], rel=1e-5)


def test_a_checkpoint_without_what_the_method_learnt_is_refused(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    distilling(tmp_path, "output", **options).train()
    with pytest.raises(ValueError, match=f"holds no {METHOD_FILE}"):
        distilling(tmp_path, Scaled(), **{**options, "max_steps": 4}).train(resume_from_checkpoint=True)


def test_what_the_trainer_was_given_is_in_the_card(tmp_path):
    options = {"use_cpu": True, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    args = DistillationConfig(str(tmp_path), method="at", method_kwargs={"p": 1}, enhancement_weight=0.5, **options)
    data = {"train_dataset": ITEMS, "eval_dataset": {"one": ITEMS[:1], "two": ITEMS[:2]}}
    trainer = DistillationTrainer(small_model(), teacher=small_model(1), args=args, **data)
    facts = trainer.run_facts()
    assert facts["method"] == "AttentionTransfer, beta 0.1, {'p': 1}" and facts["files to validate"] == 3
    assert "enhancement_weight 0.5" in facts["hyperparameters"]
    args.method_kwargs = {}
    for options, told in (({}, ""), ({"p": 3}, ", {'p': 3}")):
        method = build_method("mvat", **options)
        built = DistillationTrainer(small_model(), teacher=small_model(1), method=method, args=args, **data)
        assert built.run_facts()["method"] == f"MultiViewAttentionTransfer, beta 0.1{told}"


def test_peers_compute_in_the_precision_of_the_student(tmp_path):
    trainer = distilling(tmp_path, "peers", bf16=True, max_steps=1)
    seen = []
    for model in (trainer.model, *trainer.method.peers):
        model.input.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trainer.train()
    assert seen == [torch.bfloat16] * (1 + len(trainer.method.targets))
    assert all(parameter.dtype == torch.float32 for parameter in trainer.method.parameters())


@pytest.mark.parametrize(("method", "filtered"), [("output", 3), ("peers", 7)])
def test_what_losses_compare_with_is_filtered_once(method, filtered, tmp_path, monkeypatch):
    """By every network its input; the labels and the input once for the student, and once for all peers."""
    plain = MannerModel.high_passed
    calls = []
    monkeypatch.setattr(MannerModel, "high_passed", lambda self, audio: calls.append(1) or plain(self, audio))
    teacher = Filtering() if method == "output" else None
    distilling(tmp_path, method, teacher=teacher, max_steps=1, loss_weights={"snr": 0.1, "compressed": 1}).train()
    assert len(calls) == filtered


def test_no_method_is_without_a_recipe():
    assert {yaml.safe_load(path.read_text())["method"] for path in RECIPES} == set(METHODS)
