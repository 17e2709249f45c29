"""Checkpoints that are wrong, by accident or on purpose: one line, at once, and without the memory they ask for."""

import json
import resource

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file

from mvat_hf import MannerConfig, MannerModel
from mvat_hf.cli import main

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A good checkpoint, to be spoiled."""
    tiny_model().save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def told_by_commands(folder, capsys, *commands) -> list[str]:
    """What the command line says of a checkpoint; each time one line and nothing done."""
    recording = folder.parent / "in.wav"
    soundfile.write(recording, np.zeros(1000), 16000)
    enhance = ["enhance", str(recording), str(folder.parent / "out.wav"), "--model", str(folder)]
    told = []
    for command in commands:
        assert main(enhance if command == "enhance" else ["info", str(folder)]) == 1
        told.append(capsys.readouterr().err)
        assert told[-1].startswith("error: ") and told[-1].count("\n") == 1
    assert not (folder.parent / "out.wav").exists()
    return told


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"num_labels": 10_000_000}, "unknown field num_labels"),
        ({"dtype": "float128"}, "dtype must be one of float32, .*, got float128"),
        ({"dtype": "int8"}, "dtype must be one of .* got int8"),
        ({"dtype": "nn"}, "dtype must be one of .* got nn"),
        ({"dtype": ["float32"]}, "dtype must be one of .* got "),
        ({"__class__": "dict"}, "unknown field __class__"),
        ({"__getattr__": 1}, "unknown field __getattr__"),
        ({"level_channels": 3}, "unknown field level_channels"),
        ({"attended_levels": [0]}, "unknown field attended_levels"),
        ({"per_layer_config": 5}, "unknown field per_layer_config"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "unknown field quantization_config"),
        ({"transformers_weights": "../../other.safetensors"}, "unknown field transformers_weights"),
        ({"fusion_config": {}}, "unknown field fusion_config"),
        ({"attn_implementation": "someone/kernel"}, 'must be "eager" or "sdpa", got someone/kernel'),
        ({"id2label": [1, 2]}, "id2label must be a mapping"),
        ({"sampling_rate": 10**12}, "sampling_rate must be at most 1000000, got 1000000000000"),
        ({"sampling_rate": 1e12}, "sampling_rate.* expected int, got float"),
        ({"hidden_size": 10**30}, "at most 65536 channels"),
        ({"depth": 10**6}, "depth must be at most 16, got 1000000"),
        ({"depth": 16, "hidden_size": 60}, "at most 65536 channels, got 3932160 at depth 16"),
        ({"growth": 10**9}, "growth must be at most"),
        ({"kernel_size": 10**9}, "kernel_size must be at most"),
        ({"segment_len": 10**9}, "segment_len must be at most"),
        ({"num_heads": 10**6}, "num_heads must be at most"),
        ({"attention_levels": [0] * 10**5}, "distinct levels .* got 100000 of them"),
        ({"initializer_scale": float("nan")}, "initializer_scale must be above 0 and finite, got nan"),
        ({"high_pass_hz": 1e-300}, "high_pass_hz must be 0, or at least 1"),
    ],
    ids=lambda given: json.dumps(given)[:40] if isinstance(given, dict) else "",
)
def test_absurd_values_are_one_line(values, says, folder, capsys):
    change_config(folder, **values)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((ValueError, StrictDataclassError), match=says):
        MannerConfig.from_pretrained(folder)
    told_by_commands(folder, capsys, "info", "enhance")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB


def test_fields_that_transformers_writes_are_taken(folder):
    everything = MannerModel.from_pretrained(folder).config.to_dict()
    change_config(folder, **everything | {"torch_dtype": "float32", "name_or_path": "x", "_commit_hash": "y"})
    assert MannerConfig.from_pretrained(folder).hidden_size == 6


@pytest.mark.parametrize("text", ["", "[", "[]", "null", "5", "[" * 100_000, '{"hidden_size":' + "9" * 5000 + "}"])
def test_what_is_no_configuration_is_one_line(text, folder, capsys):
    (folder / "config.json").write_text(text)
    told_by_commands(folder, capsys, "info", "enhance")


def test_nothing_is_built_for_weights_of_another_size(folder, capsys):
    """Of 900 channels in place of 6 a model would take more than 1 GB."""
    change_config(folder, hidden_size=900, depth=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "weights have another shape" in told_by_commands(folder, capsys, "enhance")[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB


def test_a_stranger_in_place_of_a_weight(folder):
    change_weights(folder, lambda weights: weights.update(other=weights.pop("bottleneck.weight")))
    with pytest.raises(OSError, match=r"checkpoint: it lacks 1 weights .* bottleneck.weight for example"):
        MannerModel.from_pretrained(folder)
    change_weights(folder, lambda weights: weights.update({"bottleneck.weight": torch.zeros(24, 24)}))
    with pytest.raises(OSError, match=r"checkpoint: it has 1 weights .* no place for, other for example"):
        MannerModel.from_pretrained(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["bottleneck.weight", "input_norm.running_mean"])
def test_weights_that_are_not_finite(name, value, folder, capsys):
    change_weights(folder, lambda weights: weights[name].flatten().__setitem__(0, value))
    with pytest.raises(OSError, match=f"checkpoint: the weights {name} hold NaN or infinity"):
        MannerModel.from_pretrained(folder)
    told_by_commands(folder, capsys, "enhance")


def test_a_negative_variance(folder):
    change_weights(folder, lambda weights: weights["input_norm.running_var"].neg_())
    with pytest.raises(OSError, match=r"input_norm.running_var hold a negative variance"):
        MannerModel.from_pretrained(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers(dtype, folder, capsys):
    name = "bottleneck.weight"
    change_weights(folder, lambda weights: weights.update({name: weights[name].to(dtype)}))
    with pytest.raises(OSError, match=f"1 weights are integers or the like, {name} for example"):
        MannerModel.from_pretrained(folder)
    told_by_commands(folder, capsys, "enhance")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_numbers_of_any_size_are_taken(dtype, folder):
    def cast(weights):
        weights.update({name: value.to(dtype) for name, value in weights.items() if value.is_floating_point()})

    change_weights(folder, cast)
    assert MannerModel.from_pretrained(folder).output.bias.item() == pytest.approx(0.05, rel=0.01)


def shard(folder) -> dict:
    """The checkpoint in two files, and their index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {name: f"{'ab'[number % 2]}.safetensors" for number, name in enumerate(weights)}
    for file in ("a.safetensors", "b.safetensors"):
        save_file({name: weights[name] for name in names if names[name] == file}, folder / file, {"format": "pt"})
    return {"metadata": {"total_size": 1}, "weight_map": names}


