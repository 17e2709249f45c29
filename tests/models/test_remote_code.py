"""transformers' Auto classes load a saved folder: with the package by its classes, without it by the code inside."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from mvat_hf import MannerConfig, MannerFeatureExtractor, MannerModel
from mvat_hf.hub import save_checkpoint

STRANGER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "mvat_hf":
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())

from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

folder, work = sys.argv[1:]
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
data = load_file(f"{work}/input.safetensors")
inputs = extractor(data["noisy"], sampling_rate=extractor.sampling_rate, return_tensors="pt")
output = model(**inputs, labels=data["clean"], output_view_features=True)
assert not any(name.split(".")[0] == "mvat_hf" for name in sys.modules)
assert config.attended_levels == (1,) and not model.training
save_file({
    "audio_values": output.audio_values.detach(),
    "loss": output.loss.detach(),
    "local_view": output.view_features["decoder.1"]["local_view"].detach().contiguous(),
}, f"{work}/output.safetensors")
model.save_pretrained(f"{work}/again")
"""


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(seed=1, attention_levels="deepest", sampling_rate=8000)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return save_checkpoint(model, tmp_path_factory.mktemp("hub") / "tiny")


def test_auto_classes_give_the_packages_own(folder, model):
    assert type(AutoConfig.from_pretrained(folder)) is MannerConfig
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert type(extractor) is MannerFeatureExtractor and extractor.sampling_rate == 8000
    loaded = AutoModel.from_pretrained(folder)
    assert type(loaded) is MannerModel
    audio = torch.randn(1, 700)
    assert torch.equal(loaded(audio).audio_values, model(audio).audio_values)


def test_the_code_travels_with_the_weights(folder):
    parts = ("configuration", "modeling", "folded", "feature_extraction", "loss", "snapshot")
    assert all((folder / f"{part}_manner.py").is_file() for part in parts)
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert auto_map == {"AutoConfig": "configuration_manner.MannerConfig", "AutoModel": "modeling_manner.MannerModel"}


def test_the_folder_works_without_the_package(folder, model, tmp_path):
    """In another process, where importing mvat_hf fails: the same output to the bit."""
    clean = torch.randn(2, 1300)
    noisy = clean + 0.3 * torch.randn(2, 1300)
    save_file({"noisy": noisy, "clean": clean}, tmp_path / "input.safetensors")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STRANGER, str(folder), str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    output = load_file(tmp_path / "output.safetensors")
    with torch.no_grad():
        expected = model(noisy, labels=clean, output_view_features=True)
    assert torch.equal(output["audio_values"], expected.audio_values)
    assert torch.equal(output["loss"], expected.loss)
    assert torch.equal(output["local_view"], expected.view_features["decoder.1"]["local_view"])
    # what was saved there loads here
    again, here = load_file(tmp_path / "again" / "model.safetensors"), load_file(folder / "model.safetensors")
    assert again.keys() == here.keys() and all(torch.equal(again[name], here[name]) for name in here)
    assert MannerModel.from_pretrained(tmp_path / "again").config.attended_levels == (1,)
