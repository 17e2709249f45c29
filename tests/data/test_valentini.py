"""The Valentini corpus: splits by speaker, at any rate, from folders as its users have them."""

import os
import warnings

import numpy as np
import pytest
import soundfile

from mvat_hf import load_valentini
from mvat_hf.data.audio import read_mono
from mvat_hf.data.matching import DataError, PartialDataWarning

# only the tests of the warning look at it: all corpora here are partial
pytestmark = pytest.mark.filterwarnings("ignore::mvat_hf.data.matching.PartialDataWarning")
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


def test_a_partial_copy_of_either_training_set_is_told(root):
    for speakers, full in ((28, "5 of 11,572"), (56, "2 of 23,075")):
        with pytest.warns(PartialDataWarning, match=f"not the whole trainset_{speakers}spk_wav: {full} pairs are here"):
            load_valentini(root, "train", speakers=speakers)


def test_missing_folders(root, tmp_path):
    with pytest.raises(DataError, match=r"no such folder: .*clean_trainset_28spk_wav"):
        load_valentini(tmp_path, "train")
    (tmp_path / "clean_testset_wav").symlink_to(root / "clean_testset_wav")
    with pytest.raises(DataError, match=r"no such folder: .*noisy_testset_wav"):
        load_valentini(tmp_path, "test")


def write_testset(folder, **names):
    """Tiny test folders with files of these names by side; all are one file."""
    soundfile.write(folder / "a.wav", np.ones(10), 16000)
    for side, stems in names.items():
        (folder / f"{side}_testset_wav").mkdir()
        for stem in stems:
            os.link(folder / "a.wav", folder / f"{side}_testset_wav" / f"{stem}.wav")


def test_files_without_a_partner_are_left_out_and_named(tmp_path):
    write_testset(tmp_path, clean=["p1_1", "p2_1", "p2_2", "p2_3"], noisy=["p1_1", "p3_1"])
    with pytest.warns(PartialDataWarning) as told:
        dataset = load_valentini(tmp_path, "test")
    assert list(dataset["id"]) == ["p1_1"]
    assert [str(one.message) for one in told] == [
        f"{tmp_path} is not the whole testset_wav: 1 of 824 pairs are here, 823 are missing; "
        "left out for want of a partner: 4 (p2_1, p2_2, p2_3 …)"
    ]
    assert told[0].filename == __file__  # where the user called


def test_the_whole_set_is_used_without_a_word(tmp_path):
    names = [f"p{speaker}_{number:03d}" for speaker in (232, 257) for number in range(412)]
    write_testset(tmp_path, clean=names, noisy=names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_valentini(tmp_path, "test")) == 824
    for side in ("clean", "noisy"):
        os.link(tmp_path / "a.wav", tmp_path / f"{side}_testset_wav" / "p999_001.wav")
    with pytest.warns(PartialDataWarning, match="825 pairs are here, 1 more than it has"):
        load_valentini(tmp_path, "test")


def test_the_count_is_that_of_the_training_set_whatever_is_held_out(root):
    for split in ("train", "validation"):
        with pytest.warns(
            PartialDataWarning, match="trainset_28spk_wav: 5 of 11,572 pairs are here, 11,567 are missing"
        ):
            load_valentini(root, split)


def test_a_broken_file_leaves_the_others(root, tmp_path):
    names = ["p1_1", "p1_2", "p1_3"]
    write_testset(tmp_path, clean=names, noisy=names)
    (tmp_path / "noisy_testset_wav" / "p1_2.wav").unlink()
    (tmp_path / "noisy_testset_wav" / "p1_2.wav").touch()
    dataset = load_valentini(tmp_path, "test", cache_dir=tmp_path / "cache")
    assert len(dataset[0]["clean"]) == len(dataset[2]["noisy"]) == 10
    with pytest.raises(ValueError, match=r"noisy_testset_wav/p1_2\.wav is empty"):
        dataset[1]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_cache_changes_no_sample(split, root, tmp_path):
    plain = load_valentini(root, split)
    for _ in range(2):  # made, then used
        cached = load_valentini(root, split, cache_dir=tmp_path)
        assert list(cached["id"]) == list(plain["id"])
        for one, other in zip(plain, cached, strict=True):
            for side in ("clean", "noisy"):
                np.testing.assert_array_equal(one[side], other[side])
    assert len(list(tmp_path.rglob("*.wav"))) == 2 * len(plain)  # of this split alone


@pytest.mark.parametrize(("split", "speakers"), [("train", ["p226", "p282", "p287"]), ("validation", [])])
def test_a_split_without_files(split, speakers, root):
    with pytest.raises(DataError, match=f"no {split} files with validation speakers {', '.join(speakers)}"):
        load_valentini(root, split, validation_speakers=speakers)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_unknown_speakers_are_named_with_those_there_are(split, root):
    with pytest.raises(DataError, match="has no speaker p999 to validate on, there are: .*p282, p287"):
        load_valentini(root, split, validation_speakers=["p287", "p999"])


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("validation", 6), ("test", 50)])
def test_the_corpus_itself(split, count, shared):
    dataset = load_valentini(shared / "data" / "valentini", split)
    assert len(dataset) == count
    item = dataset[0]
    assert item["id"].startswith({"train": "p226", "validation": "p287", "test": "p232"}[split])
    assert len(item["clean"]) == len(item["noisy"]) > 16000
    assert 0 < np.abs(item["noisy"]).max() <= 1