def test_shards_are_one_checkpoint(folder):
    whole = MannerModel.from_pretrained(folder).state_dict()
    (folder / INDEX).write_text(json.dumps(shard(folder)))
    loaded = MannerModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in whole.items())


@pytest.mark.parametrize("outside", ["../{}", "../../{}", "/{}", "sub/{}"])
def test_an_index_stays_in_its_folder(outside, folder, capsys):
    index = shard(folder)
    where = outside.format("b.safetensors") if outside[0] != "/" else str(folder.parent / "b.safetensors")
    (folder / "sub").mkdir()
    (folder / "b.safetensors").rename(folder / where)
    names = index["weight_map"]
    index["weight_map"] = {name: where if file[0] == "b" else file for name, file in names.items()}
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(OSError, match=f"the index names {where}, expected names of files beside it"):
        MannerModel.from_pretrained(folder)
    told_by_commands(folder, capsys, "enhance")


@pytest.mark.parametrize(
    "text", ["", "5", "[]", "{}", '{"metadata": {}, "weight_map": 5}', '{"metadata": 5, "weight_map": {"a": "b"}}',
             '{"metadata": {}, "weight_map": {"a": 5}}', '{"metadata": {}, "weight_map": {"a": ["b"]}}'],
)  # fmt: skip
def test_what_is_no_index_is_one_line(text, folder, capsys):
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text(text)
    with pytest.raises(OSError, match=f"checkpoint: {INDEX} is no index of files"):
        MannerModel.from_pretrained(folder)
    told_by_commands(folder, capsys, "enhance")
