"""Upstream checkpoints: the numbers of upstream's own, every configuration read off the weights, nothing left over."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mvat_hf.models.convert import convert_checkpoint, infer_config, read_upstream

REFERENCES = {
    "upstream_small_hidden12_depth3": (12, 3, (2,)),
    "upstream_base_hidden12_depth2": (12, 2, (0, 1)),
}

# our name -> upstream's, written down by hand from its key lists; inside a level below these
TOP = {
    "input": "in_conv.0",
    "input_norm": "in_conv.1",
    "output": "out_conv.0",
    "bottleneck": "linear.0",
    "mask.content": "mask_gate.output.0",
    "mask.gate": "mask_gate.output_gate.0",
    "mask.out": "mask_gate.mask.0",
}
LEVEL = {
    "down": "down_conv.0",
    "down_norm": "down_conv.1",
    "up": "up_conv.0",
    "up_norm": "up_conv.1",
    "residual.expand": "conv_block.point_conv1.0.conv",
    "residual.expand_norm": "conv_block.point_conv1.1",
    "residual.depthwise.conv": "conv_block.depth_conv.0.conv",
    "residual.depthwise.norm": "conv_block.depth_conv.1",
    "residual.project": "conv_block.point_conv2.0.conv",
    "residual.project_norm": "conv_block.point_conv2.1",
    "residual.out.conv": "conv_block.conv.conv",
    "residual.out.norm": "conv_block.conv.bn",
    "residual.shortcut.conv": "conv_block.shortcut.conv",
    "residual.shortcut.norm": "conv_block.shortcut.bn",
    "attention.branches.0.conv": "attn_block.in_branch0.conv",
    "attention.branches.0.norm": "attn_block.in_branch0.bn",
    "attention.branches.1.conv": "attn_block.in_branch1.conv",
    "attention.branches.1.norm": "attn_block.in_branch1.bn",
    "attention.branches.2.conv": "attn_block.in_branch2.conv",
    "attention.branches.2.norm": "attn_block.in_branch2.bn",
    "attention.channel_view.mlp.0": "attn_block.channel_attn.fc.0",
    "attention.channel_view.mlp.2": "attn_block.channel_attn.fc.2",
    "attention.global_view.query": "attn_block.global_attn.w_qs",
    "attention.global_view.key": "attn_block.global_attn.w_ks",
    "attention.global_view.value": "attn_block.global_attn.w_vs",
    "attention.global_view.out": "attn_block.global_attn.fc",
    "attention.local_view.depthwise.conv": "attn_block.local_attn.depth_conv.0.conv",
    "attention.local_view.depthwise.norm": "attn_block.local_attn.depth_conv.1",
    "attention.local_view.weight.conv": "attn_block.local_attn.conv.conv",
    "attention.local_view.weight.norm": "attn_block.local_attn.conv.bn",
    "attention.refine.0.conv": "attn_block.out_branch0.conv",
    "attention.refine.0.norm": "attn_block.out_branch0.bn",
    "attention.refine.1.conv": "attn_block.out_branch1.conv",
    "attention.refine.1.norm": "attn_block.out_branch1.bn",
    "attention.refine.2.conv": "attn_block.out_branch2.conv",
    "attention.refine.2.norm": "attn_block.out_branch2.bn",
    "attention.join.conv": "attn_block.conv.conv",
    "attention.join.norm": "attn_block.conv.bn",
    "attention.gate.content": "attn_block.output_tanh.0",
    "attention.gate.gate": "attn_block.output_sigmoid.0",
    "attention.gate.out": "attn_block.gate_conv.0",
    "attention.shortcut.conv": "attn_block.shortcut.conv",
    "attention.shortcut.norm": "attn_block.shortcut.bn",
}


def as_upstream(model):
    """The state dict of our model under upstream's names; upstream counts the decoder from the deepest level."""
    state = {}
    for name, value in model.state_dict().items():
        layer, weight = name.rsplit(".", 1)
        found = re.fullmatch(r"(encoder|decoder)\.(\d+)\.(.+)", layer)
        if found:
            side, level = found[1], int(found[2])
            layer = f"{side}.{level if side == 'encoder' else model.config.depth - 1 - level}.{LEVEL[found[3]]}"
        else:
            layer = TOP[layer]
        state[f"manner_block.{layer}.{weight}"] = value
    return state


