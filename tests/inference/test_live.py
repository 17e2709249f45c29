"""Live enhancement: what holds for any cut of the stream into blocks, and the command in a pipe."""

import copy
import io
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from mvat_hf import MannerModel
from mvat_hf.acceleration.folding import folded_copy
from mvat_hf.acceleration.incremental import IncrementalManner
from mvat_hf.cli import main
from mvat_hf.data.audio import AudioError
from mvat_hf.hub.push import save_checkpoint
from mvat_hf.inference.enhancer import load_model
from mvat_hf.inference.live import StreamingEnhancer, enhance_pcm
from mvat_hf.metrics import si_sdr
from mvat_hf.models.snapshots import SNAPSHOTS

SAMPLE = Path(__file__).parents[2] / "scripts" / "demo" / "sample_noisy.flac"

SHORT = {"context_seconds": 0.25, "hop_seconds": 0.05, "lookahead_seconds": 0.02}  # 4000, 800 and 320 samples
BOTH_WAYS = pytest.mark.parametrize("incremental", [True, False])


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model()


def noise(*shape):
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def run_stream(live: StreamingEnhancer, audio: np.ndarray, cuts=()) -> np.ndarray:
    parts = [live.feed(block) for block in np.split(audio, cuts, axis=-1)]
    return np.concatenate([*parts, live.flush()], axis=-1)


@torch.no_grad()
def forward(model, audio):
    return model(torch.from_numpy(np.atleast_2d(audio))).audio_values.numpy()


@BOTH_WAYS
@pytest.mark.parametrize("length", [1, 799, 1120, 1121, 9000])
def test_cuts_change_nothing_and_the_length_is_kept(model, length, incremental):
    audio, live = noise(2, length), StreamingEnhancer(model, **SHORT, incremental=incremental)
    whole = run_stream(live, audio)
    assert whole.shape == audio.shape and whole.dtype == np.float32 and np.abs(whole).max() > 1e-3
    for cuts in (range(128, length, 128), [1, 1, 2], [length - 1], [800, 1120, 1600]):
        np.testing.assert_array_equal(run_stream(live, audio, cuts), whole)


@BOTH_WAYS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_what_comes_out_is_float32_whatever_the_model_computes_in(model, dtype, incremental):
    expected = run_stream(StreamingEnhancer(model, **SHORT, incremental=incremental), noise(3000))
    output = run_stream(
        StreamingEnhancer(copy.deepcopy(model).to(dtype), **SHORT, incremental=incremental), noise(3000)
    )
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, atol=0.05 * np.abs(expected).max())


@BOTH_WAYS
def test_a_step_over_all_is_one_pass(model, incremental):
    audio, options = noise(3000), {"context_seconds": 1, "hop_seconds": 0.1, "lookahead_seconds": 0.9}
    live = StreamingEnhancer(model, **options, incremental=incremental)
    np.testing.assert_allclose(run_stream(live, audio, [700]), forward(model, audio)[0], atol=1e-5)


def test_a_hop_of_windows_is_a_pass_over_its_window_faded_in(model):
    audio = noise(9000)
    output = run_stream(StreamingEnhancer(model, **SHORT, incremental=False), audio)
    for end in (1120, 1920, 5920):  # the given hop ends 320 samples before the window does
        window = forward(model, audio[max(end - 4000, 0) : end])[0]
        faded = 0 if end == 1120 else 160
        np.testing.assert_allclose(output[end - 1120 + faded : end - 320], window[-1120 + faded : -320], atol=1e-5)
    # the first 160 samples (10 ms) go over from the pass before to this one
    before, after = forward(model, audio[:1120])[0, 800:960], forward(model, audio[:1920])[0, 800:960]
    rise = np.arange(1, 161) / 161
    np.testing.assert_allclose(output[800:960], before + rise * (after - before), atol=1e-5)


@torch.inference_mode()
def test_a_hop_is_a_step_faded_in(tiny_model):
    """What a step gives out and what the next one fades out, of a model whose filter sees as much as the look-ahead."""
    model, audio = tiny_model(high_pass_hz=70.0), noise(1, 4000)
    output = run_stream(StreamingEnhancer(model, **SHORT), audio)
    network, samples = IncrementalManner(folded_copy(model), 1, 4000), torch.from_numpy(audio)
    first = network.advance(samples[:, :1120], 0, 960).numpy()
    second = network.advance(samples[:, 1120:1920], 800, 1760).numpy()
    last = network.advance(samples[:, 1920:2720], 1600, 2560).numpy()
    rise = np.arange(1, 161) / 161
    np.testing.assert_allclose(output[:, :800], first[:, :800], atol=1e-6)
    faded = first[:, 800:] + rise * (second[:, :160] - first[:, 800:])
    np.testing.assert_allclose(output[:, 800:960], faded, atol=1e-6)
    np.testing.assert_allclose(output[:, 960:1600], second[:, 160:800], atol=1e-6)
    np.testing.assert_allclose(output[:, 1760:2400], last[:, 160:800], atol=1e-6)


