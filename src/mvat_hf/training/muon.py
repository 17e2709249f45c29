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
        """A step of all matrices, together what is alike: a GPU spends its time on starting small products."""
        matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
        if not matrices:
            return
        gradients = [matrix.grad for matrix in matrices]
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["step"] = torch.zeros(())  # AdamW looks for it when a state is loaded
                self.state[matrix]["momentum"] = torch.zeros_like(matrix)
            matrix.grad = None
        momenta = [self.state[matrix]["momentum"] for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for matrix, ahead in zip(matrices, torch._foreach_lerp(gradients, momenta, group["momentum"]), strict=True):
            alike[ahead.flatten(1).shape].append((matrix, ahead.flatten(1)))
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        for shape, pairs in alike.items():
            moved = [matrix for matrix, _ in pairs]
            directions = orthogonalise(torch.stack([ahead for _, ahead in pairs]))
            updates = [direction.view_as(matrix) for direction, matrix in zip(directions, moved, strict=True)]
            torch._foreach_add_(moved, updates, alpha=-group["lr"] * RMS_OF_ADAM * max(shape) ** 0.5)


def is_matrix(parameter: Tensor) -> bool:
    """Whether a weight mixes several inputs into several outputs: not a bias, a norm or a depthwise kernel."""
    return parameter.ndim > 1 and min(parameter.shape[:2]) > 1


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices with all their singular values near 1, (B, M, N) to the same, by Newton-Schulz iteration; zeros stay
    zeros."""
    rows, columns = matrices.shape[-2:]
    wide = matrices if rows <= columns else matrices.mT
    wide = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp_min(1e-12)
    a, b, c = COEFFICIENTS
    for _ in range(PASSES):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if rows <= columns else wide.mT


__all__ = ["Muon", "is_matrix", "orthogonalise"]
