"""A MANNER teaches by the distance that its method says, from the cache too, and without weight not at all."""

import pytest
import torch

from training_runs import distilling, plain, same_weights, small_model


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
    runs += [distilling(tmp_path, "mvat", 1.0, teacher_cache=str(tmp_path / "cache")) for _ in range(2)]
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
        trainer = distilling(
            tmp_path, "mvat", 1.0, teacher, teacher_cache=cached, student=small_model(attention_levels=levels)
        )
        batch = next(iter(trainer.get_train_dataloader()))
        whole.append(trainer.cache(batch["input_values"], trainer.teach)["view_features"].keys())
    assert whole[0] < whole[1]


def test_no_shared_level_is_an_error_before_training(tmp_path):
    with pytest.raises(ValueError, match="share no level"):
        distilling(tmp_path, "mvat", 1.0, small_model(1, depth=3, attention_levels=[2]))
