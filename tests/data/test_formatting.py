"""What the loaders give is a data set like any other: each operation of `datasets` keeps recordings and columns."""

import io
import multiprocessing

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset, concatenate_datasets, disable_progress_bars, load_from_disk
from datasets.table import embed_table_storage

from mvat_hf import load_dns, load_valentini
from mvat_hf.data.audio import AudioError
from mvat_hf.data.formatting import decoded, describe, recorded
from mvat_hf.data.matching import DataError
from mvat_hf.data.mixing import MixingOptions
from mvat_hf.data.pairs import load_pairs
from mvat_hf.data.segments import hop_segments

pytestmark = pytest.mark.filterwarnings("ignore::mvat_hf.data.matching.PartialDataWarning")
KINDS = ("pairs", "parquet", "test", "mixtures", "validation", "segments")
MADE = ("mixtures", "validation", "segments")


def write(path, number, rate=16000, samples=1600):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(number).standard_normal(samples), rate, format="FLAC")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four pairs in two folders, as the Hub has them, and as DNS; speech and noise to mix."""
    folder = tmp_path_factory.mktemp("data")
    tests = folder / "datasets" / "test_set" / "synthetic" / "no_reverb"
    rows = []
    for number in range(4):
        row = {"id": f"p232_00{number}"}
        for side in ("clean", "noisy"):
            path = folder / side / f"{number}.flac"
            write(path, [number, side == "noisy"], samples=1600 + number)
            write(tests / side / f"{side}_fileid_{number}.flac", [number, side == "noisy"])
            row[side] = {"bytes": path.read_bytes(), "path": path.name}
        rows.append(row)
        write(folder / "datasets" / "clean" / f"reader_{number}" / "a.wav", number + 10)
        write(folder / "datasets" / "noise" / f"type_{number}" / "a.wav", number + 20)
    held = Dataset.from_list(rows)
    for side in ("clean", "noisy"):
        held = held.cast_column(side, Audio(decode=False))
    held.to_parquet(folder / "test-0.parquet")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    disable_progress_bars()


def load(kind, root):
    pairs = load_pairs(root / "clean", root / "noisy")
    return {
        "pairs": lambda: pairs,
        "parquet": lambda: load_valentini(root, "test"),
        "test": lambda: load_dns(root, "test"),
        "mixtures": lambda: load_dns(root, "train", size=4, mixing=MixingOptions(seconds=0.1)),
        "validation": lambda: load_dns(root, "validation", size=4),
        "segments": lambda: hop_segments(pairs.select([0, 1]), 0.05, 0.05).select(range(4)),
    }[kind]()


@pytest.fixture(params=KINDS)
def dataset(request, root):
    return load(request.param, root)


@pytest.fixture
def items(dataset):
    return {item["id"]: item for item in dataset}


def assert_same(found, items, columns=("id", "clean", "noisy"), more=()):
    """Every item of `found` is that of `items` by its id, to the bit, in these columns and no others than `more`."""
    assert set(found.column_names) == {*columns, *more}
    assert len(found)
    for item in found:
        assert set(item) == {*columns, *more}
        for column in columns:
            np.testing.assert_array_equal(item[column], items[item["id"]][column])


def length(item):
    return {"samples": len(item["noisy"])}


def lengths(batch):
    return {"samples": [len(noisy) for noisy in batch["noisy"]]}


def in_place(item):
    item["samples"] = len(item["noisy"])
    return item


@pytest.mark.parametrize(
    ("function", "options"), [(length, {}), (length, {"num_proc": 2}), (lengths, {"batched": True}), (in_place, {})]
)
def test_map_sees_the_recordings_and_adds_a_column(function, options, dataset, items):
    mapped = dataset.map(function, **options)
    assert_same(mapped, items, more=["samples"])
    assert list(mapped["samples"]) == [len(item["noisy"]) for item in items.values()]


def test_map_that_only_looks_keeps_the_audio_encoded(dataset):
    mapped = dataset.map(lambda item: {"samples": len(item["noisy"])})
    assert {side: mapped.features[side] for side in ("clean", "noisy")} == dict.fromkeys(
        ("clean", "noisy"), Audio(sampling_rate=16000, decode=False)
    )


def test_map_and_filter_of_chosen_columns(dataset, items):
    seen = dataset.map(lambda name, noisy: {"n": f"{name} {len(noisy)}"}, input_columns=["id", "noisy"])
    assert list(seen["n"]) == [f"{name} {len(item['noisy'])}" for name, item in items.items()]
    chosen = sorted(items)[1:3]
    assert_same(dataset.filter(lambda name: name in chosen, input_columns="id"), items)
    louder = dataset.filter(lambda item: np.abs(item["noisy"]).max() > 0.2)
    assert list(louder["id"]) == [name for name, item in items.items() if np.abs(item["noisy"]).max() > 0.2]


def test_what_a_user_makes_of_a_column_is_what_the_user_made(dataset, items):
    quieter = dataset.map(lambda item: {"noisy": 0.5 * item["noisy"]})
    again = quieter.map(lambda batch: {"noisy": [0.5 * noisy for noisy in batch["noisy"]]}, batched=True)
    for found, gain in ((quieter, 0.5), (again, 0.25)):
        for item in found:
            np.testing.assert_array_equal(item["noisy"], np.float32(gain) * items[item["id"]]["noisy"])
            np.testing.assert_array_equal(item["clean"], items[item["id"]]["clean"])
    mean = dataset.map(lambda item: {"noisy": float(item["noisy"].mean())}, remove_columns="noisy")
    assert [item["noisy"] for item in mean] == [pytest.approx(item["noisy"].mean()) for item in items.values()]


def test_columns_are_added_removed_renamed_and_selected(dataset, items):
    numbers = list(range(4))
    added = dataset.add_column("number", numbers)
    assert_same(added, items, more=["number"])
    assert list(added["number"]) == numbers
    assert_same(dataset.remove_columns("clean"), items, ["id", "noisy"])
    assert_same(dataset.remove_columns(["noisy"]), items, ["id", "clean"])
    assert_same(dataset.select_columns(["noisy", "id"]), items, ["id", "noisy"])
    assert list(dataset.select_columns("id")[0]) == ["id"]
    renamed = dataset.rename_column("noisy", "mixture").rename_columns({"clean": "speech"})
    for item in renamed:
        assert set(item) == {"id", "speech", "mixture"}
        np.testing.assert_array_equal(item["mixture"], items[item["id"]]["noisy"])
        np.testing.assert_array_equal(item["speech"], items[item["id"]]["clean"])
    assert_same(renamed.rename_columns({"mixture": "noisy", "speech": "clean"}), items)


def test_rows_are_shuffled_selected_split_and_joined(dataset, items):
    shuffled = dataset.shuffle(seed=1)
    assert_same(shuffled, items)
    assert_same(shuffled.add_column("number", list(range(4))), items, more=["number"])
    assert_same(shuffled.flatten_indices().select([2, 0]), items)
    parts = dataset.train_test_split(test_size=2, seed=0)
    joined = concatenate_datasets([parts["train"], parts["test"]])
    assert_same(joined, items)
    assert sorted(joined["id"]) == sorted(items)
    assert_same(dataset.sort("id", reverse=True), items)


def test_parts_that_were_changed_alike_are_joined(dataset, items):
    halves = [dataset.select(rows).rename_column("noisy", "x").rename_column("x", "noisy") for rows in ([0, 1], [2, 3])]
    assert_same(concatenate_datasets(halves), items)


def test_a_column_a_slice_and_a_batch_are_the_items(dataset, items):
    assert list(dataset["id"]) == list(items)
    for index, item in enumerate(items.values()):
        for side in ("clean", "noisy"):
            np.testing.assert_array_equal(dataset[side][index], item[side])
            np.testing.assert_array_equal(dataset[index : index + 1][side][0], item[side])
            np.testing.assert_array_equal(dataset[[index]][side][0], item[side])


def test_ids_are_told_without_reading_audio(root):
    dataset = load_pairs(root / "clean", root / "noisy")
    dataset = dataset.map(lambda row: {"noisy": {"bytes": None, "path": "nowhere.wav"}}, input_columns="id")
    assert list(dataset["id"]) == ["0", "1", "2", "3"]
    with pytest.raises(FileNotFoundError, match=r"nowhere\.wav"):
        dataset[0]


@pytest.mark.parametrize("kind", ["pairs", "parquet", "test"])
def test_what_is_saved_is_loaded(kind, root, tmp_path):
    dataset = load(kind, root)
    items = {item["id"]: item for item in dataset}
    for number, part in enumerate((dataset, dataset.shuffle(seed=0).select([2, 0]), dataset.map(length))):
        part.save_to_disk(tmp_path / str(number))
        loaded = load_from_disk(tmp_path / str(number))
        assert_same(loaded, items, more=set(part.column_names) - {"id", "clean", "noisy"})
        assert_same(loaded.map(lengths, batched=True), items, more=["samples"])


def test_paths_do_not_depend_on_the_working_directory(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    dataset = load_pairs("clean", "noisy")
    monkeypatch.chdir(tmp_path)
    assert len(dataset[0]["clean"]) == 1600


def test_what_is_made_on_access_is_saved_once_it_is_recorded(root, tmp_path):
    for kind in MADE:
        dataset = load(kind, root)
        items = {item["id"]: item for item in dataset}
        with pytest.raises(DataError, match=r"made when it is asked for.*recorded\(dataset\)"):
            dataset.save_to_disk(tmp_path / f"not {kind}")
        held = recorded(dataset)
        assert_same(held, items)
        held.save_to_disk(tmp_path / kind)
        assert_same(load_from_disk(tmp_path / kind), items)


def test_recordings_of_any_kind_are_joined(root):
    parts = [recorded(load(kind, root)) for kind in MADE] + [load(kind, root) for kind in ("pairs", "parquet", "test")]
    joined = concatenate_datasets(parts)
    assert len(joined) == 24
    for found, expected in zip(joined, (item for part in parts for item in part), strict=True):
        np.testing.assert_array_equal(found["noisy"], expected["noisy"])


def test_mixtures_of_unlike_seeds_are_joined_in_one_process(root, monkeypatch):
    one, other = (load_dns(root, "train", size=2, seed=seed, mixing=MixingOptions(seconds=0.1)) for seed in (0, 1))
    joined = decoded(concatenate_datasets([one, other]))
    for found, expected in zip(joined, [*one, *other], strict=True):
        np.testing.assert_array_equal(found["noisy"], expected["noisy"])
    assert not np.array_equal(joined[0]["noisy"], joined[2]["noisy"])
    monkeypatch.setattr("mvat_hf.data.formatting.MAKERS", {})  # as in a process that was not sent them
    with pytest.raises(DataError, match="is made when it is asked for, and what makes it is not here"):
        joined[0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_pushed_holds_the_audio(kind, root, tmp_path):
    """`push_to_hub` embeds files in its parquet files like this."""
    dataset = load(kind, root)
    items = {item["id"]: item for item in dataset}
    pushed = dataset.with_format("arrow").map(embed_table_storage, batched=True)
    pushed.to_parquet(tmp_path / "a.parquet")
    plain = Dataset.from_parquet(str(tmp_path / "a.parquet"))
    assert all(row[side]["bytes"] for row in plain for side in ("clean", "noisy"))
    assert_same(decoded(plain), items)


def test_encoded_audio_of_any_data_set_is_decoded(root):
    rows = [{"id": "a", "clean": str(root / "clean" / "1.flac"), "noisy": str(root / "noisy" / "1.flac")}]
    plain = Dataset.from_list(rows)
    for side in ("clean", "noisy"):
        plain = plain.cast_column(side, Audio(decode=side == "clean"))
    item = load_pairs(root / "clean", root / "noisy")[1]
    np.testing.assert_array_equal(decoded(plain)[0]["noisy"], item["noisy"])
    np.testing.assert_array_equal(decoded(plain)[0]["clean"], item["clean"])
    assert len(decoded(plain, 8000)[0]["clean"]) == 801  # of 1601 samples, halves rounded up
    assert decoded(decoded(plain)).format == decoded(plain).format
    numbers = Dataset.from_dict({"id": ["a"], "clean": [[0.5, 0.25]], "noisy": [[0.5, 0.5]]})
    np.testing.assert_array_equal(decoded(numbers)[0]["clean"], np.float32([0.5, 0.25]))


def test_a_column_is_cast_to_another_rate(root):
    dataset = load_pairs(root / "clean", root / "noisy").cast_column("noisy", Audio(sampling_rate=8000))
    assert (len(dataset[0]["clean"]), len(dataset[0]["noisy"])) == (1600, 800)
    with pytest.raises(DataError, match="one sampling rate, got 8000 and 16000 Hz"):
        hop_segments(dataset)


def test_made_recordings_are_not_taken_at_another_rate(root):
    with pytest.raises(DataError, match="made at 16000 Hz, expected 8000"):
        decoded(load("mixtures", root), 8000)


def test_lengths_are_compared_in_a_batch_too(root, tmp_path):
    for side, samples in (("clean", 100), ("noisy", 101)):
        write(tmp_path / side / "a.flac", 0, samples=samples)
    dataset = load_pairs(tmp_path / "clean", tmp_path / "noisy")
    with pytest.raises(DataError, match="pair a: clean has 100 samples, noisy 101"):
        dataset[:1]["noisy"]
    with pytest.raises(DataError, match="pair a: clean has 100 samples, noisy 101"):
        dataset.map(length)


def test_audio_that_is_not_there(root):
    dataset = load_pairs(root / "clean", root / "noisy").map(lambda item: {"ref": None})
    assert dataset[0]["ref"] is None
    nothing = dataset.map(lambda name: {"noisy": None}, input_columns="id")
    with pytest.raises(AudioError, match="noisy 0 has neither bytes nor a path"):
        nothing[0]


def first_samples(datasets, answers):
    answers.put([(float(dataset[0]["noisy"][0]), len(dataset)) for dataset in datasets])


def test_a_new_process_that_is_sent_data_sets_knows_the_format(root):
    datasets = [load(kind, root) for kind in ("pairs", "mixtures")]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=first_samples, args=(datasets, answers))
    process.start()
    assert answers.get(timeout=120) == [(dataset[0]["noisy"][0], 4) for dataset in datasets]
    process.join()


def test_a_data_set_is_described_by_what_it_is_made_of(root):
    assert describe(load("pairs", root))["pairs"]["files"] == 4
    assert describe(load("pairs", root).select([0]))["pairs"]["files"] == 1
    assert describe(load("segments", root))["pairs"]["files"] == 2
    assert describe(load("mixtures", root)).keys() == {"speech", "noise"}
    held = recorded(load("mixtures", root))
    assert describe(held)["pairs"]["files"] == 4
    assert describe(held)["pairs"]["hours"] == pytest.approx(0.4 / 3600)


def test_segments_of_audio_that_a_user_made(root):
    dataset = load_pairs(root / "clean", root / "noisy")
    louder = dataset.map(lambda item: {"noisy": 2 * item["noisy"]})
    for ours, theirs in zip(hop_segments(dataset, 0.05, 0.05), hop_segments(louder, 0.05, 0.05), strict=True):
        np.testing.assert_array_equal(theirs["noisy"], 2 * ours["noisy"])
        np.testing.assert_array_equal(theirs["clean"], ours["clean"])
    with pytest.raises(DataError, match="got mixtures or segments"):
        hop_segments(load("mixtures", root))


def test_recorded_audio_is_a_wav_file_of_the_same_samples(root):
    held, item = recorded(load("mixtures", root)).with_format(None)[0], load("mixtures", root)[0]
    audio, rate = soundfile.read(io.BytesIO(held["noisy"]["bytes"]), dtype="float32")
    assert rate == 16000
    np.testing.assert_array_equal(audio, item["noisy"])


def test_lists_of_integers_are_refused():
    """A row does not tell what their full scale is."""
    rows = Dataset.from_dict({"clean": [[1, 2]], "noisy": [[1, 2]]})
    with pytest.raises(DataError, match="clean has samples of int64, expected floating"):
        decoded(rows, 16000)[0]
