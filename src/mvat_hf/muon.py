"""Muon: steps of matrices in all their directions alike, AdamW for what is no matrix."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# of the odd quintic a x + b x^3 + c x^5, which drives singular values in (0, 1] into about 0.7 to 1.2 in five passes
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
PASSES = 5
RMS_OF_ADAM = 0.2  # of an update in units of the learning rate: weight decay then weighs as it does in AdamW


class Muon(torch.optim.AdamW):
    """
    Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") for the weights of `model` with
    two or more dimensions above 1, convolutions as matrices of their outputs; AdamW for the others.

    A matrix moves by the nearest semi-orthogonal matrix to its Nesterov momentum, times 0.2 sqrt(its longer side) (Liu
    et al. 2025, "Muon is scalable for LLM training"). torch.optim.Muon takes no convolutions and works in bfloat16, on
    a CPU without it for half the time of a training step; this one works in float32.

    Args:
        model: its parameters are trained.
        lr: learning rate of AdamW's parameters.
        matrix_lr: learning rate of the matrices.
        momentum: of the matrices.
        weight_decay: of all but vectors.
        kwargs: as of torch.optim.AdamW, for its parameters.
    """

    def __init__(
        self, model: nn.Module, lr: float, matrix_lr: float, momentum: float = 0.95, weight_decay: float = 0.0, **kwargs
    ):
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if is_matrix(parameter)]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "lr": matrix_lr, "momentum": momentum},
            {"params": [parameter for parameter in trained if parameter.ndim > 1 and not is_matrix(parameter)]},
            {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        super().__init__([group for group in groups if group["params"]], lr=lr, weight_decay=weight_decay, **kwargs)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; it takes the gradients of the matrices away, so that AdamW passes over them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "momentum" in group:
                self.step_matrices(group)
        super().step()
        return loss

    def step_matrices(self, group: dict[str, Any]) -> None:
        """A step of all matrices, those of one shape at once: a GPU spends its time on starting small products."""
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for matrix, gradient in ((matrix, matrix.grad) for matrix in group["params"] if matrix.grad is not None):
            state = self.state[matrix]
            if not state:
                state["step"] = torch.zeros(())  # AdamW looks for it when a state is loaded
                state["momentum"] = torch.zeros_like(matrix)
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            ahead = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
            alike[ahead.shape].append((matrix, ahead))
            matrix.grad = None
        for shape, pairs in alike.items():
            updates = orthogonalise(torch.stack([ahead for _, ahead in pairs]))
            scale = RMS_OF_ADAM * max(shape) ** 0.5
            for (matrix, _), update in zip(pairs, updates, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update.view_as(matrix), alpha=-group["lr"] * scale)


def is_matrix(parameter: Tensor) -> bool:
    """Whether a weight mixes several inputs into several outputs: not a bias, a norm or a depthwise kernel."""
    return parameter.ndim > 1 and min(parameter.shape[:2]) > 1


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices with all their singular values near 1, (..., M, N) to the same, by Newton-Schulz iteration; zeros stay
    zeros."""
    rows, columns = matrices.shape[-2:]
    wide = matrices if rows <= columns else matrices.mT
    wide = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp_min(1e-12)
    a, b, c = COEFFICIENTS
    for _ in range(PASSES):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if rows <= columns else wide.mT


__all__ = ["Muon", "is_matrix", "orthogonalise"]
