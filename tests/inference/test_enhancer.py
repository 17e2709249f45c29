"""Where models come from: objects, Hub ids, folders and exported files, with one face."""

import numpy as np
import pytest
import soundfile
import torch

from mvat_hf import Enhancer, MannerConfig, MannerModel, StreamingEnhancer, enhance, enhance_file, load_model
from mvat_hf.acceleration.runtime import GraphConfig, OnnxManner
from mvat_hf.inference import enhancer

ID = "mvat/manner-s-8.1gf"


@pytest.fixture
def loads(monkeypatch):
    """What `MannerModel.from_pretrained` is asked for, and what it answers with."""
    asked = []

    def from_pretrained(name, **options):
        asked.append((name, options))
        return MannerModel(MannerConfig(hidden_size=6, depth=2)).to(options.get("dtype", torch.float32))

    monkeypatch.setattr(MannerModel, "from_pretrained", from_pretrained)
    enhancer.load_once.cache_clear()
    yield asked
    enhancer.load_once.cache_clear()


def test_both_kinds_of_model_are_enhancers():
    assert isinstance(MannerModel(MannerConfig(hidden_size=6, depth=2)), Enhancer)
    exported = OnnxManner.__new__(OnnxManner)
    exported.config = GraphConfig(16000, 8, 4, 2, 1e-3)
    assert isinstance(exported, Enhancer) and not isinstance("a name", Enhancer)


def test_an_id_is_loaded_once_in_a_process(loads, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 16000)
    for _ in range(2):
        enhance(ID, np.zeros(1000, np.float32), 16000)
        enhance_file(ID, tmp_path / "a.wav", tmp_path / "b.wav")
        StreamingEnhancer(ID)
    assert loads == [(ID, {})] * 2  # once more to be live, in PyTorch whatever computes elsewhere
    enhance(ID, np.zeros(1000, np.float32), 16000, revision="v1", token="secret")
    enhance(ID, np.zeros(1000, np.float32), 16000, device="cpu")
    assert [options for _, options in loads[2:]] == [{"revision": "v1", "token": "secret"}, {}]
    assert load_model(ID) is not load_model(ID)  # to be changed by whoever asked for it
    enhance(ID, np.zeros(1000, np.float32), 16000)
    assert len(loads) == 6


def test_the_dtype_of_the_model(loads):
    assert load_model(ID, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert load_model(MannerModel(MannerConfig(hidden_size=6, depth=2)), dtype="bfloat16").dtype == torch.bfloat16
    cleaned = enhance(ID, np.zeros(1000, np.float32), 16000, dtype=torch.bfloat16)
    assert cleaned.dtype == np.float32 and loads[-1] == (ID, {"dtype": torch.bfloat16})


def test_of_a_file_the_rate_is_told(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((500, 2)), 22050)
    recording = enhance(MannerModel(MannerConfig(hidden_size=6, depth=2)), tmp_path / "a.wav")
    assert recording["audio"].shape == (2, 500) and recording["sampling_rate"] == 22050
    assert set(recording) == {"audio", "sampling_rate"}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (7, {}, "a folder or a .onnx file, got int"),
        ("x.onnx", {"dtype": "bfloat16"}, "x.onnx computes as it was exported, got dtype torch.bfloat16"),
        ("x.onnx", {"revision": "v1"}, "revision and token are for a Hub id, got x.onnx"),
        (MannerModel(MannerConfig(hidden_size=6, depth=2)), {"token": "t"}, "are for a Hub id, got MannerModel"),
        (ID, {"dtype": "float31"}, "dtype must be one of torch's, such as bfloat16, got float31"),
        (MannerModel(MannerConfig(hidden_size=6, depth=2)), {"dtype": "nn"}, "dtype must be one of torch's"),
    ],
)
def test_what_is_no_model_or_does_not_go_with_it(model, options, message):
    with pytest.raises(ValueError, match=message):
        enhance(model, np.zeros(10), 16000, **options)