def save(state, path):
    torch.save({"loss": 0.1, "state_dict": state, "optimizer": {"param_groups": []}}, path)
    return path


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    """
    Of the second of `REFERENCES`, for clones without `../shared`: `shapes` of upstream's weights by name, as JSON;
    `weights`, all of them one after another, float32 as four planes of bytes (the mantissas of matrices rounded to 16
    bits, those of the global attention to 10); `input` (time,) int16 and every fifth sample of upstream's `output`.
    """
    return dict(np.load(Path(__file__).with_name("upstream_base.npz")))


def upstream_state(vectors) -> dict[str, torch.Tensor]:
    weights = np.ascontiguousarray(vectors["weights"].T).view("<f4").ravel()
    state, start = {}, 0
    for name, shape in json.loads(str(vectors["shapes"])).items():
        state[name] = torch.tensor(weights[start : start + np.prod(shape)]).reshape(shape)
        start += np.prod(shape)
        if name.endswith("running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(40)
    assert start == len(weights)
    return state


@torch.no_grad()
def test_parity_with_upstreams_numbers_in_any_clone(vectors, tmp_path):
    state = upstream_state(vectors)
    model = convert_checkpoint(save(state, tmp_path / "upstream.pth"))
    ours = as_upstream(model)
    assert ours.keys() == state.keys() and all(torch.equal(ours[name], state[name]) for name in state)
    output = model(torch.from_numpy(vectors["input"] / np.float32(32768))[None]).audio_values[0, ::5].numpy()
    error = np.abs(output - vectors["output"]).max()
    assert error < 5e-5 * vectors["output"].std()  # 2e-5, of the rounded weights; the mean of the output says nothing


@pytest.mark.parametrize("name", REFERENCES)
@torch.no_grad()
def test_parity_with_upstream(name, shared):
    model = convert_checkpoint(shared / "reference" / f"{name}.pth")
    config = model.config
    assert (config.hidden_size, config.depth, config.attended_levels) == REFERENCES[name]
    assert (config.kernel_size, config.stride, config.growth, config.num_heads, config.segment_len) == (8, 4, 2, 1, 64)
    pairs = np.load(shared / "reference" / f"{name}.npz")
    for number in range(len(pairs.files) // 2):
        expected = pairs[f"output_{number}"][:, 0]
        output = model(torch.from_numpy(pairs[f"input_{number}"][:, 0])).audio_values.numpy()
        assert output.shape == expected.shape
        assert np.abs(output - expected).max() < 1e-5 * expected.std()  # most of it is its mean


@pytest.mark.parametrize("name", REFERENCES)
def test_names_in_this_file_are_upstreams(name, shared):
    path = shared / "reference" / f"{name}.pth"
    state, ours = read_upstream(path), as_upstream(convert_checkpoint(path))
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[key], state[key]) for key in state)


@pytest.mark.parametrize(
    "config",
    [
        {"depth": 2, "attention_levels": "all"},
        {"depth": 3, "attention_levels": "deepest", "hidden_size": 8},
        {"depth": 3, "attention_levels": [0, 2], "growth": 3, "segment_len": 32},
        {"depth": 2, "attention_levels": "all", "num_heads": 2, "kernel_size": 6, "segment_len": 32},
        {"depth": 2, "attention_levels": [0], "num_heads": 3, "segment_len": 16},
        {"depth": 2, "attention_levels": "none"},
        {"depth": 2, "attention_levels": "deepest", "growth": 1, "hidden_size": 9},
    ],
)
@torch.no_grad()
def test_configuration_is_read_off_the_weights(config, tiny_model, tmp_path):
    model = tiny_model(**config)
    converted = convert_checkpoint(save(as_upstream(model), tmp_path / "upstream.pth"))
    assert not converted.training
    for name in type(model.config).__annotations__:
        # where no attention stands, nothing tells the chunk length and heads
        assert getattr(converted.config, name) == getattr(model.config, name), name
    audio = torch.randn(2, 555)
    assert torch.equal(converted(audio).audio_values, model(audio).audio_values)


@torch.no_grad()
def test_the_stride_is_an_argument(tiny_model, tmp_path):
    model = tiny_model(stride=2, kernel_size=4)
    path = save(as_upstream(model), tmp_path / "upstream.pth")
    audio = torch.randn(1, 555)
    assert torch.equal(convert_checkpoint(path, stride=2)(audio).audio_values, model(audio).audio_values)


