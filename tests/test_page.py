"""What the demo page does with a recording, without a browser; and that a Space installs what the page needs."""

import sys
import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from mvat_hf import app as page
from mvat_hf.app import EXAMPLE, enhance_upload, press
from mvat_hf.cli import main
from mvat_hf.data.audio import AudioError
from mvat_hf.hub.push import save_checkpoint
from mvat_hf.inference.enhancing import enhance, load_model
from mvat_hf.metrics import si_sdr

REPOSITORY = Path(__file__).parents[1]
PATIENCE = 60  # seconds for what takes two on an idle machine


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model()


@pytest.fixture
def wav(tmp_path):
    (tmp_path / "uploads").mkdir()
    path = tmp_path / "uploads" / "my file.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((4410, 2)), 22050)
    return path


@pytest.mark.parametrize(
    ("name", "rate", "channels"), [("a.wav", 8000, 1), ("a.flac", 16000, 1), ("a.aiff", 48000, 2), ("a.wav", 44100, 3)]
)
def test_an_upload_is_what_enhance_gives(model, tmp_path, name, rate, channels):
    audio = 0.1 * np.random.default_rng(0).standard_normal((rate // 2 + 1, channels))
    soundfile.write(tmp_path / name, audio, rate)
    options = {"dry": 0.25, "attenuation_limit": 20.0}
    done = enhance_upload(model, tmp_path / name, tmp_path, max_seconds=60, **options)
    info = soundfile.info(done.audio)
    assert (info.format, info.samplerate, info.channels, info.frames) == ("WAV", rate, channels, len(audio))
    expected = enhance(model, tmp_path / name, **options)["audio"].reshape(channels, -1).T
    np.testing.assert_allclose(soundfile.read(done.audio, always_2d=True)[0], expected.clip(-1, 1), atol=2**-15)
    assert done.seconds == len(audio) / rate
    before, after = (picture.read_bytes() for picture in done.pictures)
    assert before[1:4] == after[1:4] == b"PNG" and before != after


@pytest.mark.filterwarnings("ignore:Only one segment", "ignore:divide by zero")
def test_one_sample_is_enough(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(1), 16000)
    assert soundfile.info(enhance_upload(model, tmp_path / "a.wav", tmp_path / "out", max_seconds=60).audio).frames == 1


def test_too_long_is_refused_before_anything_is_written(model, wav, tmp_path):
    assert enhance_upload(model, wav, tmp_path / "a", max_seconds=0.2).seconds == 0.2
    with pytest.raises(AudioError, match=r"my file.wav lasts 0.2 s, expected at most 0.19 s"):
        enhance_upload(model, wav, tmp_path / "b", max_seconds=0.19)
    assert not (tmp_path / "b").exists()


def test_the_button_gives_files_that_are_gone_when_it_is_done(model, wav):
    answers = press(str(wav), "some/id", 0.0, 100, models={"some/id": model}, max_seconds=60)
    *files, report = next(answers)
    assert "0.20 s of audio in" in report and "real-time factor" in report
    assert [Path(file).name for file in files] == ["my file_enhanced.wav", "before.png", "after.png"]
    np.testing.assert_array_equal(soundfile.read(files[0])[0], soundfile.read(wav)[0])  # wet 0 is the input
    assert list(answers) == []
    assert not any(Path(file).parent.exists() for file in files)


@pytest.mark.parametrize(
    ("content", "limit", "message"),
    [
        (None, 100, "error: no recording yet: record one or drop a file"),
        (b"not audio at all", 100, "error: bad.wav cannot be read as audio: its format is none"),
        (b"", 100, "error: bad.wav is empty (0 bytes), expected audio"),
        ("my file.wav", -1, "error: attenuation_limit must be at least 0 dB, got -1"),
    ],
)
def test_what_is_wrong_is_the_only_answer(model, wav, content, limit, message):
    source = None if content is None else str(wav)
    if isinstance(content, bytes):
        source = str(wav.with_name("bad.wav"))
        Path(source).write_bytes(content)

    [answer] = press(source, "MODEL", 1.0, limit, models={"MODEL": model}, max_seconds=60)
    assert answer[:3] == (None, None, None)
    assert answer[3].startswith(message) and str(wav.parent) not in answer[3]


@pytest.mark.parametrize(
    "name", ["mvat/manner-s-8.1gf", "CHECKPOINT", "GRAPH", "FOLDER", "/nowhere", "", " some/id", None]
)
def test_only_the_hosts_models_can_be_named(model, wav, tmp_path, monkeypatch, name):
    """Whatever else a visitor names is not looked at: neither the Hub, nor files on the server, uploads among them."""
    graph = wav.with_name("uploaded.onnx")
    graph.write_bytes(b"a graph")
    places = {"CHECKPOINT": save_checkpoint(model, tmp_path / "checkpoint"), "GRAPH": graph, "FOLDER": wav.parent}
    named = str(places[name]) if name in places else name
    monkeypatch.setattr(page, "load_model", lambda *_: pytest.fail(f"{named} was loaded"))
    [answer] = press(str(wav), named, 1.0, 100, models={"some/id": model}, max_seconds=60)
    assert answer[:3] == (None, None, None) and answer[3].startswith("error: expected a model of some/id, got ")


def test_the_models_that_the_host_lists_are_offered(monkeypatch):
    served = []
    monkeypatch.setattr(page, "serve", lambda models, **_: served.append(models))
    for listed in ([], ["--model", "a"], ["--model", "a", "--model", "b/c", "--model", "a"]):
        assert main(["demo", *listed]) == 0
    assert served == [["mvat/manner-s-8.1gf"], ["a"], ["a", "b/c"]]


def test_the_example_is_speech_that_the_page_takes(tmp_path):
    clean, noisy = (
        soundfile.read(REPOSITORY / "scripts/demo" / f"sample_{kind}.flac")[0] for kind in ("clean", "noisy")
    )
    done = enhance_upload(load_model("mvat/manner-s-8.1gf"), EXAMPLE, tmp_path, max_seconds=60)
    np.testing.assert_array_equal(soundfile.read(EXAMPLE)[0], noisy)
    assert si_sdr(clean, soundfile.read(done.audio)[0], 16000) > si_sdr(clean, noisy, 16000) + 3


def test_a_long_recording_does_not_hold_up_the_next_visitor(model, wav, monkeypatch):
    pytest.importorskip("gradio", reason="needs gradio")
    from gradio_client import Client, handle_file

    long, taken, finish = wav.rename(wav.with_name("long.wav")), threading.Event(), threading.Event()

    def enhance_slowly(model, source, folder, **options):
        if Path(source).name == long.name:
            taken.set()
            assert finish.wait(PATIENCE)
        return enhance_upload(model, source, folder, **options)

    monkeypatch.setattr(page, "enhance_upload", enhance_slowly)
    monkeypatch.setattr(page, "load_model", lambda _: model)
    built = page.build_page(["some/id"], 60)
    _, address, _ = built.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        first, second = (Client(address, verbose=False, download_files=False) for _ in range(2))
        waiting = first.submit(handle_file(long), "some/id", 1, 100, api_name="/enhance")
        assert taken.wait(PATIENCE)
        answer = second.submit(handle_file(EXAMPLE), "some/id", 1, 100, api_name="/enhance").result(PATIENCE)
        assert "real-time factor" in answer[3] and not waiting.done()
        finish.set()
        assert "real-time factor" in waiting.result(PATIENCE)[3]
    finally:
        finish.set()
        built.close()


def test_without_gradio_the_command_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "error: gradio is not installed: pip install 'mvat_hf[demo]'\n"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_page_that_takes_no_recording_is_refused(seconds, capsys):
    assert main(["demo", "--max-seconds", seconds]) == 1
    assert "--max-seconds must be above 0, got" in capsys.readouterr().err


def test_a_space_installs_what_the_page_needs():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["demo"]
    assert (REPOSITORY / "scripts" / "space" / "requirements.txt").read_text().splitlines() == needed
    front = (REPOSITORY / "scripts" / "space" / "README.md").read_text().split("---")[1]
    python = yaml.safe_load(front)["python_version"]  # the Hub's default is older than the package needs
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]
