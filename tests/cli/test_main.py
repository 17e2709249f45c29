"""Every `mvat` command refuses an empty path and fails in one line; `convert` and `env` do what they say."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from conftest import error_of
from mvat_hf import __version__
from mvat_hf.cli import main
from mvat_hf.hub.push import save_checkpoint
from mvat_hf.models.manner import MannerConfig, MannerModel


@pytest.mark.parametrize(
    "arguments",
    [
        ["enhance", "", "out"],
        ["enhance", "in", ""],
        ["enhance", "in", "out", "--model", ""],
        ["convert", "", "out"],
        ["info", ""],
        ["export", "model", ""],
        ["push", "", "a/b"],
        ["evaluate", "--data", "dns", "--root", ""],
        ["evaluate", "--data", "pairs", "--clean", "", "--noisy", "n"],
        ["evaluate", "--data", "dns", "--root", "r", "--output", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_refused(arguments, tmp_path, capsys, monkeypatch):
    """As a shell variable that is not set gives it: as a path it would be the working folder."""
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", np.zeros(100), 16000)
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "expected a path, got an empty string" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.wav", "in"]


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"mvat {__version__}\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("no room\nfor so much"), "error: no room for so much"),
        (RuntimeError("no room\nfor so much"), "error: no room for so much"),
        (OverflowError("no room\nfor so much"), "error: no room for so much"),
        (PermissionError(13, "Permission denied", "a.wav"), "error: a.wav: Permission denied"),
        (KeyError("model_type"), "error: KeyError: 'model_type'"),
        (TypeError("no number:\n{}"), "error: TypeError: no number: {}"),
        (MemoryError(), "error: MemoryError"),
        (pickle.UnpicklingError("invalid load key"), "error: UnpicklingError: invalid load key"),
    ],
    ids=str,
)
def test_whatever_goes_wrong_is_one_line(error, told, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr("mvat_hf.utils.records.environment", fail)
    assert main(["env"]) == 1
    assert error_of(capsys) == told


def test_convert_refuses_and_leaves_nothing(tmp_path, capsys):
    (tmp_path / "x.pth").write_bytes(b"nonsense")
    assert main(["convert", str(tmp_path / "x.pth"), str(tmp_path / "out")]) == 1
    assert "x.pth" in error_of(capsys)
    assert not (tmp_path / "out").exists()


def test_convert_does_not_touch_an_existing_folder(tmp_path, checkpoint, capsys):
    model = MannerModel(MannerConfig(hidden_size=6, depth=2))
    with pytest.raises(FileExistsError, match="not an empty folder"):
        save_checkpoint(model, checkpoint)
    assert MannerModel.from_pretrained(checkpoint).config.attention_levels == "deepest"


def test_env_is_json(capsys):
    assert main(["env"]) == 0
    assert "torch" in json.loads(capsys.readouterr().out)["versions"]


def test_env_tells_of_a_small_install_too(capsys, monkeypatch):
    monkeypatch.setattr("mvat_hf.utils.records.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["env"]) == 0
    assert json.loads(capsys.readouterr().out)["machine"]["accelerators"] == []


def test_what_mvat_hf_itself_brings_is_of_no_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mvat_hf.models.complexity", None)
    assert main(["info"]) == 1
    assert error_of(capsys).endswith("is not installed: pip install mvat_hf")


def test_a_reader_that_has_enough_ends_a_command_quietly():
    command = [sys.executable, "-m", "mvat_hf", "env"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (141, "")
