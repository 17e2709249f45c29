"""Evaluation records: noisy first, failures counted, resumable, independent of the number of processes."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from datasets import Dataset, DatasetDict, concatenate_datasets, load_from_disk

from conftest import REPOSITORY
from mvat_hf.acceleration.export import export_onnx
from mvat_hf.acceleration.runtime import OnnxManner
from mvat_hf.data.audio import AudioError, find_audio, read_mono
from mvat_hf.data.dns import mixtures
from mvat_hf.data.matching import DataError
from mvat_hf.data.mixing import Mixer
from mvat_hf.data.pairs import load_pairs
from mvat_hf.data.stamps import stamp
from mvat_hf.evaluation.evaluating import evaluate_systems, examples_of
from mvat_hf.evaluation.systems import FolderSystem
from mvat_hf.metrics import si_sdr

RATE = 16000


@pytest.fixture
def folder(tmp_path):
    """Three pairs, the last of them silent."""
    rng = np.random.default_rng(0)
    for name in ("clean", "noisy"):
        (tmp_path / name).mkdir()
    for number, path in enumerate(find_audio(REPOSITORY / "scripts/demo/speech/bert")[:2]):
        clean = read_mono(path, RATE)
        soundfile.write(tmp_path / "clean" / f"{number}.wav", clean, RATE)
        soundfile.write(tmp_path / "noisy" / f"{number}.wav", clean + 0.02 * rng.standard_normal(len(clean)), RATE)
    for name in ("clean", "noisy"):
        soundfile.write(tmp_path / name / "silence.wav", np.zeros(RATE), RATE)
    return tmp_path


class Louder:
    """A system that counts its calls, and fails on demand."""

    def __init__(self, allowed: int = 10**6):
        self.allowed = allowed
        self.calls: list[str] = []

    def __call__(self, item, sampling_rate):
        if len(self.calls) == self.allowed:
            raise KeyboardInterrupt
        self.calls.append(item["id"])
        return 0.5 * item["noisy"] + 0.5 * item["clean"]

    def describe(self):
        return {"kind": "test"}


def run(folder, systems=None, **options):
    dataset = load_pairs(folder / "clean", folder / "noisy")
    return evaluate_systems({"louder": Louder()} if systems is None else systems, dataset, name="test", **options)


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


def test_a_model_is_described_and_timed(folder, tiny_model):
    model = tiny_model(attention_levels="none")
    record = json.loads(json.dumps(run(folder, {"tiny": model}, processes=1, metrics=("si_sdr",))))
    system = record["systems"][1]
    assert system["parameters"] == model.num_parameters()
    assert system["real_time_factor"] > 0 and system["device"] == "cpu"
    assert "real_time_factor" not in record["systems"][0]


def test_an_exported_model_scores_as_the_model(folder, tiny_model, tmp_path):
    pytest.importorskip("onnxruntime")
    tiny = tiny_model(attention_levels="none")
    export_onnx(tiny, tmp_path / "tiny.onnx")
    model, exported = run(folder, {"tiny": tiny, "onnx": tmp_path / "tiny.onnx"}, processes=1)["systems"][1:]
    assert exported["means"] == pytest.approx(model["means"], rel=1e-3)
    assert exported["exported_sha256"] == model["weights_sha256"]
    assert exported["parameters"] == model["parameters"]
    loaded = run(folder, {"onnx": OnnxManner(tmp_path / "tiny.onnx")}, processes=1, metrics=("si_sdr",))["systems"][1]
    assert loaded["means"]["si_sdr"] == exported["means"]["si_sdr"]


@pytest.mark.parametrize("system", [None, 3, lambda item, sampling_rate: item["noisy"]])
def test_what_is_no_system_is_refused(system, folder):
    with pytest.raises(ValueError, match="a system must be a model, a Hub id, a folder or .*, got "):
        run(folder, {"other": system}, processes=1)


def test_no_system_takes_the_row_of_the_input(folder):
    with pytest.raises(ValueError, match='the row "noisy" is that of the input'):
        run(folder, {"noisy": Louder()}, processes=1)


def test_a_killed_evaluation_goes_on_where_it_stopped(folder, tmp_path):
    journal = tmp_path / "scores.jsonl"
    whole = run(folder, {"louder": Louder()}, processes=1)
    with pytest.raises(KeyboardInterrupt):
        run(folder, {"louder": Louder(allowed=2)}, processes=1, journal=journal)
    with journal.open("a") as file:
        file.write('{"row": "louder", "ind')  # the kill came in the middle of a line
    kept = sum('"row": "louder"' in line and line.endswith("}") for line in journal.read_text().splitlines())
    again = Louder()
    resumed = run(folder, {"louder": again}, processes=1, journal=journal)
    timed = 4  # the real-time factor is measured anew
    assert len(again.calls) - timed == 3 - kept
    assert [system["scores"] for system in resumed["systems"]] == [system["scores"] for system in whole["systems"]]
    assert len(journal.read_text().splitlines()) == 1 + 2 * 3  # it goes when the record is on disk


def test_a_journal_of_another_evaluation_is_not_used(folder, tmp_path):
    journal = tmp_path / "scores.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(folder, {"louder": Louder(allowed=2)}, processes=1, journal=journal)
    record = run(folder, processes=1, journal=journal, metrics=("si_sdr",))
    assert all(scores.keys() == {"si_sdr"} for system in record["systems"] for scores in system["scores"].values())


def interrupted(folder, journal) -> list[str]:
    """Ids of what is kept of an evaluation that was interrupted after its last file."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mvat_hf.evaluation.evaluating.environment", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        run(folder, processes=1, journal=journal, metrics=("si_sdr",))
    return [json.loads(line)["score"]["id"] for line in journal.read_text().splitlines()[1:]]


