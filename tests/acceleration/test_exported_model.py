"""An exported file does what the model does, at every length, through the same chunker, in every runtime."""

import copy
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from exported_graphs import EMBEDDED, INSTALLED, needs_openvino, noisy, relative_error
from mvat_hf import MannerModel, enhance
from mvat_hf.acceleration import export
from mvat_hf.acceleration import runtime as runtime_module
from mvat_hf.acceleration.runtime import OnnxManner
from mvat_hf.utils.records import weights_hash

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def embedded():
    return MannerModel.from_pretrained(EMBEDDED)


@pytest.fixture(scope="module")
def exported(embedded, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert export.export_onnx(embedded, path) < 1e-4
    return path


@pytest.fixture(scope="module")
def small(tiny_model, tmp_path_factory):
    """The file of a small model."""
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    export.export_onnx(tiny_model(attention_levels="deepest"), path)
    return path


@pytest.fixture(scope="module")
def runtimes(exported):
    return {runtime: OnnxManner(exported, runtime) for runtime in INSTALLED}


@pytest.mark.parametrize("length", [1, 2, 3, 20, 85, 1000, 4099, 16000, 47999, 160000])
def test_one_pass_is_the_model_at_every_length(length, embedded, runtimes, speech):
    audio = torch.from_numpy(noisy(length, speech))[None]
    with torch.no_grad():
        expected = embedded(audio).audio_values.numpy()
    for model in runtimes.values():
        for _ in range(2):  # OpenVINO compiles for a length that comes again
            output = model(audio).audio_values.numpy()
            assert output.shape == expected.shape and relative_error(output, expected) < 1e-4


@needs_openvino
def test_openvino_sends_nothing(small):
    """In a process of its own: in that of the tests, another package may have imported it before."""
    code = f"""
import sys
from mvat_hf.acceleration.runtime import OnnxManner
OnnxManner({str(small)!r}, "openvino")
assert "openvino" in sys.modules and sys.modules["openvino_telemetry"] is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_openvino
def test_openvino_keeps_the_lengths_that_came_again(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime_module, "KEPT_LENGTHS", 2)  # each takes a second or more to compile
    model = tiny_model(attention_levels="none")
    export.export_onnx(model, tmp_path / "model.onnx")
    exported = OnnxManner(tmp_path / "model.onnx", "openvino")
    lengths = (1000, 2000, 3000)
    for length in lengths:
        exported(torch.randn(2, length))
    exported(torch.randn(1, 500))
    assert list(exported.graph.by_length) == [model.config.padded_length(length) for length in lengths[1:]]


@needs_openvino
def test_openvino_computes_a_bf16_file_in_bfloat16_where_the_cpu_does(embedded, speech, tmp_path):
    import openvino

    export.export_onnx(embedded, tmp_path / "bf16.onnx", precision="bf16")
    audio = noisy(32000, speech)
    expected = enhance(embedded, audio, 16000)
    assert relative_error(enhance(OnnxManner(tmp_path / "bf16.onnx"), audio, 16000), expected) < 1e-4
    error = relative_error(enhance(OnnxManner(tmp_path / "bf16.onnx", "openvino"), audio, 16000), expected)
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert 1e-4 < error < 0.05
    else:
        assert error < 1e-4


def test_several_chunks_through_the_chunker(embedded, runtimes, speech):
    audio = noisy(25 * 16000 + 1, speech)  # of 10 s each
    expected = enhance(embedded, audio, 16000)
    for model in runtimes.values():
        assert relative_error(enhance(model, audio, 16000), expected) < 1e-4


@pytest.mark.parametrize("device", ["cuda", torch.device("cuda:1"), "mps"])
def test_an_exported_model_is_not_moved_in_silence(device, exported, runtimes):
    for model in (exported, str(exported), runtimes["onnx"]):
        with pytest.raises(ValueError, match=f"runs on the CPU, got device {device}"):
            enhance(model, np.zeros(100, np.float32), 16000, device=device)
    assert enhance(runtimes["onnx"], np.zeros(100, np.float32), 16000, device="cpu").shape == (100,)


def test_an_unknown_runtime_is_told(exported):
    with pytest.raises(ValueError, match="runtime must be one of onnx, openvino, got tensorrt"):
        OnnxManner(exported, "tensorrt")


@pytest.mark.parametrize("runtime", INSTALLED)
def test_one_file_serves_several_threads(runtime, small):
    exported = OnnxManner(small, runtime)
    recordings = [torch.randn(1, length) for length in (1000, 1000, 2000, 3000)]
    expected = [exported(recording).audio_values for recording in recordings]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda audio: [exported(audio).audio_values for _ in range(10)], recordings))
    for several, alone in zip(outputs, expected, strict=True):
        assert all(relative_error(output.numpy(), alone.numpy()) < 1e-5 for output in several)


@pytest.mark.parametrize("runtime", INSTALLED)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_the_same_as_a_spawned_process_needs_it(runtime, copied, small):
    for source in (small, small.read_bytes()):
        model = OnnxManner(source, runtime, "fast")
        twin = copied(model)
        assert twin.made_of == model.made_of and twin.metadata == model.metadata
        audio = torch.randn(1, 1000)
        assert torch.equal(twin(audio).audio_values, model(audio).audio_values)


@pytest.mark.parametrize("runtime", INSTALLED)
def test_signals_come_through_once_models_are_gone(runtime, small):
    """OpenVINO gives signals a stack that goes with what made it."""
    code = f"""
import signal
from mvat_hf.acceleration.runtime import OnnxManner
signal.signal(signal.SIGINT, lambda *_: print("came through"))
models = [OnnxManner({str(small)!r}, {runtime!r}) for _ in range(2)]
while models:
    del models[0]
signal.raise_signal(signal.SIGINT)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "came through\n"), ended.stderr


@pytest.mark.parametrize("runtime", INSTALLED)
def test_the_file_tells_what_it_is(runtime, embedded, runtimes):
    model = runtimes[runtime]
    assert json.loads(model.metadata["config"]) == embedded.config.to_diff_dict()
    assert all(model.config.padded_length(n) == embedded.config.padded_length(n) for n in (1, 20, 85, 16000))
    assert model.metadata["weights_sha256"] == weights_hash(embedded)
    expected = {"sampling_rate": "16000", "depth": "3", "stride": "4", "samples": "any", "precision": "fp32"}
    assert expected.items() <= model.metadata.items()


@pytest.mark.parametrize(("precision", "size", "error"), [("fp16", 0.6, 0.005), ("int8", 0.5, 0.07)])
def test_fewer_bits_are_smaller_and_near(precision, size, error, embedded, exported, speech, tmp_path):
    export.export_onnx(embedded, tmp_path / "small.onnx", precision=precision)
    assert (tmp_path / "small.onnx").stat().st_size < size * exported.stat().st_size
    audio = noisy(32000, speech)
    expected = enhance(embedded, audio, 16000)
    for runtime in INSTALLED:
        output = enhance(OnnxManner(tmp_path / "small.onnx", runtime), audio, 16000)
        assert 1e-5 < relative_error(output, expected) < error
