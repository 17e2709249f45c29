"""The configuration: presets, strictness, levels, saving, and the padded length against real convolutions."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from mvat_hf import MannerConfig, MannerModel
from mvat_hf.models.manner import PRESETS

# hidden, depth, attended levels: the table of the design
TABLE = {
    "manner-b": (60, 4, (0, 1, 2, 3)),
    "manner-l": (120, 4, (0, 1, 2, 3)),
    "manner-s": (60, 4, (3,)),
    "manner-s-20.3gf": (48, 3, (2,)),
    "manner-s-8.1gf": (30, 3, (2,)),
    "manner-s-5.3gf": (24, 3, (2,)),
    "manner-s-2.2gf": (15, 3, (2,)),
}


@pytest.mark.parametrize("name", TABLE)
def test_preset(name):
    config = MannerConfig.from_preset(name)
    assert (config.hidden_size, config.depth, config.attended_levels) == TABLE[name]
    assert (config.kernel_size, config.stride, config.growth, config.num_heads) == (8, 4, 2, 1)
    assert (config.segment_len, config.sampling_rate, config.initializer_scale) == (64, 16000, 0.1)


def test_every_preset_is_in_the_table():
    assert set(PRESETS) == set(TABLE)


def test_preset_overrides_leave_the_preset_alone():
    assert MannerConfig.from_preset("manner-s", depth=3, num_heads=2).attended_levels == (2,)
    assert MannerConfig.from_preset("manner-s").depth == 4


def test_unknown_preset_lists_the_known():
    with pytest.raises(ValueError) as caught:
        MannerConfig.from_preset("manner-xl")
    assert "manner-xl" in str(caught.value)
    assert all(name in str(caught.value) for name in PRESETS)


# Every error names the field, the value it got and, for a range, what was expected.
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"hidden_size": "60"}, ("hidden_size", "int", "'60'")),
        ({"hidden_size": 60.0}, ("hidden_size", "int", "60.0")),
        ({"depth": True}, ("depth", "int", "True")),
        ({"attention_levels": None}, ("attention_levels", "None")),
        ({"attention_levels": [0, 1.5]}, ("attention_levels", "1.5")),
        ({"attention_levels": 2}, ("attention_levels", "2")),
        ({"sampling_rate": 16000.0}, ("sampling_rate", "int", "16000.0")),
        ({"initializer_scale": "0.1"}, ("initializer_scale", "'0.1'")),
        ({"hidden_size": 0, "attention_levels": "none"}, ("hidden_size", "at least 1", "got 0")),
        ({"depth": 0}, ("depth", "at least 1", "got 0")),
        ({"stride": -4}, ("stride", "at least 1", "got -4")),
        ({"growth": 0, "attention_levels": "none"}, ("growth", "at least 1", "got 0")),
        ({"num_heads": 0}, ("num_heads", "at least 1", "got 0")),
        ({"sampling_rate": 0}, ("sampling_rate", "at least 1", "got 0")),
        ({"kernel_size": 3}, ("kernel_size", "stride (4)", "got 3")),
        ({"segment_len": 63}, ("segment_len", "even", "got 63")),
        ({"segment_len": 0}, ("segment_len", "at least 2", "got 0")),
        ({"initializer_scale": 0}, ("initializer_scale", "above 0", "got 0")),
        ({"high_pass_hz": -1}, ("high_pass_hz", "at least 1", "got -1")),
        ({"high_pass_hz": 4000.0, "sampling_rate": 8000}, ("high_pass_hz", "below half", "4000 Hz", "got 4000.0")),
        ({"attention_levels": "top"}, ("attention_levels", '"deepest"', '"top"')),
        ({"attention_levels": [0, 4]}, ("attention_levels", "0 to 3", "[0, 4]")),
        ({"attention_levels": [-1]}, ("attention_levels", "0 to 3", "[-1]")),
        ({"attention_levels": (1, 1)}, ("attention_levels", "distinct", "[1, 1]")),
        ({"hidden_size": 5}, ("at least 6 channels", "level 0 has 5", "hidden_size (5)")),
    ],
)
def test_wrong_values_are_refused(values, says):
    with pytest.raises(StrictDataclassError) as caught:
        MannerConfig(**values)
    message = str(caught.value)
    assert all(part in message for part in says), message


def test_few_channels_are_fine_where_no_attention_stands():
    assert MannerConfig(hidden_size=1, attention_levels="deepest", depth=4).attended_levels == (3,)
    assert MannerConfig(hidden_size=1, attention_levels="none").attended_levels == ()


@pytest.mark.parametrize(
    ("levels", "attended"),
    [("all", (0, 1, 2)), ("deepest", (2,)), ("none", ()), ([], ()), ([2, 0], (0, 2)), ((1,), (1,)), ((2, 1), (1, 2))],
)
def test_attended_levels(levels, attended):
    assert MannerConfig(depth=3, attention_levels=levels).attended_levels == attended


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"attention_levels": [0, 2], "depth": 3, "hidden_size": 6, "num_heads": 2, "segment_len": 32},
        {"attention_levels": (1,), "depth": 2, "growth": 3, "kernel_size": 6, "stride": 3, "sampling_rate": 8000},
        {"attention_levels": [], "initializer_scale": 1, "high_pass_hz": 62.5},
    ],
)
def test_save_and_load(values, tmp_path):
    config = MannerConfig(**values)
    config.save_pretrained(tmp_path)
    loaded = MannerConfig.from_pretrained(tmp_path)
    assert type(loaded) is MannerConfig
    assert loaded.attended_levels == config.attended_levels
    for name in MannerConfig.__annotations__:
        if name != "attention_levels":  # JSON has lists only
            assert getattr(loaded, name) == getattr(config, name), name
    for name in values:
        if name != "attention_levels":
            assert getattr(loaded, name) == values[name], name


def test_a_wrong_value_in_a_saved_file_is_refused(tmp_path):
    MannerConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"depth": 4', '"depth": 0'))
    with pytest.raises(StrictDataclassError, match="depth must be at least 1, got 0"):
        MannerConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (None, "no config.json, or an empty one"),
        ("{}", "no config.json, or an empty one"),
        ("[1, 2]", "expected the fields of a configuration, got a list"),
        ('{"model_type": "bert"}', "expected a model_type 'manner', got model_type 'bert'"),
        ('{"hidden_size": 6}', "got model_type None"),
    ],
)
@pytest.mark.parametrize("load", [MannerConfig.from_pretrained, MannerModel.from_pretrained])
def test_what_is_no_manners_configuration_is_refused(content, got, load, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(OSError) as caught:
        load(tmp_path)
    assert got in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_misspelt_argument_is_refused():
    for make in (MannerConfig, lambda **values: MannerConfig.from_preset("manner-b", **values)):
        with pytest.raises(ValueError, match=r"unknown field hiden_size in a MANNER configuration, expected .*hidden_"):
            make(hiden_size=30)


def convolved(config: MannerConfig, length: int) -> int:
    """Length that real (transposed) convolutions give back, 0 where the input is too short for them."""
    frames = torch.zeros(1, 1, length)
    for _ in range(config.depth):
        if frames.shape[-1] < config.kernel_size:
            return 0
        frames = nn.functional.conv1d(frames, torch.zeros(1, 1, config.kernel_size), stride=config.stride)
    for _ in range(config.depth):
        frames = nn.functional.conv_transpose1d(frames, torch.zeros(1, 1, config.kernel_size), stride=config.stride)
    return frames.shape[-1]


@pytest.mark.parametrize(
    ("depth", "kernel_size", "stride", "longest"), [(1, 8, 4, 60), (2, 8, 4, 180), (3, 5, 3, 200), (2, 4, 4, 80)]
)
def test_padded_length_is_the_shortest_that_convolutions_reproduce(depth, kernel_size, stride, longest):
    config = MannerConfig(depth=depth, kernel_size=kernel_size, stride=stride, attention_levels="none")
    reproduced = [length for length in range(1, 2 * longest + 200) if convolved(config, length) == length]
    for length in range(1, longest + 1):
        assert config.padded_length(length) == min(fine for fine in reproduced if fine >= length)


@pytest.mark.parametrize("name", ["manner-b", "manner-s-8.1gf"])
@pytest.mark.parametrize("length", [1, 4000, 16000, 64000, 64001])
def test_padded_length_of_presets(name, length):
    config = MannerConfig.from_preset(name)
    padded = config.padded_length(length)
    step = config.stride**config.depth  # between two reproducible lengths
    assert convolved(config, padded) == padded == config.padded_length(padded)
    assert length <= padded < length + step or padded == config.padded_length(1)
