"""`mvat enhance` keeps what it should of a file or folder, and ends without half a file however it ends."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from transformers.utils import logging

from conftest import error_of
from mvat_hf.cli import main
from mvat_hf.inference import writing
from mvat_hf.models.manner import MannerModel
from mvat_hf.models.snapshots import SNAPSHOTS

FAST = str(SNAPSHOTS / "manner-s-2.2gf")  # whose graph is there: a command starts in a tenth of the time without torch


def test_enhance_a_file_keeps_rate_channels_and_length(checkpoint, wav, tmp_path):
    assert main(["enhance", str(wav), str(tmp_path / "out.wav"), "--model", checkpoint]) == 0
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.samplerate, info.channels, info.frames) == (22050, 2, 4410)


def test_a_command_shows_no_bars_of_transformers(checkpoint, wav, tmp_path, capsys):
    logging.enable_progress_bar()
    assert main(["enhance", str(wav), str(tmp_path / "out.wav"), "--model", checkpoint]) == 0
    assert "Loading weights" not in capsys.readouterr().err


def test_enhance_dry_gives_the_input_back(checkpoint, wav, tmp_path):
    assert main(["enhance", str(wav), str(tmp_path / "out.wav"), "--model", checkpoint, "--dry", "1"]) == 0
    before, after = soundfile.read(wav)[0], soundfile.read(tmp_path / "out.wav")[0]
    assert np.abs(before - after).max() <= 2**-15


def test_enhance_with_and_without_what_lies_above_8_khz(checkpoint, wav, tmp_path):
    outputs = []
    for name, arguments in {"whole.wav": [], "same.wav": ["--full-band"], "low.wav": ["--no-full-band"]}.items():
        assert main(["enhance", str(wav), str(tmp_path / name), "--model", checkpoint, *arguments]) == 0
        outputs.append(soundfile.read(tmp_path / name)[0])
    whole, same, low = outputs
    np.testing.assert_array_equal(whole, same)
    assert np.abs(whole - low).max() > 1e-3


def test_enhance_a_folder_goes_on_past_a_broken_file(checkpoint, wav, tmp_path, capsys):
    folder = tmp_path / "folder" / "sub"
    folder.mkdir(parents=True)
    wav.rename(folder / "good.wav")
    (folder / "bad.wav").write_bytes(b"not audio at all")
    assert main(["enhance", str(tmp_path / "folder"), str(tmp_path / "out"), "--model", checkpoint]) == 1
    assert [path.name for path in (tmp_path / "out").rglob("*.wav")] == ["good.wav"]
    assert "bad.wav" in capsys.readouterr().err


def test_processes_that_accelerate_launches_share_a_folder(checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    for name in "abc":
        soundfile.write(tmp_path / "in" / f"{name}.wav", np.zeros(1000), 16000)
    command = ["enhance", str(tmp_path / "in"), str(tmp_path / "out"), "--model", checkpoint, "--resume"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert main(command) == 0
    assert main([*command, "--shard", "0/2"]) == 0
    counts = [line[:21] for line in capsys.readouterr().out.splitlines()]
    assert counts == ["2 files enhanced, 0 f", "1 files enhanced, 0 f", "0 files enhanced, 0 f"]
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_processes_that_were_launched_together_fail_together(tmp_path):
    (tmp_path / "in").mkdir()
    for name, seconds in (("a", 2), ("b", 1)):
        soundfile.write(tmp_path / "in" / f"{name}.wav", np.zeros(16000 * seconds), 16000)
    (tmp_path / "in" / "bad.wav").write_bytes(b"no audio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    meeting["MVAT_RUNTIME"] = "auto"
    command = [sys.executable, "-m", "mvat_hf", "enhance", "in", "out", "--model", FAST]
    processes = [
        subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, **meeting, "RANK": rank}, text=True, stdout=subprocess.PIPE
        )
        for rank in "01"
    ]
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [line[:26] for line in printed] == ["1 files enhanced, 1 failed", "1 files enhanced, 0 failed"]
    assert [process.returncode for process in processes] == [1, 1]  # the second waited for the first and its failure


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.wav", "OUT", "--model", "MODEL"], "no such file or folder: nowhere.wav"),
        (["IN", "OUT", "--model", "MODEL", "--dry", "2"], "dry"),
        (["IN", "OUT", "--model", "nobody/nothing"], "nobody/nothing"),
        (["IN", "IN", "--model", "MODEL"], "source itself"),
        (["NAN", "OUT", "--model", "MODEL"], "NaN"),
        (["IN", "OUT", "--model", "BROKEN"], "the weights output.bias hold NaN or infinity"),
        (["IN", "OUT", "--model", "MODEL", "--shard", "0/2"], "--shard is for a folder, got"),
        (["IN", "OUT", "--model", "MODEL", "--resume"], "--resume is for a folder, got"),
        (["IN", "OUT", "--model", "MODEL", "--batch-size", "2"], "--batch-size is for a folder, got"),
        (["IN", "OUT", "--model", "manner-s"], "manner-s is a preset, which has no weights"),
        (["IN", "OUT", "--model", "IN"], "is a file, expected a checkpoint folder"),
        (["IN", "FOLDER/x.sd2", "--model", "MODEL"], "target must end in one of .wav"),
        (["FAST", "FOLDER/x.ogg", "--model", "MODEL"], "at 384000 Hz: expected at most 255 channels and 200000 Hz"),
        (["PIPE", "OUT", "--model", "MODEL"], "pipe is a pipe, expected a file"),
        (["/dev/null", "OUT", "--model", "MODEL"], "/dev/null is a device"),
        (["IN", "/dev/null", "--model", "MODEL"], "/dev/null"),
        (["IN", "OUT", "--runtime", "onnx", "--device", "cuda"], "--runtime onnx runs on the CPU, got --device cuda"),
    ],
)
def test_enhance_bad_input(arguments, message, checkpoint, wav, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.0]), 16000, subtype="FLOAT")
    broken = MannerModel.from_pretrained(checkpoint)
    broken.output.bias.data[0] = np.nan
    broken.save_pretrained(tmp_path / "broken")
    soundfile.write(tmp_path / "fast.wav", np.zeros(100), 384000)
    os.mkfifo(tmp_path / "pipe")
    named = {
        "FOLDER/x.sd2": tmp_path / "new" / "x.sd2",
        "FOLDER/x.ogg": tmp_path / "new" / "x.ogg",
        "FAST": tmp_path / "fast.wav",
        "PIPE": tmp_path / "pipe",
        "BROKEN": tmp_path / "broken",
        "IN": wav,
        "NAN": tmp_path / "nan.wav",
        "OUT": tmp_path / "new" / "out.wav",
        "MODEL": checkpoint,
    }
    assert main(["enhance", *(str(named.get(argument, argument)) for argument in arguments)]) == 1
    assert message in error_of(capsys)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("shard", ["1", "3/2", "2/2", "-1/2", "a/b", "0/0", "1/2/3"])
def test_a_shard_that_is_none_is_refused(shard, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["enhance", "in", "out", f"--shard={shard}"])
    assert caught.value.code == 2
    assert f"expected I/N, part I of N from 0, got {shard}" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_ended_leaves_nothing_half_written(number, checkpoint, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "in.wav", np.zeros(64000), 16000)

    def end(*_):
        assert list(tmp_path.glob(".*.partial"))
        signal.raise_signal(number)

    monkeypatch.setattr(writing.PlainOutput, "write", end)
    before = signal.signal(number, signal.SIG_DFL)  # whatever nohup left to these tests
    try:
        with pytest.raises(SystemExit) as caught:
            main(["enhance", str(tmp_path / "in.wav"), str(tmp_path / "out.wav"), "--model", checkpoint])
    finally:
        signal.signal(number, before)
    assert caught.value.code == 128 + number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "in.wav"]


@pytest.mark.parametrize("arguments", [["IN", "OUT"], ["FOLDER", "OUT"], ["nowhere", "OUT"]])
def test_signal_handlers_are_put_back(arguments, checkpoint, wav, tmp_path):
    def ours(*_):
        raise AssertionError

    named = {"IN": wav, "FOLDER": tmp_path, "OUT": tmp_path / "out"}
    before = {number: signal.signal(number, ours) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        main(["enhance", *(str(named.get(argument, argument)) for argument in arguments), "--model", checkpoint])
        assert all(signal.getsignal(number) is ours for number in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_command_runs_in_any_thread(checkpoint, wav, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        command = ["enhance", str(wav), str(tmp_path / "out.wav"), "--model", checkpoint]
        assert pool.submit(main, command).result() == 0


@pytest.mark.parametrize("size", ["0", "-1", "x", "1.5"])
def test_a_batch_that_is_none_is_refused(size, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["enhance", "in", "out", f"--batch-size={size}"])
    assert caught.value.code == 2
    assert f"'--batch-size': expected a number of at least 1, got {size}" in capsys.readouterr().err


def test_a_failure_names_its_file_once(checkpoint, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.wav").write_bytes(b"no audio")
    assert main(["enhance", str(tmp_path / "in"), str(tmp_path / "out"), "--model", checkpoint]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed")]
    assert line.count("bad.wav") == 1


def test_a_file_goes_into_a_folder_under_a_name_that_can_be_written(checkpoint, wav, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    wav.rename(tmp_path / "in.sd2")
    assert main(["enhance", str(tmp_path / "in.sd2"), str(tmp_path / "out"), "--model", checkpoint]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'in.wav'}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["in.wav"]


@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-8:strict"])
def test_a_name_in_another_alphabet_is_printed(encoding, wav, tmp_path):
    """By a terminal that knows no such letter: a name in Latin-1."""
    target = os.path.join(os.fsencode(tmp_path), b"caf\xe9.wav")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "MVAT_RUNTIME": "auto"}
    command = [sys.executable, "-m", "mvat_hf", "enhance", str(wav), target, "--model", FAST]
    ended = subprocess.run(command, env=environment, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert os.path.exists(target) and b"caf" in ended.stdout


def test_a_hangup_that_nohup_ignores_stays_ignored(checkpoint, wav, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["enhance", str(wav), str(tmp_path / "out.wav"), "--model", checkpoint]) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
