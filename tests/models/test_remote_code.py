"""transformers' Auto classes load folders and repos: with the package by its classes, without it by the code inside."""

import json
import pickle
import subprocess
import sys
import sysconfig
import threading
import venv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, BertConfig, BertModel

import mvat_hf
from mvat_hf import MannerConfig, MannerFeatureExtractor, MannerModel, enhance
from mvat_hf.hub.push import save_checkpoint

# what a stranger's Python does not have
ABSENT = ("mvat_hf", "__editable__", "soxr", "soundfile", "_soundfile")

STRANGER = """
import sys
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, pipeline

repo, work, folder = sys.argv[1:]
config = AutoConfig.from_pretrained(repo, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(repo, trust_remote_code=True)
model = AutoModel.from_pretrained(repo, trust_remote_code=True)
data = load_file(f"{work}/input.safetensors")
inputs = extractor(data["noisy"], sampling_rate=extractor.sampling_rate, return_tensors="pt")
output = model(**inputs, labels=data["clean"], output_view_features=True)
assert config.attended_levels == (1,) and not model.training

assert not hasattr(model, "fuse")  # a service of the package

enhance = pipeline("audio-to-audio", model=repo, trust_remote_code=True)
assert pipeline(model=repo, trust_remote_code=True).task == "audio-to-audio"  # as often as one likes, and by itself
options = {"chunk_seconds": 0.05, "overlap_seconds": 0.01}
enhanced = enhance(data["noisy"], **options)
from_folder = pipeline("audio-to-audio", model=folder, trust_remote_code=True)(data["noisy"], **options)
for recording, options in ((f"{work}/input.wav", {}), (data["noisy"], {"sampling_rate": 44100})):
    try:
        enhance(recording, **options)
    except ImportError as error:
        print(error)
assert not any(name.split(".")[0] in ("mvat_hf", "soxr", "soundfile") for name in sys.modules)
save_file({
    "audio_values": output.audio_values.detach(),
    "loss": output.loss.detach(),
    "local_view": output.view_features["decoder.1"]["local_view"].detach().contiguous(),
    "enhanced": torch.from_numpy(enhanced["audio"]),
    "from_folder": torch.from_numpy(from_folder["audio"]),
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


def test_transformers_own_classes_are_as_they_were():
    """They are told of MANNER by `register`; nothing of theirs is replaced, and other models never meet our code."""
    for auto in (AutoConfig, AutoModel, AutoFeatureExtractor):
        loading = auto.from_pretrained
        assert (
            loading.__module__.startswith("transformers.")
            and loading.__func__.__globals__["__name__"][:8] != "mvat_hf."
        )
        assert pickle.loads(pickle.dumps(loading)) == loading
        assert type("Mine", (auto,), {}).from_pretrained.__func__ is loading.__func__


def test_other_models_pass_through_nothing_of_ours(tmp_path):
    """Whatever runs while the Auto classes load a BERT, none of it is of this package."""
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    BertModel(BertConfig(**sizes, vocab_size=8)).save_pretrained(tmp_path)
    passed = set()

    def note(frame, event, _):
        passed.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        loaded = AutoModel.from_pretrained(tmp_path, config=AutoConfig.from_pretrained(tmp_path))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert type(loaded) is BertModel and any("modeling_bert" in name for name in passed)
    ours = str(Path(mvat_hf.__file__).parent)
    assert not [name for name in passed if name.startswith(ours)]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_an_attention_that_a_caller_names_is_accepted(attention, folder, model):
    loaded = AutoModel.from_pretrained(folder, attn_implementation=attention)
    audio = torch.randn(1, 700)
    assert torch.equal(loaded(audio).audio_values, model(audio).audio_values)


def test_the_code_travels_with_the_weights(folder):
    parts = ("configuration", "modeling", "attention", "feature_extraction", "loss", "chunking", "pipeline")
    assert all((folder / f"{part}_manner.py").is_file() for part in parts)
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert auto_map == {"AutoConfig": "configuration_manner.MannerConfig", "AutoModel": "modeling_manner.MannerModel"}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Path:
    """A Python in a venv that has everything this one has but `ABSENT`."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    target = Path(subprocess.run([python, "-c", show], capture_output=True, text=True, check=True).stdout.strip())
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(ABSENT):
            (target / path.name).symlink_to(path)
    return python


def test_a_pushed_repo_works_where_the_package_is_not_installed(hub, hub_user, stranger, folder, model, tmp_path):
    """The same output to the bit, by pipeline to rounding; arrays at the model's rate take no other package."""
    hub.add("tester/tiny", {path.name: path.read_bytes() for path in folder.iterdir()})
    clean = torch.randn(2, 1300)
    noisy = clean + 0.3 * torch.randn(2, 1300)
    save_file({"noisy": noisy, "clean": clean}, tmp_path / "input.safetensors")
    (tmp_path / "input.wav").write_bytes(b"")
    environment = {name: value for name, value in hub_user.items() if name != "PYTHONPATH"}
    command = [stranger, "-c", STRANGER, "tester/tiny", str(tmp_path), str(folder)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pip install soundfile" in done.stdout and "pip install soxr" in done.stdout

    output = load_file(tmp_path / "output.safetensors")
    with torch.no_grad():
        expected = model(noisy, labels=clean, output_view_features=True)
    assert torch.equal(output["audio_values"], expected.audio_values)
    assert torch.equal(output["loss"], expected.loss)
    assert torch.equal(output["local_view"], expected.view_features["decoder.1"]["local_view"])
    expected = enhance(model, noisy, 8000, chunk_seconds=0.05, overlap_seconds=0.01)
    # the package's is on folded weights, and differs by rounding
    assert torch.equal(output["enhanced"], output["from_folder"])
    torch.testing.assert_close(output["enhanced"], expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    # what was saved there loads here
    again, here = load_file(tmp_path / "again" / "model.safetensors"), load_file(folder / "model.safetensors")
    assert again.keys() == here.keys() and all(torch.equal(again[name], here[name]) for name in here)
    assert MannerModel.from_pretrained(tmp_path / "again").config.attended_levels == (1,)
