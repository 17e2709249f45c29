"""Which runtime a checkpoint runs in, where its graph comes from, and that the result is PyTorch's."""

import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec

import numpy as np
import pytest

from mvat_hf import MannerModel, enhance, load_model
from mvat_hf.acceleration import export, graph_cache, runtime_choice
from mvat_hf.acceleration.runtime import OnnxManner
from mvat_hf.cli import main
from mvat_hf.hub.push import save_checkpoint
from mvat_hf.inference import exported_checkpoints
from mvat_hf.inference.checkpoints import find_checkpoint, in_folder
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.records import weights_hash

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LARGE = "manner-s-20.3gf"  # of which the package has no graph
EMBEDDED = sorted(path for path in SNAPSHOTS.iterdir() if path.is_dir() and path.name != LARGE)
NOISE = (0.1 * np.random.default_rng(0).standard_normal(9000)).astype(np.float32)
UNMEASURED = runtime_choice.instructions() not in runtime_choice.measured()["speed"]


@pytest.fixture
def automatic(monkeypatch, tmp_path):
    """Nothing is told, and nothing cached; the folder of the cache."""
    monkeypatch.delenv("MVAT_RUNTIME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(exported_checkpoints, "choose_runtime", lambda *_: "onnx")
    return tmp_path / "cache" / "mvat_hf"


@pytest.fixture
def folder(tiny_model, tmp_path):
    """Without attention, which takes four fifths of an export."""
    return save_checkpoint(tiny_model(attention_levels="none"), tmp_path / "checkpoint")


def check_parity(model, folder):
    assert isinstance(model, OnnxManner)
    expected = enhance(MannerModel.from_pretrained(folder), NOISE, 16000)
    assert np.abs(enhance(model, NOISE, 16000) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("embedded", EMBEDDED, ids=lambda path: path.name)
def test_the_graph_in_the_package_is_of_the_weights_beside_it(embedded):
    """`mvat export FOLDER FOLDER/model.onnx` makes it anew."""
    graph = OnnxManner(embedded / graph_cache.GRAPH)
    assert graph.metadata["checkpoint_sha256"] == in_folder(embedded).sha256()
    assert graph.metadata["weights_sha256"] == weights_hash(MannerModel.from_pretrained(embedded))
    check_parity(graph, embedded)


@pytest.mark.skipif(UNMEASURED, reason="PyTorch is chosen on this CPU")
@pytest.mark.parametrize("model", ["mvat/manner-s-8.1gf", str(SNAPSHOTS / "manner-s-8.1gf")])
def test_the_default_takes_neither_torch_nor_transformers(model, automatic, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    code = f"""
import sys
import numpy
from mvat_hf import enhance
assert enhance({model!r}, numpy.zeros(5000, "float32"), 16000).shape == (5000,)
print(sorted({{"torch", "transformers"}} & {{*sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    assert done.stderr.count("using the one in mvat_hf") == (model.startswith("mvat/"))
    assert not automatic.exists()


def test_a_checkpoint_is_exported_once(automatic, folder, monkeypatch):
    check_parity(load_model(folder), folder)
    [cached] = automatic.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(export, "export_onnx", lambda *_, **__: pytest.fail("exported again"))
        check_parity(load_model(folder), folder)
    cached.write_bytes(b"no graph at all")
    check_parity(load_model(folder), folder)
    assert [cached] == list(automatic.iterdir()) and cached.stat().st_size > 1000


def test_a_graph_of_other_weights_or_of_fewer_bits_is_not_taken(automatic, folder, tiny_model):
    other = save_checkpoint(tiny_model(seed=1, attention_levels="none"), folder.parent / "other")
    assert main(["export", str(other), str(other / "model.onnx")]) == 0
    shutil.copy(other / "model.onnx", folder)
    check_parity(load_model(folder), folder)
    check_parity(load_model(other), other)
    assert main(["export", str(folder), str(folder / "model.onnx"), "--precision", "int8"]) == 0
    assert load_model(folder).metadata["precision"] == "fp32"
    assert len(list(automatic.iterdir())) == 1  # that of `other` lay beside it


def test_what_the_network_computes_is_hashed_and_nothing_else(folder):
    before = find_checkpoint(folder).sha256()
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"transformers_version": "', '"transformers_version": "9'))
    assert find_checkpoint(folder).sha256() == before
    (folder / "config.json").write_text(config.replace('"high_pass_hz": 0', '"high_pass_hz": 70'))
    assert find_checkpoint(folder).sha256() != before


def test_the_cache_does_not_grow_for_ever(automatic, folder, monkeypatch):
    monkeypatch.setattr(graph_cache, "KEPT_GRAPHS", 2)
    automatic.mkdir(parents=True)
    for name in "abc":
        (automatic / f"{name}.onnx").touch()
    load_model(folder)
    assert len(list(automatic.iterdir())) == 2 and graph_cache.cached_graph(find_checkpoint(folder).sha256()).exists()


def test_a_cache_that_cannot_be_written_is_done_without(automatic, folder):
    automatic.parent.write_text("a file in its place")
    check_parity(load_model(folder), folder)


def test_a_runtime_that_fails_leaves_pytorch_with_a_word(automatic, folder, monkeypatch):
    def fail(*_):
        raise RuntimeError("no such instruction")

    monkeypatch.setitem(exported_checkpoints.OnnxManner.__init__.__globals__["RUNTIMES"], "onnx", fail)
    with pytest.warns(UserWarning, match=r"is run by PyTorch, as ONNX Runtime failed: .*no such instruction"):
        assert isinstance(load_model(folder), MannerModel)
    with pytest.raises(ValueError, match="no such instruction"):
        load_model(folder, runtime="onnx")


def test_what_graphs_cannot_do_stays_with_pytorch(automatic, folder, tiny_model, monkeypatch):
    everywhere = save_checkpoint(tiny_model(), folder.parent / "everywhere")
    half = save_checkpoint(tiny_model(attention_levels="none").half(), folder.parent / "half")
    with warnings.catch_warnings(action="error"):
        for model in (everywhere, half):
            assert isinstance(load_model(model), MannerModel)
        assert isinstance(load_model(folder, dtype="bfloat16"), MannerModel)
        assert isinstance(load_model(folder, "meta"), MannerModel)
        model = load_model(folder, runtime="torch")
        assert load_model(model) is model and isinstance(model, MannerModel)
        check_parity(load_model(model, runtime="onnx"), folder)
        monkeypatch.setattr(exported_checkpoints, "find_spec", lambda name: None if name == "onnx" else find_spec(name))
        assert isinstance(load_model(folder), MannerModel)
    with pytest.raises(ValueError, match="runtime onnx runs on the CPU in float32, got device cuda"):
        load_model(folder, "cuda", "onnx")
    with pytest.raises(ValueError, match="runtime must be auto, torch, onnx or openvino, got tensorrt"):
        load_model(folder, runtime="tensorrt")


def test_the_command_tells_what_computes(automatic, folder, tmp_path, capsys):
    import soundfile

    soundfile.write(tmp_path / "in.wav", NOISE, 16000)
    for options, told in (([], "ONNX Runtime, float32"), (["--runtime", "torch"], "PyTorch")):
        command = ["enhance", str(tmp_path / "in.wav"), str(tmp_path / "out.wav"), "--model", str(folder), *options]
        assert main([*command, "--verbose"]) == 0
        assert capsys.readouterr().err == f"{folder}: {told}\n"
        assert main(command) == 0
        assert capsys.readouterr().err == ""
        assert main([*command, "--precision", "fast"]) == 0  # may be less than exact: it says what it is
        assert capsys.readouterr().err.startswith(f"{folder}: ")


BOTH = {"onnxruntime", "openvino"}


@pytest.mark.parametrize(
    ("there", "cpu", "options", "expected"),
    [
        (BOTH, "AVX512", {}, "onnx"),
        (BOTH, "AVX2", {"seconds": runtime_choice.LONG_SECONDS}, "openvino"),
        (BOTH, "AVX512", {"fast": True}, "openvino"),
        (BOTH, "AVX2", {"fast": True}, "onnx"),
        ({"openvino"}, "AVX2", {}, "openvino"),
        ({"onnxruntime"}, "AVX512", {"fast": True, "seconds": 1e6}, "onnx"),
        (set(), "AVX512", {}, "torch"),
        (BOTH | {"torch", "transformers"}, "aarch64", {"fast": True}, "torch"),
        (BOTH, "aarch64", {}, "onnx"),  # the small install, on a CPU that was not measured
    ],
)
def test_the_choice(there, cpu, options, expected, monkeypatch):
    monkeypatch.delenv("MVAT_RUNTIME")
    monkeypatch.setattr(runtime_choice, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr(runtime_choice, "instructions", lambda: cpu)
    monkeypatch.setattr(runtime_choice, "has_bfloat16", lambda: cpu == "AVX512")
    assert runtime_choice.choose_runtime(**options) == expected
    monkeypatch.setenv("MVAT_RUNTIME", "torch")
    assert runtime_choice.choose_runtime(**options) == "torch"
    monkeypatch.setenv("MVAT_RUNTIME", "tensorrt")
    with pytest.raises(ValueError, match="MVAT_RUNTIME must be auto, torch, onnx or openvino, got tensorrt"):
        runtime_choice.choose_runtime(**options)


def weights_of(name: str) -> str:
    """Those that are loaded by id, in a process of the user."""
    import os

    os.environ["MVAT_RUNTIME"] = "onnx"
    model = load_model(name, runtime="onnx")
    assert isinstance(model, OnnxManner)
    return model.metadata["weights_sha256"]


def test_the_hub_comes_first_then_its_cache(hub, at_home, folder):
    embedded = OnnxManner(SNAPSHOTS / "manner-s-8.1gf" / graph_cache.GRAPH).metadata["weights_sha256"]
    assert at_home(weights_of, "mvat/manner-s-8.1gf") == embedded  # the Hub has none
    hub.add("mvat/manner-s-8.1gf", {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    expected = weights_hash(MannerModel.from_pretrained(folder))
    assert at_home(weights_of, "mvat/manner-s-8.1gf") == expected
    hub.repos.clear()
    assert at_home(weights_of, "mvat/manner-s-8.1gf") == expected


def test_without_a_home_the_graph_in_the_package_is_taken(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(graph_cache.Path, "home", no_home)
    embedded = SNAPSHOTS / "manner-s-2.2gf"
    key = in_folder(embedded).sha256()
    assert graph_cache.find_graph(key, [embedded], "onnx") is not None
    assert graph_cache.find_graph(key, [], "onnx") is None
