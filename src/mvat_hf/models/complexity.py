"""What a model costs: parameters, and floating-point operations counted two ways.

`flops` counts every multiplication and addition of convolutions, linear layers and attention products
(`torch.utils.flop_counter`). `flops_thop` is 2 x MACs as the counter `thop` gives them, the papers' convention: it
counts a transposed convolution at its output length without dividing by the stride (4x too many), and overlooks the
attention products, which are no modules.
"""

from dataclasses import dataclass

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
    Count one forward pass over `seconds` of mono audio; nothing is computed, so it is instant at any size.

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
    with torch.device("meta"):
        blank = MannerModel._from_config(config).eval()
        audio = torch.zeros(1, samples)
    return Complexity(
        parameters=sum(parameter.numel() for parameter in blank.parameters()),
        flops=count_flops(blank, audio),
        flops_thop=count_flops_thop(blank, audio),
    )


@torch.no_grad()
def count_flops(model: MannerModel, audio: torch.Tensor) -> int:
    """Operations of convolutions, matrix products and attention, as PyTorch's own counter finds them."""
    with FlopCounterMode(display=False) as counter, nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        model(audio)
    return counter.get_total_flops()


@torch.no_grad()
def count_flops_thop(model: MannerModel, audio: torch.Tensor) -> int:
    """2 x MACs by the rules of `thop`: convolutions and linear layers by their output, batch norms 4 per element."""
    macs = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            macs += output.numel() * module.in_channels // module.groups * module.kernel_size[0]
        elif isinstance(module, nn.Linear):
            macs += output.numel() * module.in_features
        elif isinstance(module, nn.BatchNorm1d):
            macs += 4 * inputs[0].numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    try:
        model(audio)
    finally:
        for hook in hooks:
            hook.remove()
    return 2 * macs
