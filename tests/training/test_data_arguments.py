"""Options of data name the training and validation sets of every corpus, and refuse what a corpus cannot have."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import REPOSITORY
from mvat_hf.data.matching import DataError
from mvat_hf.data.pairs import load_pairs
from mvat_hf.training.recipe import DataArguments, RecipeError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dataset": "librispeech", "data_root": "."},
            'dataset must be one of dns, valentini, pairs, mixed, hub, got "librispeech"',
        ),
        ({"dataset": "dns"}, "data_root is not set"),
    ],
)
def test_bad_data_options(options, message):
    with pytest.raises(RecipeError, match=message):
        DataArguments.of(**options).load(0, None, 16000)


@pytest.fixture
def valentini(tmp_path):
    """Four pairs of half a second, two speakers."""
    rng = np.random.default_rng(0)
    for side in ("clean", "noisy"):
        (tmp_path / f"{side}_trainset_28spk_wav").mkdir()
        for name in ("p226_001", "p226_002", "p287_001", "p300_001"):
            path = tmp_path / f"{side}_trainset_28spk_wav" / f"{name}.wav"
            soundfile.write(path, 0.1 * rng.standard_normal(8000), 16000)
    return {"dataset": "valentini", "data_root": str(tmp_path)}


@pytest.mark.filterwarnings("ignore::mvat_hf.data.matching.PartialDataWarning")
def test_valentini_options(valentini):
    train, validation = DataArguments.of(**valentini).load(0, None, 16000)
    assert list(train["id"]) == ["p226_001", "p226_002", "p300_001"] and list(validation["id"]) == ["p287_001"]
    hop = {"segments": "hop", "segment_seconds": 0.25, "hop_seconds": 0.125, "validation_speakers": "p287, p300"}
    train, validation = DataArguments.of(**valentini, **hop).load(0, None, 16000)
    assert list(train["id"]) == [f"p226_00{file}@{start}" for file in (1, 2) for start in (0, 2000, 4000)]
    assert list(validation["id"]) == ["p287_001", "p300_001"] and len(validation[0]["clean"]) == 8000
    with pytest.raises(RecipeError, match='segments must be random or hop, got "fixed"'):
        DataArguments.of(**valentini, segments="fixed").load(0, None, 16000)


@pytest.fixture
def own(tmp_path):
    """Eleven pairs of a tenth of a second."""
    rng = np.random.default_rng(0)
    for side in ("clean", "noisy"):
        (tmp_path / side).mkdir()
        for name in range(11):
            soundfile.write(tmp_path / side / f"{name}.wav", 0.1 * rng.standard_normal(1600), 16000)
    return {"clean": str(tmp_path / "clean"), "noisy": str(tmp_path / "noisy"), "dataset": "pairs"}


def test_own_pairs_with_a_share_of_them_to_validate(own):
    train, validation = DataArguments.of(**own, validation_share=0.3).load(0, None, 16000)
    again, _ = DataArguments.of(**own, validation_share=0.3).load(5, None, 16000)
    assert (len(train), len(validation)) == (8, 3) and list(again["id"]) == list(train["id"])
    assert not set(train["id"]) & set(validation["id"]) and train[0]["clean"].shape == (1600,)
    with pytest.raises(RecipeError, match="validation_share must be above 0 and below 1, got 1"):
        DataArguments.of(**own, validation_share=1).load(0, None, 16000)


def test_own_pairs_with_folders_to_validate(own):
    folders = {"validation_clean": own["clean"], "validation_noisy": own["noisy"]}
    train, validation = DataArguments.of(**own, **folders, segments="hop", segment_seconds=0.05, hop_seconds=0.05).load(
        0, None, 16000
    )
    assert (len(train), len(validation)) == (22, 11)
    with pytest.raises(RecipeError, match="both validation_clean and validation_noisy or none"):
        DataArguments.of(**own, validation_clean=own["clean"]).load(0, None, 16000)
    with pytest.raises(RecipeError, match="noisy is not set, expected the folder of noisy recordings"):
        DataArguments.of(dataset="pairs", clean=own["clean"]).load(0, None, 16000)


def test_speech_and_noise_of_ones_own_are_mixed(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("speech", "noise"):
        for group in "ab":
            (tmp_path / kind / group).mkdir(parents=True)
            soundfile.write(tmp_path / kind / group / "0.wav", 0.1 * rng.standard_normal(8000), 16000)
    folders = {kind: str(tmp_path / kind) for kind in ("speech", "noise")}
    data = DataArguments.of(dataset="mixed", **folders, segment_seconds=0.25, snr_low=3, snr_high=3)
    train, validation = data.load(0, 7, 16000)
    assert (len(train), len(validation)) == (7, 1) and len(validation[0]["clean"]) == 8000
    clean, noisy = (train[0][side].astype(float) for side in ("clean", "noisy"))
    assert len(clean) == 4000
    assert 10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2)) == pytest.approx(3, abs=0.1)
    with pytest.raises(RecipeError, match="noise is not set, expected a folder"):
        DataArguments.of(dataset="mixed", speech=folders["speech"]).load(0, 7, 16000)


def test_columns_of_a_data_set_as_the_hub_has_it(own, tmp_path):
    rows = load_pairs(own["clean"], own["noisy"]).select_columns(["clean", "noisy"])
    (tmp_path / "hub").mkdir()
    rows.rename_columns({"clean": "reference", "noisy": "recording"}).to_parquet(tmp_path / "hub" / "train.parquet")
    columns = {"clean_column": "reference", "noisy_column": "recording"}
    options = {"dataset": "hub", "data_root": str(tmp_path / "hub")}
    train, validation = DataArguments.of(**options, **columns).load(0, None, 16000)
    assert (len(train), len(validation)) == (10, 1)
    files = load_pairs(own["clean"], own["noisy"])
    item = train[0]
    np.testing.assert_array_equal(item["clean"], files[int(item["id"])]["clean"])
    with pytest.raises(DataError, match="has no column clean of audio, those it has: reference, recording"):
        DataArguments.of(**options).load(0, None, 16000)


def test_a_data_set_of_the_hub_is_streamed(own, tmp_path):
    (tmp_path / "hub").mkdir()
    load_pairs(own["clean"], own["noisy"]).to_parquet(tmp_path / "hub" / "train.parquet")
    options = {"dataset": "hub", "data_root": str(tmp_path / "hub"), "streaming": True}
    train, validation = DataArguments.of(**options, validation_files=3).load(0, None, 16000)
    assert list(validation["id"]) == ["0", "1", "10"] and len(validation[0]["clean"]) == 1600
    assert not {item["id"] for item in train.first(8)} & set(validation["id"])
    in_order, _ = DataArguments.of(**options, validation_files=3, shuffle_buffer=0).load(0, None, 16000)
    names = [item["id"] for item in in_order.first(9)]
    assert names == [*sorted(names[:8]), "2#1"]
    split, validation = DataArguments.of(**options, validation_files=99, validation_split="train").load(0, None, 16000)
    assert len(validation) == len({item["id"] for item in split.first(11)}) == 11
    with pytest.raises(RecipeError, match="no length to validate on a share of: expected --validation_files N"):
        DataArguments.of(**options).load(0, None, 16000)
    with pytest.raises(RecipeError, match="shuffle_buffer must be at least 0, got -1"):
        DataArguments.of(**options, validation_files=3, shuffle_buffer=-1).load(0, None, 16000)


@pytest.mark.parametrize("dataset", ["dns", "valentini"])
def test_plain_pairs_given_to_a_corpus_are_told_where_they_belong(own, dataset):
    root = str(Path(own["clean"]).parent)
    with pytest.raises(
        RecipeError, match=f"and not {dataset}: expected --dataset pairs --clean .*clean --noisy .*noisy"
    ):
        DataArguments.of(dataset=dataset, data_root=root).load(0, None, 16000)


def test_options_of_mixing_are_refused_where_nothing_is_mixed(tmp_path):
    for kind in ("clean", "noisy"):
        (tmp_path / "training" / kind).mkdir(parents=True)
        for number in range(2):
            soundfile.write(tmp_path / "training" / kind / f"a_fileid_{number}.wav", np.ones(10) / 2, 16000)
    options = {"dataset": "dns", "data_root": str(tmp_path)}
    assert len(DataArguments.of(**options).load(0, 10, 16000)[0]) == 1
    with pytest.raises(DataError, match="synthesised already"):
        DataArguments.of(**options, snr_low=-5).load(0, 10, 16000)


def test_streaming_data_of_a_recipe():
    options = {"dataset": "dns", "data_root": str(REPOSITORY / "scripts" / "demo"), "streaming": True}
    with pytest.raises(DataError, match="no such folder: .*scripts/demo/clean"):
        DataArguments.of(**options).load(0, 10, 16000)
