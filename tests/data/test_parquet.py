"""The Hub's form of a corpus, from a folder of parquet files as `hf download` leaves it."""

import io

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset

from mvat_hf import load_valentini
from mvat_hf.data.audio import AudioError
from mvat_hf.data.formatting import describe
from mvat_hf.data.matching import DataError, PartialDataWarning
from mvat_hf.data.segments import hop_segments

pytestmark = pytest.mark.filterwarnings("ignore::mvat_hf.data.matching.PartialDataWarning")
TRAIN = ["p226_001", "p282_001", "p226_002", "p287_001"]


def samples(name, side, length=2000):
    return 0.1 * np.random.default_rng(list(f"{name} {side}".encode())).standard_normal(length)


def encoded(name, side, rate=16000):
    file = io.BytesIO()
    soundfile.write(file, samples(name, side), rate, format="FLAC")
    return {"bytes": file.getvalue(), "path": f"{name}.flac"}


def write_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = Dataset.from_list(rows)
    for side in {"clean", "noisy"} & set(dataset.column_names):
        dataset = dataset.cast_column(side, Audio(sampling_rate=16000, decode=False))
    dataset.to_parquet(path)


def rows(names, **options):
    return [{"id": name, **{side: encoded(name, side, **options) for side in ("clean", "noisy")}} for name in names]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def root(tmp_path):
    """Two files of training pairs, one of test pairs."""
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", rows(TRAIN[:2]))
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", rows(TRAIN[2:]))
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", rows(["p232_001"]))
    return tmp_path


def test_splits_by_speaker(root):
    ids = {split: list(load_valentini(root, split)["id"]) for split in ("train", "validation", "test")}
    assert ids == {"train": ["p226_001", "p226_002"], "validation": ["p282_001", "p287_001"], "test": ["p232_001"]}
    assert list(load_valentini(root / "data", "test")["id"]) == ids["test"]
    assert list(load_valentini(root, "train", validation_speakers=["p226"])["id"]) == ["p282_001", "p287_001"]


def test_items_are_the_recordings(root):
    for item in load_valentini(root, "train"):
        assert set(item) == {"id", "clean", "noisy"}
        for side in ("clean", "noisy"):
            assert item[side].dtype == np.float32
            np.testing.assert_allclose(item[side], samples(item["id"], side), atol=2**-15)
    assert len(load_valentini(root, "test", sampling_rate=8000)[0]["clean"]) == 1000


def test_segments_of_them(root):
    segments = hop_segments(load_valentini(root, "train"), 0.05, 0.05)
    assert list(segments["id"]) == [f"{name}@{start}" for name in ("p226_001", "p226_002") for start in (0, 800, 1600)]
    np.testing.assert_allclose(segments[4]["noisy"], samples("p226_002", "noisy")[800:1600], atol=2**-15)
    described = describe(segments)
    assert described["pairs"]["files"] == 2 and described["pairs"]["hours"] == pytest.approx(0.25 / 3600)


def test_what_is_missing_is_told(root):
    with pytest.warns(PartialDataWarning, match="4 of 11,572 pairs are here, 11,568 are missing"):
        load_valentini(root, "validation")
    with pytest.raises(DataError, match="training set of 28 speakers, got speakers=56"):
        load_valentini(root, "train", speakers=56)
    with pytest.raises(DataError, match="cache_dir keeps copies of wav and flac files"):
        load_valentini(root, "train", cache_dir=root / "cache")


def test_a_broken_recording_is_found_on_access(root):
    broken = rows(["p232_001", "p232_002", "p232_003"])
    broken[1]["noisy"]["bytes"] = b""
    write_parquet(root / "data" / "test-00000-of-00001.parquet", broken)
    dataset = load_valentini(root, "test")
    assert len(dataset[0]["noisy"]) == len(dataset[2]["noisy"]) == 2000
    with pytest.raises(ValueError, match="noisy p232_002 is empty"):
        dataset[1]


def test_files_that_hold_something_else(root):
    write_parquet(root / "data" / "test-00000-of-00001.parquet", [{"id": "p232_001", "clean": encoded("a", "clean")}])
    with pytest.raises(DataError, match="no column noisy: expected id, clean, noisy"):
        load_valentini(root, "test")
    (root / "data" / "test-00000-of-00001.parquet").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(DataError, match="parquet files of .*data cannot be read"):
        load_valentini(root, "test")


@pytest.mark.parametrize("missing", [None, {"bytes": None, "path": None}])
def test_a_recording_that_is_not_there_is_found_on_access(missing, root):
    broken = rows(["p232_001", "p232_002"])
    broken[1]["noisy"] = missing
    write_parquet(root / "data" / "test-00000-of-00001.parquet", broken)
    dataset = load_valentini(root, "test")
    assert len(dataset[0]["noisy"]) == 2000
    with pytest.raises(AudioError, match="^noisy p232_002 has neither bytes nor a path, expected an audio file$"):
        dataset[1]


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("noisy", [1, 2], "column noisy of .* is Value.*int64.*, expected encoded audio"),
        ("clean", [0.5, 0.25], "column clean of .*, expected encoded audio"),
        ("id", [["a"], ["b"]], "column id of .*, expected names"),
        ("id", ["p232_001", None], "1 rows of .* have no id, expected one each"),
    ],
)
def test_columns_of_another_kind(column, values, says, root):
    content = rows(["p232_001", "p232_002"])
    for row, value in zip(content, values, strict=True):
        row[column] = value
    Dataset.from_list(content).to_parquet(root / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match=says) as error:
        load_valentini(root, "test")
    assert "\n" not in str(error.value)


def test_a_hub_id_without_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        DataError, match="^no such folder: nobody/nothing, and no such data set can be had from"
    ) as error:
        load_valentini("nobody/nothing", "test")
    assert "\n" not in str(error.value)
    for path in ("nowhere", "/nobody/nothing", "./nobody/nothing", "nobody/nothing/more"):
        with pytest.raises(DataError, match=f"^no such folder: {path.removeprefix('./')}/clean_testset_wav"):
            load_valentini(path, "test")
