"""Rows of a stream come in the same order whatever reads them, decoded as those of a data set on disk."""

from itertools import count, islice

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset, Features, IterableDataset, Value, load_dataset
from torch.utils.data import DataLoader

from mvat_hf.data.matching import DataError
from mvat_hf.data.pairs import load_columns, load_pairs, read_columns
from mvat_hf.data.row_stream import RowStream


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven pairs of recordings at 8 kHz in two parquet files, without names."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for side in ("clean", "noisy"):
        (root / side).mkdir()
        for number in range(7):
            soundfile.write(root / side / f"{number}.wav", 0.1 * rng.standard_normal(400 + number), 8000)
    rows = load_pairs(root / "clean", root / "noisy", sampling_rate=8000)
    (root / "hub").mkdir()
    for part, numbers in enumerate((range(4), range(4, 7))):
        rows.select(numbers).to_parquet(root / "hub" / f"train-{part}.parquet")
    return root / "hub"


def stream(folder, shuffled: bool = True, **options) -> RowStream:
    rows = read_columns(str(folder), "train", "clean", "noisy", streaming=True)
    return RowStream(rows.shuffle(seed=3, buffer_size=3) if shuffled else rows, **options)


def ids(rows: RowStream, batches: int) -> list[list[str]]:
    loader = DataLoader(rows, rows.batch_size, collate_fn=list)
    return [[item["id"] for item in batch] for batch in islice(loader, batches)]


def test_a_pass_has_the_rows_of_the_data_set_and_the_next_has_them_again(folder):
    on_disk = load_columns(str(folder), "train", "clean", "noisy")
    items = stream(folder).first(14)
    assert {item["id"] for item in items[:7]} == set(on_disk["id"])
    assert sorted(item["id"] for item in items[7:]) == sorted(f"{name}#1" for name in on_disk["id"])
    assert [item["id"] + "#1" for item in items[:7]] != [item["id"] for item in items[7:]]  # shuffled anew
    by_name = {item["id"]: item for item in on_disk}
    for item in items:
        for side in ("clean", "noisy"):
            np.testing.assert_array_equal(item[side], by_name[item["id"].removesuffix("#1")][side])


def test_workers_are_refused_and_errors_of_the_thread_are_told(folder, monkeypatch):
    with pytest.raises(DataError, match="expected a DataLoader with num_workers=0"):
        next(iter(DataLoader(stream(folder), num_workers=1)))
    monkeypatch.setattr(RowStream, "item", lambda self, place, *_: {"id": 1 / (3 - place)})
    items = iter(stream(folder))
    assert len([next(items) for _ in range(3)]) == 3
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_a_state_counts_what_was_given_not_what_was_read_ahead(folder):
    rows, other = stream(folder), stream(folder)
    items = iter(rows)
    seen = [next(items)["id"] for _ in range(5)]
    other.load_state_dict(rows.state_dict())
    assert [*seen, next(iter(other))["id"]] == [item["id"] for item in rows.first(6)]


def test_steps_do_not_depend_on_processes(folder):
    shares = [ids(stream(folder).split(2, rank, 2), 4) for rank in (0, 1)]
    assert [one + other for one, other in zip(*shares, strict=True)] == ids(stream(folder, batch_size=4), 4)


@pytest.mark.parametrize("stop", [3, 8])  # the second lies in the second pass
def test_a_state_goes_on_with_the_next_row_and_decodes_none_before(stop, folder, monkeypatch):
    whole, resumed = stream(folder), stream(folder)
    expected = [item["id"] for item in whole.first(stop + 4)]
    resumed.load_state_dict({"items": stop, "taken": 0})
    decoded = []
    monkeypatch.setattr(RowStream, "item", lambda self, place, *_: decoded.append(place) or {"id": str(place)})
    list(islice(resumed.read(map(resumed.index, count())), 4))
    assert decoded == list(range(stop, stop + 4))
    monkeypatch.undo()
    assert [item["id"] for item in islice(iter(resumed), 4)] == expected[stop:]


def test_two_readings_of_one_stream_do_not_disturb_each_other(folder):
    rows = stream(folder)
    reading = iter(rows)
    seen = [next(reading)["id"] for _ in range(3)]
    first = [item["id"] for item in rows.first(9)]
    assert seen + [next(reading)["id"] for _ in range(6)] == first


def test_rows_of_arrays_and_decoded_audio_stay_as_they_are():
    arrays = Dataset.from_dict({"clean": [[0.0, 1.0]], "noisy": [[1.0, 1.0]]}).to_iterable_dataset()
    item = RowStream(arrays).first(2)[1]
    assert (item["id"], item["clean"]) == ("row 1", [0.0, 1.0])


def test_what_cannot_be_streamed_is_told(folder):
    with pytest.raises(DataError, match="have no column noisy, expected clean and noisy"):
        RowStream(Dataset.from_dict({"clean": [[0.0]]}).to_iterable_dataset())
    audio = Audio(decode=False)
    features = Features({"id": Value("string"), "clean": audio, "noisy": audio})
    nothing = IterableDataset.from_generator(lambda: iter(()), features=features)
    with pytest.raises(DataError, match="has no rows"):
        RowStream(nothing).first(1)
    with pytest.raises(DataError, match="has no column tidy of audio, those it has: clean, noisy"):
        read_columns(str(folder), "train", "tidy", "noisy", streaming=True)
    with pytest.raises(DataError, match="the split test of .* cannot be had"):
        read_columns(str(folder), "test", "clean", "noisy", streaming=True)
    unlike = load_dataset(str(folder), split="train").cast_column("clean", audio).cast_column("noisy", audio)
    shifted = unlike.select_columns(["clean"]).add_column("noisy", [unlike[6]["noisy"]] * 7, feature=audio)
    with pytest.raises(DataError, match="pair row 0: clean has 800 samples, noisy 812, expected the same"):
        RowStream(shifted.to_iterable_dataset()).first(1)