def test_incremental_is_near_windows():
    """Of the embedded checkpoint: as near to each other as either is to one pass, or nearer."""
    model = MannerModel.from_pretrained(str(SNAPSHOTS / "manner-s-8.1gf"))
    audio, _ = soundfile.read(SAMPLE, dtype="float32")
    steps, windows = (
        run_stream(StreamingEnhancer(model, 2, 0.25, 0.25, incremental=incremental), audio)
        for incremental in (True, False)
    )
    one_pass = forward(model, audio)[0]
    assert min(si_sdr(windows, steps, 16000), si_sdr(one_pass, steps, 16000)) > 20


@pytest.mark.parametrize("part", ["mask", None])
def test_what_cannot_be_folded_runs_in_windows(tiny_model, part):
    hooked, audio = tiny_model(), noise(3000)
    if part:
        getattr(hooked, part).register_forward_hook(lambda module, inputs, output: 0.5 * output)
    live = StreamingEnhancer(hooked, **SHORT)
    live.feed(audio)
    assert (live.network is None) == bool(part)
    live.restart()
    windows = run_stream(StreamingEnhancer(hooked, **SHORT, incremental=False), audio)
    assert np.allclose(run_stream(live, audio), windows, atol=1e-4) == bool(part)


def test_changed_weights_are_those_of_the_next_stream(tiny_model):
    model, other = tiny_model(), tiny_model(seed=1)
    live, audio = StreamingEnhancer(model, **SHORT), noise(3000)
    expected = [run_stream(StreamingEnhancer(copy.deepcopy(each), **SHORT), audio) for each in (model, other)]
    first = live.feed(audio[:1500])
    model.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(np.concatenate([first, live.feed(audio[1500:]), live.flush()]), expected[0])
    np.testing.assert_array_equal(run_stream(live, audio), expected[1])


@BOTH_WAYS
def test_a_sample_waits_no_longer_than_the_latency(model, incremental):
    live = StreamingEnhancer(model, **SHORT, incremental=incremental)
    assert live.latency == pytest.approx(0.07)
    fed = given = longest = 0
    for block in np.split(noise(5000), 500):
        given += len(live.feed(block))
        fed += len(block)
        longest = max(longest, fed - given)
    assert longest < live.latency * live.rate + len(block) <= longest + 2 * len(block)


@BOTH_WAYS
def test_what_is_held_does_not_grow(model, incremental):
    live = StreamingEnhancer(model, **SHORT, incremental=incremental)
    held = []
    for block in np.split(noise(2, 30000), 60, axis=1):
        live.feed(block)
        held.append(live.held.shape[1])
    assert max(held) <= 4000 + 800 + 500


@BOTH_WAYS
def test_a_flush_begins_anew_and_an_empty_stream_is_empty(model, incremental):
    live = StreamingEnhancer(model, **SHORT, incremental=incremental)
    assert live.flush().shape == (0,)
    first = run_stream(live, noise(2000))
    np.testing.assert_array_equal(run_stream(live, noise(2000)), first)
    assert run_stream(live, noise(2, 100)).shape == (2, 100)


@BOTH_WAYS
def test_silence_and_all_dry(model, tiny_model, incremental):
    options = {**SHORT, "incremental": incremental}
    silent = tiny_model()
    with torch.no_grad():
        silent.output.bias.zero_()
    assert np.abs(run_stream(StreamingEnhancer(silent, **options), np.zeros(3000, dtype=np.float32))).max() < 1e-6
    audio = noise(3000)
    np.testing.assert_allclose(run_stream(StreamingEnhancer(model, **options, dry=1), audio), audio, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"hop_seconds": 0},
        {"lookahead_seconds": -0.1},
        {"context_seconds": 0.06},
        {"context_seconds": float("nan")},
        {"context_seconds": float("inf")},
        {"context_seconds": 1e300},
        {"hop_seconds": -1e300},
        {"dry": 2},
    ],
)
def test_options_out_of_range(model, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        StreamingEnhancer(model, **{**SHORT, **options})


@BOTH_WAYS
def test_unusable_blocks_change_nothing(model, incremental):
    live = StreamingEnhancer(model, **SHORT, incremental=incremental)
    expected = run_stream(live, noise(2000))
    first = live.feed(noise(2000)[:1500])
    for block, message in (
        (np.zeros(3, dtype=np.int16), "floating"),
        (np.zeros((2, 3), dtype=np.float32), "blocks of this stream"),
        (np.full(3, np.nan, dtype=np.float32), "3 NaN"),
        (np.full(3, 1e39), "3 NaN or infinite"),  # in float32
        ([0.0], "list"),
    ):
        with pytest.raises(AudioError, match=message):
            live.feed(block)
    rest = [live.feed(noise(2000)[1500:]), live.flush()]
    np.testing.assert_array_equal(np.concatenate([first, *rest]), expected)


# --- raw samples, and the command ---


def test_a_cut_sample_is_an_error_after_the_whole_ones(model):
    target = io.BytesIO()
    live = StreamingEnhancer(model, **SHORT)
    with pytest.raises(AudioError, match="ends with 1 bytes of a sample, expected 4 \\(f32le\\)"):
        enhance_pcm(live, io.BytesIO(noise(2000).tobytes() + b"\0"), target, "f32le")
    np.testing.assert_array_equal(np.frombuffer(target.getvalue(), "<f4"), run_stream(live, noise(2000)))


HEADS = [
    b"RIFF\x24\x7d\0\0WAVEfmt ",
    b"RF64\xff\xff\xff\xffWAVE", b"FORM\0\0\0\0AIFF", b"fLaC\0\0\0\x22", b"OggS\0\2\0\0", b"ID3\4\0\0\0\0",
    b".snd\0\0\0\x18", b"caff\0\1\0\0", b"\x1a\x45\xdf\xa3\0\0\0\0", b"\0\0\0\x20ftypM4A ",
]  # fmt: skip


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
@pytest.mark.parametrize("head", HEADS)
def test_a_file_is_no_stream(model, head, encoding):
    """As `arecord` without `-t raw` sends it; what comes byte by byte too, and nothing was written."""
    call = {"s16le": "arecord -t raw -f S16_LE", "f32le": "arecord -t raw -f FLOAT_LE"}[encoding]
    for source in (io.BytesIO(head + bytes(40000)), Trickle(head + bytes(400))):
        target = io.BytesIO()
        with pytest.raises(AudioError, match=re.escape(f"PCM: {call} -c 1 -r 16000 | mvat stream --pcm {encoding},")):
            enhance_pcm(StreamingEnhancer(model, **SHORT), source, target, encoding)
        assert not target.getvalue()


class Trickle(io.BytesIO):
    """A byte at a time."""

    def read1(self, size=-1):
        return super().read1(1)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 3000])
