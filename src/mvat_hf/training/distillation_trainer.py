"""`DistillationTrainer`: trains a student on L_SE and what a distillation method takes from a teacher."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..distillation import DistillationMethod
from ..models.manner import MannerModel, MannerOutput
from .teacher_cache import TargetCache
from .trainer import EnhancementTrainer


class DistillationTrainer(EnhancementTrainer):
    """
    Trains a student on L_SE + beta x the method's distance to a frozen teacher.

    The teacher computes no more than the method reads; on a CPU, on folded weights (`MannerModel.fuse`).

    Args:
        teacher: any `MannerModel`; it is frozen, and never saved or optimised.
        method: what to transfer (`losses.build_method`); None, or a `beta` of 0, is plain training to the bit.
        beta: weight of the method's term.
        teacher_cache: folder to keep what the method reads of the teacher, see `TargetCache`; None keeps nothing.

    Raises:
        ValueError: the method cannot work between this teacher and student, or beta is negative.
    """

    def __init__(
        self,
        model: MannerModel,
        teacher: MannerModel,
        method: DistillationMethod | None,
        beta: float,
        teacher_cache: str | Path | None = None,
        **kwargs,
    ):
        if beta < 0:
            raise ValueError(f"beta must be at least 0, got {beta}")
        self.method = method if beta > 0 else None
        self.beta = beta
        if self.method is not None:
            self.method.check(model.config, teacher.config)
        super().__init__(model=model, **kwargs)
        self.teacher = teacher.requires_grad_(False).eval()
        self.teacher_options: dict[str, Any] = {}
        self.cache: TargetCache | None = None
        if self.method is not None:
            self.teacher_options |= self.method.forward_options
            self.teacher_options["last_level"] = self.method.last_level(model.config, teacher.config)
            if teacher_cache is not None:
                how = {**self.teacher_options, "bf16": self.args.bf16, "fp16": self.args.fp16}
                self.cache = TargetCache(teacher_cache, teacher, self.method, **how)
            if self.args.device.type == "cpu":
                teacher.fuse(torch.bfloat16 if self.args.bf16 else None)
            self.teacher = self.accelerator.prepare_model(self.teacher, evaluation_mode=True)

    def compute_loss(self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch=None):
        options: dict[str, Any] = {} if self.method is None else self.method.forward_options
        return super().compute_loss(model, {**inputs, **options}, return_outputs, num_items_in_batch)

    def total_loss(self, model: nn.Module, inputs: dict, outputs: MannerOutput) -> torch.Tensor:
        if self.method is None:
            return super().total_loss(model, inputs, outputs)
        noisy = inputs["input_values"]
        targets = self.teach(noisy) if self.cache is None else self.cache(noisy, self.teach)
        distance = self.method.distance(outputs, targets)
        enhancement, terms = self.enhancement_loss(inputs, outputs)
        self.note_terms({**terms, "enhancement": enhancement, "distillation": distance})
        return enhancement + self.beta * distance

    @torch.no_grad()
    def teach(self, noisy: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the method reads of the teacher's output for `noisy` (B, T)."""
        method: Any = self.method
        return method.targets(self.teacher(noisy, **self.teacher_options))


__all__ = ["DistillationTrainer"]
