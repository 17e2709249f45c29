"""Data in a form that cannot be used is told when the trainer is made, and what will do is taken."""

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, DatasetDict
from torch.utils.data import TensorDataset

from distilling_runs import ITEMS
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.data.matching import DataError
from mvat_hf.data.pairs import load_pairs
from mvat_hf.training.trainer import EnhancementTrainer
from training_runs import arguments, pairs, plain, small_model


def trainer_of(folder, **data) -> EnhancementTrainer:
    return EnhancementTrainer(small_model(), arguments(folder, max_steps=1), SegmentCollator(0.1), **data)


SPLITS = DatasetDict(train=pairs(2), test=pairs(2))
NO_NOISY = [{"clean": np.ones(4)}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train_dataset": "pairs/train"}, 'train_dataset must be a data set, got the string "pairs/train"'),
        ({"train_dataset": SPLITS}, "train_dataset must be a data set, got a mapping of train, test: choose one"),
        ({"eval_dataset": "pairs/test"}, 'eval_dataset must be a data set, got the string "pairs/test"'),
        ({"eval_dataset": {}}, "eval_dataset must be a data set, got a mapping of none"),
        ({"eval_dataset": {"a": None}}, "eval_dataset has no data set a, got None"),
        ({"eval_dataset": NO_NOISY}, "eval_dataset has no noisy, expected items of clean and noisy, got clean"),
        ({"eval_dataset": {"a": NO_NOISY}}, "eval_dataset has no noisy"),
        ({"eval_dataset": Dataset.from_list([{"audio": 1}])}, "eval_dataset has no clean and no noisy, .* got audio"),
        ({"eval_dataset": (item for item in ITEMS)}, "a data set with a length to validate on, got generator"),
        ({"eval_dataset": pairs(2).to_iterable_dataset()}, "a length to validate on, got IterableDataset"),
    ],
)
def test_data_of_another_form_is_refused_at_once(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, **data)


def test_what_evaluate_and_predict_are_asked_for_must_be_there(tmp_path):
    trainer = trainer_of(tmp_path, eval_dataset={"one": pairs(1, 1.5)})
    for asked, message in (("nope", 'no data set "nope" to validate on, expected of one'), ({}, "a mapping of none")):
        with pytest.raises(ValueError, match=message):
            trainer.evaluate(asked)
    with pytest.raises(ValueError, match="test_dataset must be a data set, got a mapping of train, test: choose one"):
        trainer.predict(SPLITS)
    assert trainer.evaluate("one")["eval_one_loss"] > 0


def test_items_without_names_are_refused(tmp_path):
    with pytest.raises(DataError, match="an item is of class tuple, expected a mapping with clean and noisy"):
        trainer_of(tmp_path, train_dataset=TensorDataset(torch.zeros(4, 4000), torch.zeros(4, 4000))).train()


def recordings(folder):
    """Two pairs on disk, and the data set of them."""
    for side in ("clean", "noisy"):
        (folder / side).mkdir()
        for number, item in enumerate(pairs(2, 1.5)):
            soundfile.write(folder / side / f"{number}.wav", item[side] / 10, 16000)
    return load_pairs(folder / "clean", folder / "noisy")


@pytest.mark.parametrize("form", ["numpy", "transform", None])
def test_audio_that_another_format_leaves_encoded_is_decoded(tmp_path, form):
    rows = recordings(tmp_path)
    if form == "transform":
        rows = rows.with_transform(lambda batch: batch)
    elif form:
        rows = rows.with_format(form)
    trainer = trainer_of(tmp_path, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] > 0 and trainer.evaluate()["eval_loss"] > 0


def test_paths_as_strings_are_told_from_audio(tmp_path):
    recordings(tmp_path)
    paths = {side: [str(tmp_path / side / "0.wav")] for side in ("clean", "noisy")}
    rows = Dataset.from_dict(paths)
    with pytest.raises(DataError, match=r'clean is a string, .*dataset.cast_column\("clean", Audio\(\)\)'):
        trainer_of(tmp_path, train_dataset=rows).train()
    for side in paths:
        rows = rows.cast_column(side, Audio())
    trainer_of(tmp_path, train_dataset=rows).train()


def test_own_metrics_are_a_mapping(tmp_path):
    trainer = plain(tmp_path)
    trainer.compute_metrics = lambda found: None
    with pytest.raises(ValueError, match="compute_metrics gave None, expected a mapping of names to numbers"):
        trainer.evaluate()