@pytest.mark.parametrize("form", ["bare", "parallel"])
def test_bare_and_data_parallel_state_dicts(form, tiny_model, tmp_path):
    model = tiny_model()
    state = as_upstream(model)
    if form == "parallel":
        state = {f"module.{name}": value for name, value in state.items()}
    torch.save(state, tmp_path / "upstream.pth")
    converted = convert_checkpoint(tmp_path / "upstream.pth").state_dict()
    assert all(torch.equal(converted[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("encoder.1.attn_block.gate_conv.0.bias", "encoder.1.attention.gate.out.bias"),
        ("decoder.0.conv_block.shortcut.bn.running_var", "decoder.1.residual.shortcut.norm.running_var"),
    ],
)
def test_a_missing_key_is_refused(key, ours, tiny_model, tmp_path):
    state = as_upstream(tiny_model())
    del state[f"manner_block.{key}"]
    with pytest.raises(ValueError, match=rf"1 weights are missing.*{re.escape(ours)}.*0 are not known"):
        convert_checkpoint(save(state, tmp_path / "upstream.pth"))


def test_an_extra_key_is_refused(tiny_model, tmp_path):
    state = as_upstream(tiny_model()) | {"manner_block.encoder.0.extra.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"0 weights are missing.*1 are not known.*encoder\.0\.extra\.weight"):
        convert_checkpoint(save(state, tmp_path / "upstream.pth"))


@pytest.mark.parametrize("key", ["encoder.0.conv_block.shortcut.conv.weight", "mask_gate.mask.0.bias"])
def test_a_wrong_shape_is_refused(key, tiny_model, tmp_path):
    state = as_upstream(tiny_model())
    state[f"manner_block.{key}"] = torch.cat([state[f"manner_block.{key}"]] * 2)
    with pytest.raises(ValueError, match=r"\(\d+.*\), expected \(\d+"):
        convert_checkpoint(save(state, tmp_path / "upstream.pth"))


def test_channels_that_no_growth_explains_are_refused(tiny_model):
    state = as_upstream(tiny_model())
    state["manner_block.linear.0.weight"] = torch.zeros(25, 25)
    with pytest.raises(ValueError, match="give 24 channels at the bottleneck, it has 25"):
        infer_config(state)


def test_files_that_are_no_checkpoint(tmp_path):
    path = tmp_path / "upstream.pth"
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        convert_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        convert_checkpoint(tmp_path)
    for content in (b"", b"\0" * 100, b"<html>404</html>", b'{"a": 1}', b"PK\x03\x04 and no more"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a PyTorch checkpoint"):
            convert_checkpoint(path)


@pytest.mark.parametrize(
    ("saved", "says"),
    [
        ([torch.zeros(1)], "expected a dict"),
        ({"state_dict": [torch.zeros(1)]}, "expected a dict"),
        ({"loss": 0.1, "epoch": 3}, "expected a dict"),
        ({}, "not an upstream MANNER"),
        ({"state_dict": {"conv.weight": torch.zeros(3)}}, "not an upstream MANNER"),
    ],
)
def test_checkpoints_of_something_else(saved, says, tmp_path):
    torch.save(saved, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=says):
        convert_checkpoint(tmp_path / "other.pth")


class Trap:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_code_in_a_checkpoint_is_not_run(tiny_model, tmp_path):
    state = as_upstream(tiny_model()) | {"extra": Trap(tmp_path / "trapped")}
    path = save(state, tmp_path / "upstream.pth")
    with pytest.raises(ValueError, match="weights_only"):
        convert_checkpoint(path)
    assert not (tmp_path / "trapped").exists()
    torch.load(path, weights_only=False)  # the trap itself works
    assert (tmp_path / "trapped").is_dir()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, tiny_model, tmp_path):
    state = as_upstream(tiny_model())
    state["manner_block.mask_gate.mask.0.bias"] = torch.full_like(state["manner_block.mask_gate.mask.0.bias"], value)
    with pytest.raises(ValueError, match=r"upstream\.pth: the weights mask\.out\.bias hold NaN or infinity"):
        convert_checkpoint(save(state, tmp_path / "upstream.pth"))


def test_integers_are_refused(tiny_model, tmp_path):
    state = as_upstream(tiny_model())
    state["manner_block.mask_gate.mask.0.bias"] = state["manner_block.mask_gate.mask.0.bias"].to(torch.int8)
    with pytest.raises(ValueError, match=r"mask\.out\.bias is of type torch\.int8, expected a floating-point one"):
        convert_checkpoint(save(state, tmp_path / "upstream.pth"))
