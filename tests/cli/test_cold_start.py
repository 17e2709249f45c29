"""What is loaded, and what is not: a command that only talks starts at once, enhancing loads what it uses."""

import json
import subprocess
import sys

import pytest

from mvat_hf import MannerConfig, MannerFeatureExtractor, MannerModel

TELL = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def loaded_by(code: str) -> set[str]:
    """The modules that are there at the end of a program in a process of its own."""
    ended = subprocess.run([sys.executable, "-c", f"{code}\n{TELL}"], capture_output=True, text=True, check=True)
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


def test_enhancing_loads_no_pipelines():
    there = loaded_by("from mvat_hf import enhance, enhance_file, enhance_folder, load_model")
    unused = {"transformers.pipelines", "transformers.image_processing_utils", "onnxruntime", "matplotlib", "datasets"}
    assert "torch" in there and not there & unused


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("saved")
    MannerModel(MannerConfig(hidden_size=6, depth=2)).save_pretrained(folder)
    MannerFeatureExtractor().save_pretrained(folder)
    return str(folder)


AUTO = "AutoConfig, AutoModel, AutoFeatureExtractor, pipeline"


@pytest.mark.parametrize(
    "imports",
    [
        f"import mvat_hf; from transformers import {AUTO}",
        f"from transformers import {AUTO}; import mvat_hf",
        "import mvat_hf, importlib.util; importlib.util.find_spec('transformers'); from transformers import *",
        f"from mvat_hf.models.manner import AudioToAudioPipeline; from transformers import {AUTO}",
        f"import mvat_hf.models.manner.pipeline_manner; from transformers import {AUTO}",
    ],
)
def test_classes_are_registered_in_either_order_of_imports(imports, saved):
    code = f"""
{imports}
for auto in (AutoConfig, AutoModel, AutoFeatureExtractor):
    assert type(auto.from_pretrained({saved!r})).__module__.startswith("mvat_hf.models.manner."), auto
found = pipeline("audio-to-audio", model={saved!r})
assert type(found).__module__ == "mvat_hf.models.manner.pipeline_manner", type(found)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names():
    code = """
import mvat_hf
assert set(mvat_hf.__all__) <= set(dir(mvat_hf))
assert all(name in mvat_hf.__all__ or name.startswith("__") for name in dir(mvat_hf)), dir(mvat_hf)
for name in mvat_hf.__all__:
    assert callable(getattr(mvat_hf, name)) or name == "metrics", name
from mvat_hf.evaluation.evaluating import evaluate
assert mvat_hf.evaluate_systems is evaluate
assert "evaluation" not in dir(mvat_hf)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
