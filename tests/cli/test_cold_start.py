"""What is loaded, and what is not: a command that only talks starts at once, enhancing loads what it uses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mvat_hf import MannerConfig, MannerFeatureExtractor, MannerModel, export_onnx

TELL = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def loaded_by(code: str, folder: Path | None = None) -> set[str]:
    """The modules that are there at the end of a program in a process of its own."""
    command = [sys.executable, "-c", f"{code}\n{TELL}"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=folder)
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_what_only_talks_loads_no_network_library():
    calls = [["--help"], ["--version"], ["enhance", "--help"], ["evaluate", "--help"], ["enhence", "in.wav", "out.wav"]]
    code = f"""
import mvat_hf
from mvat_hf.cli import main
dir(mvat_hf)
for arguments in {[*calls, ["enhance", "nowhere.wav", "out.wav"]]}:
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == (0 if arguments[-1].startswith("--") else 2 if arguments[0] == "enhence" else 1), arguments
"""
    assert not loaded_by(code) & {"torch", "transformers", "numpy", "soundfile", "av"}


def test_the_functions_that_enhance_load_no_network_library():
    there = loaded_by("from mvat_hf import StreamingEnhancer, enhance, enhance_file, enhance_folder, load_model")
    assert not there & {"torch", "transformers", "onnxruntime", "av", "matplotlib", "datasets"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("saved")
    MannerModel(MannerConfig(hidden_size=6, depth=2, attention_levels="none")).save_pretrained(folder)
    MannerFeatureExtractor().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_an_exported_model_is_enhanced_without_torch(runtime, saved, tmp_path):
    """Arrays, files, folders and live audio; av is for what libsndfile does not read."""
    for package in ("onnx", "onnxruntime", *([runtime] if runtime == "openvino" else [])):
        pytest.importorskip(package)
    export_onnx(MannerModel.from_pretrained(saved), tmp_path / "m.onnx")
    soundfile.write(tmp_path / "in.wav", 0.1 * np.random.default_rng(0).standard_normal((9000, 2)), 22050)
    code = f"""
import io, sys, types
import numpy as np
from mvat_hf import StreamingEnhancer, enhance, enhance_file, enhance_folder, load_model
from mvat_hf.cli import main
model = load_model("m.onnx", runtime={runtime!r})
audio = np.random.default_rng(0).standard_normal(3000).astype("float32")
assert isinstance(enhance(model, audio, 16000), np.ndarray)
assert enhance("m.onnx", "in.wav")["audio"].shape == (2, 9000)
enhance_file(model, "in.wav", "file.wav")
assert enhance_folder(model, ".", "out").done
live = StreamingEnhancer(model, 0.1, 0.05, 0.02)
assert len(live.feed(audio)) + len(live.flush()) == 3000
assert main(["enhance", "in.wav", "command.wav", "--model", "m.onnx", "--runtime", {runtime!r}]) == 0
sys.stdin = types.SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(bytes(8000))))
assert main(["stream", "--model", "m.onnx", "--runtime", {runtime!r}]) == 0
print()
"""
    there = loaded_by(code, tmp_path)
    assert {"onnxruntime", runtime} & there and not there & {"torch", "transformers", "av"}


AUTO = "AutoConfig, AutoModel, AutoFeatureExtractor, pipeline"
IMPORT = f"from transformers import {AUTO}"
FOUND = "import mvat_hf, importlib.util; importlib.util.find_spec('transformers'); "
STAR = "from transformers import *"
FILES = ("attention", "configuration", "feature_extraction", "modeling", "auto")
ORDERS = {
    "package first": f"import mvat_hf; {IMPORT}",
    "transformers first": f"{IMPORT}; import mvat_hf",
    "found then star": f"{FOUND}import transformers; transformers.__all__ = {AUTO!r}.split(', '); {STAR}",
    "its pipeline first": f"from mvat_hf.models.manner import AudioToAudioPipeline; {IMPORT}",
    "snapshots first": f"from mvat_hf.models.snapshots import *; {IMPORT}",
    "convert first": f"from mvat_hf.models.convert import *; {IMPORT}",
    **{f"{name} first": f"from mvat_hf.models.manner.{name}_manner import *; {IMPORT}" for name in FILES},
    "file of the pipeline first": f"import mvat_hf.models.manner.pipeline_manner; {IMPORT}",
}
LOADS = """
for auto in (AutoConfig, AutoModel, AutoFeatureExtractor):
    assert type(auto.from_pretrained({saved!r})).__module__.startswith("mvat_hf.models.manner."), auto
found = pipeline("audio-to-audio", model={saved!r})
assert type(found).__module__ == "mvat_hf.models.manner.pipeline_manner", type(found)
"""


@pytest.mark.parametrize("order", ORDERS)
def test_classes_are_registered_in_either_order_of_imports(order, saved, forks):
    ended = forks.run(f"{ORDERS[order]}\n{LOADS.format(saved=saved)}")
    assert ended.status == 0, ended.stderr


@pytest.mark.slow
def test_classes_are_registered_though_all_of_transformers_is_imported(saved, forks):
    ended = forks.run(f"{FOUND}{STAR}\n{LOADS.format(saved=saved)}")
    assert ended.status == 0, ended.stderr


def test_the_public_names(forks):
    code = """
import mvat_hf
assert set(mvat_hf.__all__) <= set(dir(mvat_hf))
assert all(name in mvat_hf.__all__ or name.startswith("__") for name in dir(mvat_hf)), dir(mvat_hf)
for name in mvat_hf.__all__:
    assert callable(getattr(mvat_hf, name)) or name == "metrics", name
from mvat_hf.evaluation.evaluating import evaluate_systems
assert mvat_hf.evaluate_systems is evaluate_systems
assert "evaluation" not in dir(mvat_hf)
"""
    ended = forks.run(code)
    assert ended.status == 0, ended.stderr


def test_enhancing_by_pytorch_loads_no_pipelines(saved, forks):
    ended = forks.run(f"import numpy; from mvat_hf import enhance; enhance({saved!r}, numpy.zeros(999), 16000)\n{TELL}")
    assert ended.status == 0, ended.stderr
    there = set(json.loads(ended.stdout))
    unused = {"transformers.pipelines", "transformers.image_processing_utils", "onnxruntime", "matplotlib", "datasets"}
    assert "mvat_hf.models.manner.modeling_manner" in there and not there & unused
