"""pipeline("audio-to-audio"): every kind of input gives what `enhance` gives, whatever it is batched with."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

from fake_model import noise
from mvat_hf import MannerModel, enhance
from mvat_hf.models import DEFAULT_MODEL
from mvat_hf.models.manner import AudioToAudioPipeline
from mvat_hf.utils.records import weights_hash


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(seed=3, attention_levels="deepest")


@pytest.fixture(scope="module")
def clean(model):
    return pipeline("audio-to-audio", model=model)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with mono.wav (16 kHz) and stereo.wav (22050 Hz), and the address where it is served."""
    folder = tmp_path_factory.mktemp("audio")
    soundfile.write(folder / "mono.wav", noise(9000), 16000, subtype="FLOAT")
    soundfile.write(folder / "stereo.wav", noise(2, 9000).T, 22050, subtype="FLOAT")
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def check(output, model, audio, rate):
    assert output.keys() == {"audio", "sampling_rate"}
    assert output["sampling_rate"] == rate
    assert output["audio"].dtype == np.float32
    np.testing.assert_array_equal(output["audio"], enhance(model, audio, rate, full_band=False))


def test_the_task_is_registered_and_gives_this_pipeline(clean, model):
    assert type(clean) is AudioToAudioPipeline
    check(clean(noise(5000)), model, noise(5000), 16000)
    assert np.abs(clean(noise(5000))["audio"]).max() > 0.01