def test_scores_of_recordings_that_have_changed_are_not_used(folder, tmp_path):
    journal = tmp_path / "scores.jsonl"
    assert interrupted(folder, journal)
    path = folder / "noisy" / "0.wav"
    audio, _ = soundfile.read(path)
    soundfile.write(path, audio[::-1], RATE)  # as long, another recording
    again = Louder()
    resumed = run(folder, {"louder": again}, processes=1, journal=journal, metrics=("si_sdr",))
    assert resumed["systems"][0]["scores"] == run(folder, {}, processes=1, metrics=("si_sdr",))["systems"][0]["scores"]
    assert again.calls[:3] == ["0", "1", "silence"]


def test_what_could_not_be_read_is_tried_again(folder, tmp_path):
    journal, path = tmp_path / "scores.jsonl", folder / "noisy" / "0.wav"
    content, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=times)  # the same file, as far as its size and time tell
    assert "0" in interrupted(folder, journal)
    path.write_bytes(content)
    os.utime(path, ns=times)
    record = run(folder, processes=1, journal=journal, metrics=("si_sdr",))
    assert [failure["id"] for failure in record["systems"][0]["failures"]] == ["silence"]


def test_a_stamp_changes_with_audio_that_the_data_set_holds():
    def rows(content):
        return Dataset.from_list([{"id": "a", "noisy": {"bytes": content, "path": "a.flac"}}])

    assert stamp(rows(b"one")) == stamp(rows(b"one")) != stamp(rows(b"two"))


class Failing(Louder):
    """A system that fails on some files with an error that is not about the audio, and on 10 s."""

    def __init__(self, error: type[Exception]):
        super().__init__()
        self.error = error

    def __call__(self, item, sampling_rate):
        if item["id"] == "1" or len(item["noisy"]) == 10 * RATE:
            raise self.error("no such\nlength")
        return super().__call__(item, sampling_rate)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError])
