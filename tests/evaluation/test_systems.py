"""What can be evaluated: models, exported ones and folders of enhanced files, found by their names."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from evaluations import RATE, Louder, run, write_pairs
from mvat_hf.acceleration.export import export_onnx
from mvat_hf.acceleration.runtime import OnnxManner
from mvat_hf.data.audio import AudioError
from mvat_hf.data.pairs import load_pairs
from mvat_hf.evaluation.systems import FolderSystem


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path)


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
