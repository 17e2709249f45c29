"""Options that follow one another, and what they cannot be."""

import pytest
from transformers import TrainingArguments

from mvat_hf.training.arguments import DistillationConfig, EnhancementConfig, as_config


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("steps", "steps", True)),
        ({"eval_strategy": "no"}, ("no", "steps", False)),
        ({"save_strategy": "no"}, ("steps", "no", False)),
        ({"save_strategy": "epoch"}, ("epoch", "epoch", True)),
        ({"eval_strategy": "epoch"}, ("epoch", "epoch", True)),
        ({"save_strategy": "epoch", "load_best_model_at_end": False}, ("epoch", "epoch", False)),
    ],
)
def test_what_is_not_given_follows_what_is(tmp_path, given, expected):
    args = EnhancementConfig(str(tmp_path), use_cpu=True, **given)
    assert (args.eval_strategy, args.save_strategy, args.load_best_model_at_end) == expected


def test_what_contradicts_is_still_refused(tmp_path):
    with pytest.raises(ValueError, match="load_best_model_at_end requires the save and eval strategy to match"):
        EnhancementConfig(str(tmp_path), use_cpu=True, eval_strategy="steps", save_strategy="epoch")


def test_columns_stay(tmp_path):
    with pytest.raises(ValueError, match="remove_unused_columns must be false"):
        EnhancementConfig(str(tmp_path), use_cpu=True, remove_unused_columns=True)
    plain = TrainingArguments(str(tmp_path), use_cpu=True)
    assert plain.remove_unused_columns and not as_config(plain, EnhancementConfig).remove_unused_columns


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_weights": "{snr: 1}"}, "loss_weights must be JSON, with names in double quotes, got {snr: 1}"),
        ({"method_kwargs": "{p: 1}"}, "method_kwargs must be JSON"),
        ({"beta": "much"}, "beta must be a number, got 'much'"),
        ({"enhancement_weight": -1}, "enhancement_weight must be at least 0, got -1"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        DistillationConfig(str(tmp_path), use_cpu=True, **options)


def test_a_weight_may_be_a_string(tmp_path):
    assert DistillationConfig(str(tmp_path), use_cpu=True, beta="0.1").beta == 0.1
