"""The cost of a model: parameters, and floating-point operations counted two ways.

`flops` counts every multiplication and addition of convolutions, linear layers and attention products
(`torch.utils.flop_counter`). `flops_thop` is 2 x MACs as the counter `thop` gives them, the papers' convention: it
counts a transposed convolution at its output length without dividing by the stride (4x too many), counts batch norms,
and leaves out the products of attention, which are no modules.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .manner import MannerConfig, MannerModel


@dataclass(frozen=True)
class Complexity:
    """Cost of one forward pass: `parameters`; `flops`, all of them; `flops_thop`, the papers' convention."""

    parameters: int
    flops: int
    flops_thop: int


def complexity(model: MannerModel | MannerConfig, seconds: float = 4.0) -> Complexity:
    """
    Count one forward pass over `seconds` of mono audio; nothing is computed, so it takes no longer at any size.

    Args:
        model: a model or a configuration.
        seconds: length of the input at the model's sampling rate.

    Raises:
        ValueError: `seconds` is shorter than one sample.
    """
    config = model if isinstance(model, MannerConfig) else model.config
    samples = round(seconds * config.sampling_rate)
    if samples < 1:
        raise ValueError(f"seconds must give at least one sample, got {seconds}")
    return cost_of(config.to_json_string(use_diff=False), samples)


@lru_cache(maxsize=64)
@torch.no_grad()
def cost_of(fields: str, samples: int) -> Complexity:
    """The cost of a configuration in JSON for so many samples; it is counted once, in one pass, and kept."""
    with torch.device("meta"):
        # in float32, whatever the model computes in: the audio below is
        blank = MannerModel._from_config(MannerConfig.from_dict(json.loads(fields)), dtype=torch.float32).eval()
        audio = torch.zeros(1, samples)
    one_kernel = nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH)  # so that its products are seen
    with counting_as_thop(blank) as counted, FlopCounterMode(display=False) as counter, one_kernel:
        blank(audio)
    return Complexity(
        parameters=sum(parameter.numel() for parameter in blank.parameters()),
        flops=counter.get_total_flops(),
        flops_thop=2 * sum(counted),
    )


@contextmanager
def counting_as_thop(model: MannerModel) -> Iterator[list[int]]:
    """MACs of each layer that runs within, by the rules of `thop`: convolutions and linear layers by their output,
    batch norms 4 per element."""
    macs: list[int] = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            macs.append(output.numel() * module.in_channels // module.groups * module.kernel_size[0])
        elif isinstance(module, nn.Linear):
            macs.append(output.numel() * module.in_features)
        elif isinstance(module, nn.BatchNorm1d):
            macs.append(4 * inputs[0].numel())

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    try:
        yield macs
    finally:
        for hook in hooks:
            hook.remove()
