"""Matched folders: every file finds its partner or is named, and is decoded when asked for."""

import os
import unicodedata

import numpy as np
import pytest
import soundfile

from mvat_hf.data.audio import AudioError, read_mono
from mvat_hf.data.formatting import describe
from mvat_hf.data.matching import DataError, match_files, match_pairs, pair_length
from mvat_hf.data.pairs import load_pairs


def write(path, seed=0, length=800, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(length), rate)


@pytest.fixture
def folders(tmp_path):
    """Three pairs, one of them below a folder, in other formats."""
    for seed, (clean, noisy) in enumerate([("b.wav", "b.wav"), ("a.flac", "a.wav"), ("x/c.wav", "x/c.flac")]):
        write(tmp_path / "clean" / clean, seed)
        write(tmp_path / "noisy" / noisy, seed + 10)
    return tmp_path / "clean", tmp_path / "noisy"


def test_pairs_are_matched_by_path_and_sorted(folders):
    clean, noisy = folders
    pairs = match_pairs(*folders)
    assert [pair.id for pair in pairs] == ["a", "b", "x/c"]
    assert [pair.clean for pair in pairs] == [clean / "a.flac", clean / "b.wav", clean / "x" / "c.wav"]
    assert [pair.noisy for pair in pairs] == [noisy / "a.wav", noisy / "b.wav", noisy / "x" / "c.flac"]


def test_items_are_the_files(folders):
    dataset = load_pairs(*folders)
    assert len(dataset) == 3
    for item, pair in zip(dataset, match_pairs(*folders), strict=True):
        assert set(item) == {"id", "clean", "noisy"} and item["id"] == pair.id
        for side in ("clean", "noisy"):
            audio = np.asarray(item[side])
            assert audio.dtype == np.float32
            np.testing.assert_array_equal(audio, read_mono(getattr(pair, side), 16000))
    assert not np.array_equal(dataset[0]["clean"], dataset[0]["noisy"])


def test_order_of_access_does_not_matter(folders):
    dataset = load_pairs(*folders)
    batch = dataset[[2, 0]]
    assert batch["id"] == ["x/c", "a"]
    np.testing.assert_array_equal(batch["noisy"][0], dataset[2]["noisy"])
    picked = dataset.select([1])
    np.testing.assert_array_equal(picked[0]["clean"], dataset[1]["clean"])


def test_items_are_at_the_rate_that_was_asked_for(tmp_path):
    for side in ("clean", "noisy"):
        write(tmp_path / side / "a.wav", length=4800, rate=48000)
    for rate, length in ((16000, 1600), (8000, 800), (48000, 4800)):
        item = load_pairs(tmp_path / "clean", tmp_path / "noisy", sampling_rate=rate)[0]
        assert len(item["clean"]) == len(item["noisy"]) == length


@pytest.mark.parametrize("side", ["clean", "noisy"])
def test_files_without_a_partner(side, folders, tmp_path):
    for number in range(5):
        write(tmp_path / side / f"z{number}.wav")
    with pytest.raises(DataError, match=r"5 files .*no partner.*: z0, z1, z2 …"):
        load_pairs(*folders)


def test_one_file_on_each_side_without_a_partner(folders):
    clean, noisy = folders
    (noisy / "b.wav").rename(noisy / "bb.wav")
    with pytest.raises(DataError, match=r"2 files .*: b, bb$"):
        match_pairs(clean, noisy)


def test_missing_and_empty_folders(folders, tmp_path):
    clean, noisy = folders
    with pytest.raises(DataError, match=r"no such folder: .*nowhere"):
        load_pairs(tmp_path / "nowhere", noisy)
    with pytest.raises(DataError, match=r"no such folder: .*nowhere"):
        load_pairs(clean, tmp_path / "nowhere")
    with pytest.raises(DataError, match="no such folder"):
        load_pairs(clean / "b.wav", noisy)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").touch()
    with pytest.raises(DataError, match=r"empty holds no audio files"):
        load_pairs(tmp_path / "empty", noisy)


def test_two_files_of_one_name(folders):
    clean, _ = folders
    write(clean / "b.flac")
    with pytest.raises(DataError, match=r"b\.flac and b\.wav are both b"):
        load_pairs(*folders)


def test_lengths_that_differ_are_found_on_access(folders):
    _, noisy = folders
    write(noisy / "b.wav", length=801)
    dataset = load_pairs(*folders)
    assert len(dataset[0]["clean"]) == 800
    with pytest.raises(DataError, match="pair b: clean has 800 samples, noisy 801"):
        dataset[1]


def test_lengths_are_told_from_headers(tmp_path):
    for side, suffix, rate in (("clean", "flac", 48000), ("noisy", "wav", 16000)):
        write(tmp_path / side / f"a.{suffix}", length=801 * rate // 16000, rate=rate)
    dataset = load_pairs(tmp_path / "clean", tmp_path / "noisy")
    row = dataset.with_format(None)[0]
    assert pair_length(row, 16000) == len(dataset[0]["clean"]) == 801
    assert pair_length(row, 48000) == 2403
    write(tmp_path / "noisy" / "a.wav", length=800)
    with pytest.raises(DataError, match="pair a: clean has 801 samples, noisy 800"):
        pair_length(row, 16000)


def test_a_data_set_describes_its_clean_files(folders):
    described = describe(load_pairs(*folders))
    assert described == {"pairs": {"files": 3, "hours": pytest.approx(3 * 0.05 / 3600), "folders": 2}}


def test_files_are_matched_where_some_have_no_partner(folders, tmp_path):
    for side, name in (("clean", "z"), ("noisy", "y")):
        write(tmp_path / side / f"{name}.wav")
    pairs, alone = match_files(*folders)
    assert [pair.id for pair in pairs] == ["a", "b", "x/c"] and alone == ["y", "z"]


def test_a_broken_file_is_found_on_access(folders):
    _, noisy = folders
    (noisy / "a.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"a\.wav is empty"):
        load_pairs(*folders)[0]


def test_names_match_in_either_form_of_unicode(tmp_path):
    """Some systems write "é" as one sign, others as an e and an accent."""
    for side, form in (("clean", "NFC"), ("noisy", "NFD")):
        (tmp_path / side).mkdir()
        write(tmp_path / side / f"{unicodedata.normalize(form, 'café')}.wav")
    pairs = load_pairs(tmp_path / "clean", tmp_path / "noisy")
    assert pairs[0]["id"] == unicodedata.normalize("NFC", "café") and len(pairs[0]["noisy"]) == len(pairs[0]["clean"])


def test_a_name_that_is_no_utf_8_is_named(tmp_path):
    for side in ("clean", "noisy"):
        (tmp_path / side).mkdir()
        try:
            (tmp_path / side / os.fsdecode(b"caf\xe9.wav")).touch()
        except OSError:
            pytest.skip("this file system takes no such name")
    with pytest.raises(DataError, match=r"caf\\udce9\.wav is no UTF-8"):
        load_pairs(tmp_path / "clean", tmp_path / "noisy")
