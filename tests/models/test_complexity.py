"""Cost: the table of the design, the paper's ratios, and rules by which any count must scale."""

import pytest
import torch
from torch import nn

import mvat_hf
from mvat_hf import MannerConfig, MannerModel, complexity

# thousands of parameters, GFLOPs of 4 s as thop counts, GFLOPs truly; as printed in the design
TABLE = {
    "manner-b": ("24069", "62.1", "76.8"),
    "manner-l": ("95499", "237.5", "244.8"),
    "manner-s": ("21254", "38.4", "27.0"),
    "manner-s-20.3gf": ("3447", "20.3", "15.0"),
    "manner-s-8.1gf": ("1381", "8.18", "6.10"),
    "manner-s-5.3gf": ("902", "5.34", "4.01"),
    "manner-s-2.2gf": ("380", "2.21", "1.69"),
}


def printed(value: float, like: str) -> str:
    """`value` with as many decimals as `like`."""
    return f"{value:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize("name", TABLE)
def test_table(name):
    cost, row = complexity(MannerConfig.from_preset(name)), TABLE[name]
    got = (cost.parameters / 1e3, cost.flops_thop / 1e9, cost.flops / 1e9)
    assert tuple(printed(value, like) for value, like in zip(got, row, strict=True)) == row


def test_ratios_of_the_paper():
    baseline, student = (complexity(MannerConfig.from_preset(name)) for name in ("manner-s", "manner-s-8.1gf"))
    assert f"{baseline.parameters / student.parameters:.2f}" == "15.39"
    assert f"{baseline.flops_thop / student.flops_thop:.2f}" == "4.70"
    assert f"{baseline.flops / student.flops:.2f}" == "4.43"


def test_model_and_configuration_cost_the_same(tiny_model):
    model = tiny_model()
    cost = complexity(model, seconds=0.1)
    assert cost == complexity(model.config, seconds=0.1)
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_costs_the_same_in_any_type(dtype, tiny_model):
    model = tiny_model()
    assert complexity(tiny_model().to(dtype), seconds=0.1) == complexity(model, seconds=0.1)
    config = MannerConfig(**{**tiny_model().config.to_dict(), "dtype": dtype})
    assert complexity(config, seconds=0.1) == complexity(model, seconds=0.1)


def test_counting_leaves_the_model_alone(tiny_model):
    model = tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    complexity(model, seconds=0.1)
    assert model.training and next(model.parameters()).device.type == "cpu"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def seconds_of(config: MannerConfig, deepest: int) -> float:
    """A length without padding that has `deepest` frames at the bottleneck."""
    frames = deepest
    for _ in range(config.depth):
        frames = (frames - 1) * config.stride + config.kernel_size
    return frames / config.sampling_rate


def test_without_global_attention_cost_grows_linearly():
    """Every frame of every layer costs the same, so equal steps in length are equal steps in cost."""
    config = MannerConfig(hidden_size=4, depth=2, attention_levels="none")
    costs = [complexity(config, seconds=seconds_of(config, deepest)) for deepest in (100, 200, 300)]
    assert len({cost.parameters for cost in costs}) == 1
    for name in ("flops", "flops_thop"):
        first, second, third = (getattr(cost, name) for cost in costs)
        assert third - second == second - first > 0


def test_attention_products_grow_quadratically_and_thop_overlooks_them():
    config = MannerConfig(hidden_size=6, depth=1, segment_len=4)
    costs = [complexity(config, seconds=seconds_of(config, deepest)) for deepest in (100, 200, 300, 400)]
    true, thop = ([getattr(cost, name) for cost in costs] for name in ("flops", "flops_thop"))
    curvature = [[line[n + 2] - 2 * line[n + 1] + line[n] for n in range(2)] for line in (true, thop)]
    assert curvature[0][0] == curvature[0][1] > 0
    assert curvature[1] == [0, 0]


def test_a_network_counted_by_hand():
    """Depth 1, hidden 2, without attention: every layer of the design with its output length."""
    config = MannerConfig(hidden_size=2, depth=1, attention_levels="none")
    below = 10
    above = (below - 1) * 4 + 8

    def residual(inside, outside):  # 1x1 to 2I, depthwise 31, 1x1 to O, 1x1 to O, shortcut
        return inside * 2 * inside + inside * 31 + inside * outside + outside * outside + inside * outside

    at_rate = 2 * 3 + 3 * 2 * 2 + 2 * 3  # input, mask, output
    macs = at_rate * above + (2 * 2 * 8 + residual(2, 4) + 4 * 4 + residual(4, 2)) * below
    norms_above, norms_below = 2 + 2, 2 + (4 + 2 + 4 + 4 + 4) + (8 + 4 + 2 + 2 + 2)  # channels
    cost = complexity(config, seconds=above / 16000)
    assert cost.flops == 2 * (macs + 2 * 2 * 8 * below)
    assert cost.flops_thop == 2 * (macs + 2 * 2 * 8 * above + 4 * (norms_above * above + norms_below * below))
    assert cost.parameters == sum(weight.numel() for weight in MannerModel(config).parameters())


@pytest.mark.parametrize("seconds", [0, 1e-5, -1.0])
def test_less_than_a_sample_is_refused(seconds):
    with pytest.raises(ValueError, match=f"at least one sample, got {seconds}"):
        complexity(MannerConfig(hidden_size=6, depth=1), seconds=seconds)


def test_one_sample_is_enough():
    config = MannerConfig(hidden_size=6, depth=1)
    assert complexity(config, seconds=1 / 16000) == complexity(config, seconds=config.padded_length(1) / 16000)


def test_gradients_stay_on():
    complexity(MannerConfig(hidden_size=6, depth=1), seconds=0.01)
    assert torch.is_grad_enabled() and nn.Linear(1, 1).weight.device.type == "cpu"


def test_the_name_is_the_function():
    assert mvat_hf.complexity is complexity