def test_an_error_of_a_system_costs_the_score_of_that_file(error, folder):
    record = run(folder, {"failing": Failing(error), "louder": Louder()}, processes=1, metrics=("si_sdr",))
    failing, louder = record["systems"][1:]
    reasons = {failure["id"]: failure["reason"] for failure in failing["failures"]}
    assert failing["scored"] == 1 and louder["scored"] == 2
    assert reasons["1"].startswith(f"{error.__name__}: ") and "\n" not in reasons["1"]
    assert "real_time_factor" not in failing and failing["not_timed"].startswith(error.__name__)
    assert louder["real_time_factor"] > 0


def test_the_journal_stays_until_the_record_is_there(folder, tmp_path, monkeypatch):
    def broken(record):
        raise MemoryError

    monkeypatch.setattr("mvat_hf.evaluation.evaluating.add_statistics", broken)
    journal = tmp_path / "scores.jsonl"
    with pytest.raises(MemoryError):
        run(folder, processes=1, journal=journal, metrics=("si_sdr",))
    assert len(journal.read_text().splitlines()) == 1 + 2 * 3


def test_unknown_metrics_leave_no_journal(folder, tmp_path):
    with pytest.raises(ValueError, match="got foo"):
        run(folder, metrics=("foo",), journal=tmp_path / "scores.jsonl")
    assert not (tmp_path / "scores.jsonl").exists()


def test_enhanced_files_score_as_what_wrote_them(folder, tmp_path):
    dataset, louder = load_pairs(folder / "clean", folder / "noisy"), Louder()
    (tmp_path / "enhanced").mkdir()
    for index in range(len(dataset)):
        item = dataset[index]
        soundfile.write(tmp_path / "enhanced" / f"{item['id']}.wav", louder(item, RATE), RATE, subtype="FLOAT")
    direct, files = run(folder, {"direct": louder, "files": tmp_path / "enhanced"}, processes=1)["systems"][1:]
    assert files["means"] == pytest.approx(direct["means"], rel=1e-4)
    assert files["differences"]["pesq"]["mean"] == pytest.approx(0, abs=1e-3)


def test_a_missing_or_cut_enhanced_file_is_a_failure_of_that_file(folder, tmp_path):
    shutil.copytree(folder / "noisy", tmp_path / "enhanced")
    (tmp_path / "enhanced" / "0.wav").unlink()
    audio, _ = soundfile.read(tmp_path / "enhanced" / "1.wav")
    soundfile.write(tmp_path / "enhanced" / "1.wav", audio[:-1], RATE)
    system = run(folder, {"files": tmp_path / "enhanced"}, processes=1)["systems"][1]
    reasons = {failure["id"]: failure["reason"] for failure in system["failures"]}
    assert "no file" in reasons["0"] and f"{len(audio) - 1} samples" in reasons["1"]


def test_dns_files_are_found_by_fileid(tmp_path):
    soundfile.write(tmp_path / "model_x_fileid_7.wav", np.ones(10) / 2, RATE)
    item = {"id": "fileid_7", "name": "clnsp1_fileid_7", "noisy": np.zeros(10)}
    assert FolderSystem(tmp_path)(item, RATE).shape == (10,)


def test_files_of_sub_folders_are_not_taken_for_one_another(tmp_path):
    for name in ("a/001", "b/001", "c/002"):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / f"{name}.wav", np.full(10, ord(name[0]) / 256), RATE)
    system, item = FolderSystem(tmp_path), {"noisy": np.zeros(10)}
    assert system({**item, "id": "b/001", "name": "001"}, RATE)[0] == pytest.approx(ord("b") / 256)
    for unknown in ("d/001", "d/002"):
        with pytest.raises(AudioError, match=f"no file named {unknown}, expected one"):
            system({**item, "id": unknown, "name": unknown[2:]}, RATE)
    assert system({**item, "id": "002", "name": "002"}, RATE)[0] == pytest.approx(ord("c") / 256)
    soundfile.write(tmp_path / "001.wav", np.zeros(10), RATE)
    assert FolderSystem(tmp_path)({**item, "id": "001", "name": "001"}, RATE)[0] == 0  # and not one of those below


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
