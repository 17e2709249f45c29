"""Segments on a fixed grid: nothing of a file is left out, each is that part of the file, and a resumed run agrees."""

import numpy as np
import pytest
import soundfile

from mvat_hf.data.audio import AudioError
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.data.formatting import describe
from mvat_hf.data.matching import DataError
from mvat_hf.data.pairs import load_pairs
from mvat_hf.data.segments import hop_segments, segment_starts

LENGTHS = {"a": 500, "b": 100, "c": 400, "d": 401, "e": 1000}  # segments of 400 samples, hop 100


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for side in ("clean", "noisy"):
        (tmp_path / side).mkdir()
        for name, length in LENGTHS.items():
            soundfile.write(tmp_path / side / f"{name}.wav", 0.1 * rng.standard_normal(length), 8000, subtype="FLOAT")
    return tmp_path


def load(folder, rate=8000):
    return load_pairs(folder / "clean", folder / "noisy", sampling_rate=rate)


def test_every_hop_until_the_end_is_reached(folder):
    segments = hop_segments(load(folder), 0.05, 0.0125)
    starts = {"a": [0, 100], "b": [0], "c": [0], "d": [0, 100], "e": [0, 100, 200, 300, 400, 500, 600]}
    assert list(segments["id"]) == [f"{name}@{start}" for name in starts for start in starts[name]]


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 499, 500, 501, 999, 1000, 1001])
def test_segments_cover_every_sample_and_none_is_empty(samples):
    starts = list(segment_starts(samples, 400, 100))
    assert starts[-1] + 400 >= samples and starts[-1] < samples
    assert starts == list(range(0, starts[-1] + 1, 100))
    assert len(starts) == 1 or starts[-2] + 400 < samples  # the last one is needed


@pytest.mark.parametrize("rate", [8000, 4000])
def test_segments_are_parts_of_their_files(folder, rate):
    """Read from the disk alone where the rate allows, cut from the resampled file elsewhere."""
    whole = {item["id"]: item for item in load(folder, rate)}
    length = rate // 20
    for item in hop_segments(load(folder, rate), 0.05, 0.0125):
        name, start = item["id"].split("@")
        for side in ("clean", "noisy"):
            assert 0 < len(item[side]) <= length
            np.testing.assert_array_equal(item[side], whole[name][side][int(start) : int(start) + length])


def test_batches_hold_whole_segments_padded_at_the_end(folder):
    segments = hop_segments(load(folder), 0.05, 0.0125)
    collate = SegmentCollator(0.05, 8000)
    batch = collate([segments[index] for index in (0, 1, 2)])["labels"]
    whole = load(folder)
    np.testing.assert_array_equal(batch[0], whole[0]["clean"][:400])
    np.testing.assert_array_equal(batch[1], whole[0]["clean"][100:500])
    np.testing.assert_array_equal(batch[2], np.pad(whole[1]["clean"], (0, 300)))


def test_segments_of_chosen_files(folder):
    segments = hop_segments(load(folder).select([4, 1]), 0.05, 0.05)
    assert list(segments["id"]) == ["e@0", "e@400", "e@800", "b@0"]
    np.testing.assert_array_equal(segments[3]["noisy"], load(folder)[1]["noisy"])
    np.testing.assert_array_equal(segments[[3, 2]]["noisy"][1], load(folder)[4]["noisy"][800:])
    described = describe(segments)
    assert described["pairs"]["files"] == 2


@pytest.mark.parametrize(("seconds", "hop"), [(4.0, 0.0), (4.0, -1.0), (0.0, 1.0), (1.0, 4.0)])
def test_lengths_without_sense(folder, seconds, hop):
    with pytest.raises(DataError, match="hop_seconds must be above 0 and at most seconds"):
        hop_segments(load(folder), seconds, hop)


def test_a_broken_file_is_named_at_once(folder):
    (folder / "noisy" / "c.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"c\.wav is empty"):
        hop_segments(load(folder))