def test_a_stream_that_trickles_is_the_stream(model, length):
    audio = noise(length)
    target = io.BytesIO()
    enhance_pcm(StreamingEnhancer(model, **SHORT), Trickle(audio.tobytes()), target, "f32le")
    expected = run_stream(StreamingEnhancer(model, **SHORT), audio)
    np.testing.assert_array_equal(np.frombuffer(target.getvalue(), "<f4"), expected)


@pytest.fixture(scope="module")
def command() -> list[str]:
    return ["stream", *(f"--{name.replace('_', '-')}={value}" for name, value in SHORT.items())]


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> str:
    return str(save_checkpoint(model, tmp_path_factory.mktemp("live") / "checkpoint"))


@pytest.mark.parametrize(
    "arguments, message", [(["--rate", "44100"], "16000 Hz, got --rate 44100"), (["--hop-seconds", "9"], "hop_seconds")]
)
def test_what_the_command_refuses(command, folder, capsys, arguments, message):
    assert main([*command, "--model", folder, *arguments]) == 1
    assert message in capsys.readouterr().err


class Speaker(io.BytesIO):
    """Says 1500 samples, and the rest once a hop of them was given out."""

    def __init__(self, pcm: bytes, heard: io.BytesIO) -> None:
        super().__init__(pcm)
        self.heard = heard

    def read1(self, size=-1):
        if self.tell():
            assert len(self.heard.getvalue()) >= 2 * 800
        return super().read1(2 * 1500)


def near(pcm: bytes, samples: np.ndarray, model) -> bool:
    """Whether `pcm` is what the model makes of samples, but for the rounding."""
    expected = run_stream(StreamingEnhancer(model, **SHORT), (samples / 2**15).astype(np.float32))
    return np.abs(np.frombuffer(pcm, "<i2") - (expected * 2**15)).max() <= 0.51


def test_a_checkpoint_gives_pcm_before_the_input_ends(command, folder, model, monkeypatch):
    samples, target = np.rint(noise(3000) * 2**15).astype("<i2"), io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Speaker(samples.tobytes(), target)))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=target))
    assert main([*command, "--model", folder]) == 0
    assert near(target.getvalue(), samples, model)


@pytest.fixture(scope="module")
def fast(folder) -> str:
    """What starts in an eighth of the time, where there is a runtime for it: an exported model."""
    return str(SNAPSHOTS / "manner-s-2.2gf" / "model.onnx") if find_spec("onnxruntime") else folder


def pipe(arguments: list[str], model: str) -> subprocess.Popen:
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "HF_HUB_OFFLINE": "1"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "mvat_hf", *arguments, "--model", model], env=environment, **streams)


def test_pcm_comes_out_before_the_input_ends(command, fast):
    samples = np.rint(noise(3000) * 2**15).astype("<i2")
    with pipe(command, fast) as process:
        process.stdin.write(samples[:1500].tobytes())
        process.stdin.flush()
        first = process.stdout.read(2 * 800)  # hangs if output waits for the end
        rest, _ = process.communicate(samples[1500:].tobytes())
    assert process.returncode == 0
    assert near(first + rest, samples, load_model(fast))


def test_a_closed_input_is_told(command, folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert main([*command, "--model", folder]) == 1
    assert "from standard input to standard output, and one of them is closed" in capsys.readouterr().err


def test_a_reader_that_leaves_ends_the_command_quietly(command, fast):
    with pipe(command, fast) as process:
        process.stdout.close()
        process.stdin.write(bytes(4000))
        process.stdin.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 141
    assert "Traceback" not in errors and "error" not in errors and "Exception" not in errors
