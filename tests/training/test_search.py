"""A search for hyperparameters goes by the metric of the best model; each of its trials begins anew."""

from types import SimpleNamespace

import pytest
import torch
from transformers import trainer as transformers_trainer
from transformers.trainer_utils import HPSearchBackend

from distilling_runs import ITEMS, Scaled
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.training.arguments import DistillationConfig
from mvat_hf.training.distillation_trainer import DistillationTrainer
from mvat_hf.training.search import objective
from mvat_hf.training.trainer import EnhancementTrainer
from training_runs import arguments, same_weights, small_model


class Trials:
    """In the place of optuna: the trials that a test names, one after the other."""

    default_hp_space = None
    seen: list

    def ensure_available(self):
        pass

    def run(self, trainer, n_trials, direction, **kwargs):
        for number in range(n_trials):
            trainer.train(trial=SimpleNamespace(number=number, params={}))
            self.seen.append((direction, trainer.method, trainer.state.log_history[0]))


@pytest.fixture
def trials(monkeypatch):
    monkeypatch.setitem(transformers_trainer.ALL_HYPERPARAMETER_SEARCH_BACKENDS, HPSearchBackend.OPTUNA, Trials)
    monkeypatch.setattr("transformers.integrations.hp_params", lambda trial: trial.params)
    Trials.seen = []
    return Trials.seen


def distilling(folder, given=None, **options) -> DistillationTrainer:
    return DistillationTrainer(
        model_init=lambda: small_model(),
        teacher=small_model(1, hidden_size=8, depth=3, attention_levels="all"),
        method=given,
        args=arguments(folder, DistillationConfig, max_steps=1, **options),
        data_collator=SegmentCollator(0.1),
        train_dataset=ITEMS,
    )


def search(trainer, *spaces):
    trainer.hyperparameter_search(lambda trial: spaces[trial.number], n_trials=len(spaces), backend="optuna")


def test_trials_set_weights_and_method(trials, tmp_path):
    search(distilling(tmp_path), {"beta": 0.5}, {"beta": 0.0}, {"beta": 2.0, "method": "at", "method_kwargs": {"p": 1}})
    (_, first, one), (_, none, two), (_, third, three) = trials
    assert one["loss"] == pytest.approx(one["enhancement"] + 0.5 * one["distillation"], rel=1e-4)
    assert none is None and "distillation" not in two
    assert type(first).__name__ == "MultiViewAttentionTransfer" and type(third).__name__ == "AttentionTransfer"
    assert third.p == 1
    assert three["loss"] == pytest.approx(three["enhancement"] + 2 * three["distillation"], rel=1e-4)


def test_a_trial_cannot_change_a_method_that_was_given_nor_the_teacher(trials, tmp_path):
    with pytest.raises(ValueError, match="a trial set method, expected the teacher to stay, and a method"):
        search(distilling(tmp_path, Scaled()), {"method": "at"})
    with pytest.raises(ValueError, match="a trial set teacher_model_name_or_path, expected"):
        search(distilling(tmp_path), {"teacher_model_name_or_path": "another"})
    with pytest.raises(ValueError, match="loss_weights has no term sna"):
        search(distilling(tmp_path), {"loss_weights": {"sna": 1}})


@pytest.mark.parametrize("method", [Scaled, None])
def test_where_the_model_is_made_anew_the_method_has_learnt_nothing(method, tmp_path):
    named = {} if method else {"method": "latent-augmentation"}
    trainer = distilling(tmp_path, method and method(), **named)
    models, methods, losses = [], [], []
    for _ in range(2):
        trainer.train()
        models.append(trainer.model), methods.append(trainer.method)
        losses.append(trainer.state.log_history[0]["loss"])
    assert methods[0] is not methods[1] and methods[0].state_dict()
    assert losses[0] == losses[1] and same_weights(*models) and same_weights(*methods)
    if method:
        assert not torch.equal(methods[0].scale.detach(), torch.tensor(0.5))


METRICS = {"eval_pesq": 2.0, "eval_loss": 7.0, "eval_stoi": 0.5, "eval_unscorable": 3.0}


@pytest.mark.parametrize(
    ("metric", "own", "given", "objective", "direction"),
    [
        ("pesq", None, None, 2.0, "maximize"),
        ("eval_loss", None, None, 7.0, "minimize"),
        ("stoi", None, "minimize", 0.5, "minimize"),
        ("pesq", lambda metrics: metrics["eval_loss"], None, 7.0, "minimize"),
    ],
)
def test_the_search_goes_by_the_metric_of_the_best_model(
    metric, own, given, objective, direction, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(Trials, "run", lambda self, trainer, trials, direction, **_: seen.append(direction))
    monkeypatch.setitem(transformers_trainer.ALL_HYPERPARAMETER_SEARCH_BACKENDS, HPSearchBackend.OPTUNA, Trials)
    args = arguments(tmp_path, metric_for_best_model=metric)
    trainer = EnhancementTrainer(model_init=lambda: small_model(), args=args, train_dataset=ITEMS)
    trainer.hyperparameter_search(lambda trial: {}, own, backend="optuna", direction=given)
    assert seen == [direction] and trainer.compute_objective(METRICS) == objective


def test_a_metric_that_was_not_measured_is_named(tmp_path):
    of, _ = objective(arguments(tmp_path, metric_for_best_model="held_out_pesq"))
    with pytest.raises(ValueError, match="no eval_held_out_pesq in the validation, got eval_pesq, eval_loss"):
        of(METRICS)
