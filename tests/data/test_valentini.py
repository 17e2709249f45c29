"""The Valentini corpus: splits by speaker, at any rate, from folders as its users have them."""

import numpy as np
import pytest
import soundfile

from mvat_hf import load_valentini
from mvat_hf.data.audio import read_mono
from mvat_hf.data.pairs import DataError

TRAIN = {28: ["p226_001", "p226_002", "p282_001", "p287_001", "p287_002"], 56: ["p300_001", "p287_003"]}
TEST = ["p232_001", "p257_001"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The corpus in miniature: 48 kHz wav, flac for the tests."""
    folder = tmp_path_factory.mktemp("valentini")
    parts = {f"trainset_{count}spk_wav": (names, "wav") for count, names in TRAIN.items()}
    parts["testset_wav"] = (TEST, "flac")
    rng = np.random.default_rng(0)
    for part, (names, suffix) in parts.items():
        for side in ("clean", "noisy"):
            (folder / f"{side}_{part}").mkdir()
            for name in names:
                soundfile.write(folder / f"{side}_{part}" / f"{name}.{suffix}", 0.1 * rng.standard_normal(4803), 48000)
    return folder


def test_splits_by_speaker(root):
    ids = {split: load_valentini(root, split)["id"] for split in ("train", "validation", "test")}
    assert list(ids["train"]) == ["p226_001", "p226_002"]
    assert list(ids["validation"]) == ["p282_001", "p287_001", "p287_002"]
    assert list(ids["test"]) == TEST


def test_other_validation_speakers(root):
    options = {"validation_speakers": ["p226"]}
    assert list(load_valentini(root, "validation", **options)["id"]) == ["p226_001", "p226_002"]
    assert list(load_valentini(root, "train", **options)["id"]) == ["p282_001", "p287_001", "p287_002"]


def test_the_set_of_56_speakers(root):
    assert list(load_valentini(root, "train", speakers=56)["id"]) == ["p300_001"]
    assert list(load_valentini(root, "validation", speakers=56)["id"]) == ["p287_003"]
    with pytest.raises(DataError, match="28 and 56 speakers, got 30"):
        load_valentini(root, "train", speakers=30)


@pytest.mark.parametrize(
    ("split", "part", "name"),
    [("train", "trainset_28spk_wav", "p226_001.wav"), ("test", "testset_wav", "p232_001.flac")],
)
def test_items_are_the_files_at_16_khz(split, part, name, root):
    item = load_valentini(str(root), split)[0]
    for side in ("clean", "noisy"):
        assert len(item[side]) == 1601
        np.testing.assert_array_equal(item[side], read_mono(root / f"{side}_{part}" / name, 16000))
    assert len(load_valentini(root, split, sampling_rate=48000)[0]["clean"]) == 4803


def test_unknown_split(root):
    with pytest.raises(DataError, match='unknown split "dev".*train, validation, test'):
        load_valentini(root, "dev")


def test_missing_folders(root, tmp_path):
    with pytest.raises(DataError, match=r"no such folder: .*clean_trainset_28spk_wav"):
        load_valentini(tmp_path, "train")
    (tmp_path / "clean_testset_wav").symlink_to(root / "clean_testset_wav")
    with pytest.raises(DataError, match=r"no such folder: .*noisy_testset_wav"):
        load_valentini(tmp_path, "test")


def test_a_file_without_its_partner(tmp_path):
    for side, names in (("clean", ["p1_1", "p2_1"]), ("noisy", ["p1_1"])):
        (tmp_path / f"{side}_testset_wav").mkdir()
        for name in names:
            soundfile.write(tmp_path / f"{side}_testset_wav" / f"{name}.wav", np.ones(10), 16000)
    with pytest.raises(DataError, match=r"no partner.*p2_1"):
        load_valentini(tmp_path, "test")


@pytest.mark.parametrize(
    ("split", "speakers"), [("validation", ["p999"]), ("train", ["p226", "p282", "p287"]), ("validation", [])]
)
def test_a_split_without_files(split, speakers, root):
    with pytest.raises(DataError, match=f"no {split} files with validation speakers {', '.join(speakers)}"):
        load_valentini(root, split, validation_speakers=speakers)


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("validation", 6), ("test", 50)])
def test_the_corpus_itself(split, count, shared):
    dataset = load_valentini(shared / "data" / "valentini", split)
    assert len(dataset) == count
    item = dataset[0]
    assert item["id"].startswith({"train": "p226", "validation": "p287", "test": "p232"}[split])
    assert len(item["clean"]) == len(item["noisy"]) > 16000
    assert 0 < np.abs(item["noisy"]).max() <= 1
