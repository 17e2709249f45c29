"""Statistics of batch norms that are averaged over training batches, and a model that has them for a while.

A running mean over ten small batches or so is noisy, and lags behind the weights while they still move.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from ..utils.records import weights_hash


class Recalibration:
    """Statistics of batch norms over some batches; they are made anew where the weights have moved."""

    def __init__(self) -> None:
        self.statistics: dict[str, Tensor] = {}
        self.of_weights: str | None = None

    def apply(self, model: nn.Module, batches: Callable[[], Iterable[Tensor]], device: torch.device) -> None:
        """Replace the running statistics of `model` by their mean over `batches`, noisy audio (B, T)."""
        weights = weights_hash(nn.ParameterList(model.parameters()))
        if weights == self.of_weights:
            model.load_state_dict(self.statistics, strict=False)
            return
        update_bn(batches(), model, device)
        self.of_weights = weights
        self.statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """After the context every buffer of `model` is as it was before."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name])