def test_without_a_model_it_takes_the_one_that_is_embedded(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    clean = pipeline("audio-to-audio")
    assert weights_hash(clean.model) == weights_hash(MannerModel.from_pretrained(DEFAULT_MODEL))


@pytest.mark.parametrize("name, rate", [("mono.wav", 16000), ("stereo.wav", 22050)])
def test_files_by_path_url_and_bytes(clean, model, files, name, rate):
    folder, address = files
    audio = soundfile.read(folder / name, dtype="float32")[0].T
    for given in (folder / name, str(folder / name), f"{address}/{name}", (folder / name).read_bytes()):
        check(clean(given), model, audio, rate)


def test_joined_streams_are_read_to_the_end_and_what_is_missing_is_told(clean, tmp_path):
    soundfile.write(tmp_path / "a.ogg", noise(16000), 16000)
    joined = 2 * (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "b.ogg").write_bytes(joined)
    for recording in (joined, tmp_path / "b.ogg"):
        assert clean(recording)["audio"].shape == (32000,)
    with pytest.warns(UserWarning, match="the recording is truncated"):
        clean(joined[:-500])


@pytest.mark.parametrize("rate", [8000, 44100])
def test_arrays_and_tensors_at_any_rate(clean, model, rate):
    mono, stereo = noise(5000), noise(2, 5000)
    for audio in (mono, stereo, mono.astype(np.float64)):
        check(clean(audio, sampling_rate=rate), model, audio.astype(np.float32), rate)
        check(clean(torch.from_numpy(audio), sampling_rate=rate), model, audio.astype(np.float32), rate)
        for key in ("array", "raw"):
            for samples in (audio, torch.from_numpy(audio), audio.tolist()):
                check(clean({key: samples, "sampling_rate": rate}), model, audio.astype(np.float32), rate)


def test_integer_pcm_is_scaled(clean, model):
    pcm = np.rint(noise(5000) * 2**15).astype(np.int16)
    check(clean(pcm), model, pcm / np.float32(2**15), 16000)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_batch_is_its_recordings_one_by_one(clean, batch_size):
    """Of unequal lengths, channels and rates: nothing of one reaches another."""
    recordings = [noise(5000), noise(3000, seed=1), noise(5000, seed=2), noise(2, 5000, seed=3)]
    recordings += [{"array": noise(5000, seed=4), "sampling_rate": 8000}, noise(3000, seed=5)]
    together = clean(recordings, batch_size=batch_size)
    assert isinstance(together, list) and len(together) == len(recordings)
    for recording, output in zip(recordings, together, strict=True):
        alone = clean(recording)
        assert output["sampling_rate"] == alone["sampling_rate"]
        np.testing.assert_allclose(output["audio"], alone["audio"], atol=1e-6)


def test_recordings_of_one_length_share_a_pass(clean, monkeypatch):
    seen = []
    forward = clean.model.forward
    monkeypatch.setattr(clean.model, "forward", lambda values: (seen.append(tuple(values.shape)), forward(values))[1])
    clean([noise(5000), noise(3000), noise(2, 5000)], batch_size=3)
    assert seen == [(3, 5000), (1, 3000)]


def test_columns_generators_and_empty_lists(clean, files):
    datasets = pytest.importorskip("datasets")
    folder, _ = files
    column = datasets.Dataset.from_dict({"audio": [str(folder / "mono.wav")] * 2})
    expected = clean(folder / "mono.wav")["audio"]
    for audio in (column, column.cast_column("audio", datasets.Audio(decode=False))):
        outputs = clean(audio["audio"], batch_size=2)
        assert len(outputs) == 2
        np.testing.assert_allclose(outputs[1]["audio"], expected, atol=1e-6)
    lazily = clean(path for path in column["audio"])
    np.testing.assert_array_equal(next(lazily)["audio"], expected)
    assert clean([]) == [] and clean(()) == []


def test_workers_read_each_recording_once(clean):
    audio = [noise(500, seed=seed) for seed in range(3)]
    for given in (audio, (each for each in audio)):
        for one, alone in zip(clean(given, num_workers=2), audio, strict=True):
            np.testing.assert_array_equal(one["audio"], clean(alone)["audio"])


def test_options_are_those_of_enhance(model):
    options = {"chunk_seconds": 0.25, "overlap_seconds": 0.05, "dry": 0.2}
    audio = noise(13000)
    expected = enhance(model, audio, 16000, **options)
    np.testing.assert_array_equal(pipeline("audio-to-audio", model=model)(audio, **options)["audio"], expected)
    np.testing.assert_array_equal(pipeline("audio-to-audio", model=model, **options)(audio)["audio"], expected)
    assert np.abs(expected - enhance(model, audio, 16000)).max() > 1e-3


def test_a_saved_pipeline_is_a_pipeline_again(clean, model, tmp_path):
    clean.save_pretrained(tmp_path)
    again = pipeline("audio-to-audio", model=str(tmp_path))
    assert type(again) is AudioToAudioPipeline
    check(again(noise(5000)), model, noise(5000), 16000)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (3.0, {}, "must be a path, URL, bytes, array.*got float"),
        ([0.1, 0.2], {}, "got float"),
        ({"array": noise(10)}, {}, 'needs "sampling_rate"'),
        ({"path": None, "bytes": None}, {}, 'or "bytes" or "path"'),
        (b"no audio", {}, "the recording cannot be read as audio"),
        (noise(0), {}, r"hold a sample, got \(0,\)"),
        (noise(2, 3, 4), {}, "pass a list"),
        (noise(100, 2), {}, "transpose it"),
        (np.array([0.0, np.nan]), {}, "1 NaN or infinite"),
        (noise(10), {"sampling_rate": 0}, "above 0, got 0"),
        (noise(10), {"dry": 2}, "dry must be from 0 to 1"),
        (noise(10), {"wet": 2}, "unknown option wet"),
    ],
)
def test_bad_input_is_one_line(clean, given, options, message):
    with pytest.raises(ValueError, match=message) as error:
        clean(given, **options)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(clean, files):
    folder, address = files
    with pytest.raises(ValueError, match="sampled at 22050 Hz, got sampling_rate=16000"):
        clean(folder / "stereo.wav", sampling_rate=16000)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.wav"):
        clean(folder / "nowhere.wav")
    with pytest.raises(OSError, match=f"{address}/nowhere.wav cannot be fetched"):
        clean(f"{address}/nowhere.wav")


def test_a_model_that_overflows_is_an_error(tiny_model):
    model = tiny_model(seed=4)
    with torch.no_grad():
        model.output.weight.fill_(torch.finfo(torch.float32).max)
    with pytest.raises(ValueError, match=r"enhanced audio holds \d+ NaN or infinite"):
        pipeline("audio-to-audio", model=model)(noise(100))
