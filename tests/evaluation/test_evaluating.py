"""Evaluation records: noisy first, failures counted, independent of the number of processes and of the loader."""

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets, load_from_disk

from evaluations import Failing, Louder, run, write_pairs
from mvat_hf.data.dns import mixtures
from mvat_hf.data.matching import DataError
from mvat_hf.data.mixing import Mixer
from mvat_hf.data.pairs import load_pairs
from mvat_hf.data.stamps import stamp
from mvat_hf.evaluation.evaluating import evaluate_systems, examples_of
from mvat_hf.metrics import si_sdr


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path)


def test_noisy_row_comes_first_and_is_what_the_metrics_give(folder):
    record = run(folder, processes=1)
    noisy, model = record["systems"]
    assert (noisy["name"], model["name"]) == ("noisy", "louder")
    pairs = load_pairs(folder / "clean", folder / "noisy")
    expected = [si_sdr(pairs[index]["clean"], pairs[index]["noisy"]) for index in (0, 1)]
    assert noisy["means"]["si_sdr"] == pytest.approx(np.mean(expected))


def test_silence_is_counted_and_not_scored(folder):
    for system in run(folder, processes=1)["systems"]:
        assert system["scored"] == 2
        assert [failure["id"] for failure in system["failures"]] == ["silence"]
        assert "silent" in system["failures"][0]["reason"]


def test_numbers_do_not_depend_on_processes(folder):
    one, two = ([system["scores"] for system in run(folder, processes=count)["systems"][:1]] for count in (1, 2))
    assert one == two


def test_unreadable_pair_is_reported_and_the_rest_goes_on(folder):
    (folder / "noisy" / "1.wav").write_bytes(b"not audio")
    noisy = run(folder, processes=1)["systems"][0]
    assert noisy["scored"] == 1
    assert any("cannot be read" in failure["reason"] for failure in noisy["failures"])


def test_no_system_takes_the_row_of_the_input(folder):
    with pytest.raises(ValueError, match='the row "noisy" is that of the input'):
        run(folder, {"noisy": Louder()}, processes=1)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError])
def test_an_error_of_a_system_costs_the_score_of_that_file(error, folder):
    record = run(folder, {"failing": Failing(error), "louder": Louder()}, processes=1, metrics=("si_sdr",))
    failing, louder = record["systems"][1:]
    reasons = {failure["id"]: failure["reason"] for failure in failing["failures"]}
    assert failing["scored"] == 1 and louder["scored"] == 2
    assert reasons["1"].startswith(f"{error.__name__}: ") and "\n" not in reasons["1"]
    assert "real_time_factor" not in failing and failing["not_timed"].startswith(error.__name__)
    assert louder["real_time_factor"] > 0


def test_the_ids_of_a_record_are_those_of_the_data_set(folder, tmp_path):
    speech, noise = (Mixer([folder / side / "0.wav"], [folder / side / "1.wav"]) for side in ("clean", "noisy"))
    dataset = mixtures(speech, 3).select([2, 0])
    record = evaluate_systems({"louder": Louder()}, dataset, name="test", processes=1, metrics=("si_sdr",))
    assert list(record["systems"][1]["scores"]) == [item["id"] for item in dataset] == ["mixture_2", "mixture_0"]
    stamps = [stamp(each) for each in (dataset, mixtures(speech, 3).select([2, 0]), mixtures(noise, 3).select([2, 0]))]
    assert stamps[0] == stamps[1] != stamps[2]


def test_an_id_that_several_recordings_share_is_refused(folder):
    dataset = load_pairs(folder / "clean", folder / "noisy")
    with pytest.raises(DataError, match="^test: every recording needs an id of its own, got 2 that several share"):
        evaluate_systems({}, concatenate_datasets([dataset, dataset.select([0, 1])]), name="test", processes=1)


def test_what_datasets_loads_is_scored_as_what_the_loader_gives(folder, tmp_path):
    dataset = load_pairs(folder / "clean", folder / "noisy")
    dataset.save_to_disk(tmp_path / "saved")
    dataset.to_parquet(tmp_path / "a.parquet")
    changed = dataset.map(lambda item: {"noisy": item["noisy"]}).add_column("number", [1, 2, 3])
    arrays = Dataset.from_list([{side: item[side] for side in ("clean", "noisy")} for item in dataset])
    others = [load_from_disk(tmp_path / "saved"), Dataset.from_parquet(str(tmp_path / "a.parquet")), changed, arrays]
    expected, *found = (
        evaluate_systems({"louder": Louder()}, each, name="test", processes=1, metrics=("si_sdr",))
        for each in (dataset, *others)
    )
    for record in found:
        assert [row["means"] for row in record["systems"]] == [row["means"] for row in expected["systems"]]
    assert list(found[-1]["systems"][0]["scores"]) == ["item_0", "item_1"]


def test_a_data_set_without_pairs_is_refused(folder):
    dataset = load_pairs(folder / "clean", folder / "noisy").remove_columns("clean")
    with pytest.raises(DataError, match="expected columns id, clean and noisy, got id, noisy: there is no clean"):
        evaluate_systems({}, dataset, name="test")
    for other in (DatasetDict(test=dataset), dataset.with_format(None).to_iterable_dataset(), [{}]):
        with pytest.raises(DataError, match=f"expected a datasets.Dataset, .*, got {type(other).__name__}"):
            evaluate_systems({}, other, name="test")


def test_examples_are_the_best_median_and_worst_file(folder):
    system = Louder()
    dataset = load_pairs(folder / "clean", folder / "noisy")
    record = evaluate_systems({"louder": system}, dataset, name="test", processes=1)
    examples = examples_of(record, system, dataset)
    noisy, louder = (row["scores"] for row in record["systems"])
    best = max(louder, key=lambda name: louder[name]["pesq"] - noisy[name]["pesq"])
    assert [title.split(",")[0] for title in examples] == ["best", "median", "worst"]
    assert next(iter(examples)).split(", ")[1] == best


@pytest.mark.parametrize("metric", ["stoi", "llr"])
def test_examples_of_another_metric(metric, folder):
    system = Louder()
    dataset = load_pairs(folder / "clean", folder / "noisy")
    record = evaluate_systems({"louder": system}, dataset, name="test", processes=1, metrics=(metric,))
    examples = examples_of(record, system, dataset)
    noisy, louder = (row["scores"] for row in record["systems"])
    better = (
        (lambda name: louder[name][metric] - noisy[name][metric])
        if metric == "stoi"
        else (lambda name: noisy[name][metric] - louder[name][metric])
    )
    assert next(iter(examples)).split(", ")[1] == max(louder, key=better)
    assert list(next(iter(examples.values()))) == ["noisy", "enhanced", "clean"]


def test_an_example_that_can_no_longer_be_enhanced_is_left_out(folder):
    dataset = load_pairs(folder / "clean", folder / "noisy")
    record = evaluate_systems({"louder": Louder()}, dataset, name="test", processes=1, metrics=("si_sdr",))
    examples = examples_of(record, Failing(RuntimeError), dataset)
    assert examples and all(title.split(", ")[1] == "0" for title in examples)
