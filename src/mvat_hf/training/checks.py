"""What the trainers refuse before a run, and at its first step; and what they warn of."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from ..distillation import DistillationMethod
from ..losses.pesq import SAMPLING_RATE as PESQ_RATE
from .arguments import EnhancementConfig

# options of transformers that validation by whole files, and a loss of its own, have no use for; and their defaults
UNUSED: dict[str, Any] = {
    "label_smoothing_factor": 0.0, "per_device_eval_batch_size": 8, "bf16_full_eval": False, "fp16_full_eval": False,
    "batch_eval_metrics": False, "label_names": None, "prediction_loss_only": False, "eval_accumulation_steps": None,
    "include_for_metrics": [],
}  # fmt: skip
# names in a line of the log that no term of a method may have
LOGGED = {"loss", "grad_norm", "learning_rate", "muon_learning_rate", "epoch", "step", "enhancement", "distillation"}


def warn_of_unused(args: TrainingArguments, given: Mapping[str, Any]) -> None:
    """One warning that names the options and arguments that are set and have no effect."""
    unused = [name for name, default in UNUSED.items() if getattr(args, name) != default]
    unused += [name for name in ("preprocess_logits_for_metrics",) if given.get(name) is not None]
    if unused:
        warnings.warn(f"{', '.join(unused)}: without effect here, where whole files are validated", stacklevel=3)


def check_given(args: EnhancementConfig, given: Mapping[str, Any], rate: int) -> None:
    """ValueError where arguments of a trainer contradict its options, or a loss is not defined at the model's `rate`
    (Hz)."""
    optimizer, scheduler = given.get("optimizers") or (None, None)
    chosen = {"optimizers": optimizer, "optimizer_cls_and_kwargs": given.get("optimizer_cls_and_kwargs")}
    for name, value in chosen.items():
        if args.muon_learning_rate > 0 and value is not None:
            raise ValueError(f"muon_learning_rate {args.muon_learning_rate} beside {name}: expected one of them")
    if args.one_cycle and scheduler is not None:
        raise ValueError("one_cycle beside a scheduler in optimizers: expected one of them")
    if (other := getattr(given.get("processing_class"), "sampling_rate", rate)) != rate:
        raise ValueError(f"processing_class, which is saved with the model, must be of {rate} Hz, got {other} Hz")
    train = given.get("train_dataset")
    if args.recalibration_batches > 0 and not (train is None or hasattr(train, "__len__") or hasattr(train, "first")):
        raise ValueError(f"recalibration_batches needs training data with a length, got {type(train).__name__}")
    weights: Any = args.loss_weights
    if weights.get("pesq", 0) > 0 and rate != PESQ_RATE:
        raise ValueError(
            f"loss_weights: pesq is defined at {PESQ_RATE} Hz, the model is at {rate} Hz: leave it out, or train a "
            f"model at {PESQ_RATE} Hz"
        )


def check_trainable(model: nn.Module) -> None:
    """ValueError where a model has no parameters to train, or has them in half precision."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError(
            "the model has no parameter that can be trained: a trainer freezes a teacher in place; expected another "
            "model than the teacher, or model.requires_grad_(True)"
        )
    if half := {parameter.dtype for parameter in trained} & {torch.bfloat16, torch.float16}:
        raise ValueError(
            f"the model has weights of {half.pop()}, in which small steps are lost: load with dtype=torch.float32 "
            "and set bf16=True"
        )


def advice(inputs: Mapping[str, Tensor]) -> str:
    """What to do about a loss of this batch that is no number."""
    for name, side in (("input_values", "noisy"), ("labels", "clean")):
        if not torch.isfinite(inputs[name]).all():
            return f"{name}, the {side} side of the batch, holds NaN or infinity: look at the data"
    return "try a lower one, or a lower max_grad_norm"


def check_batch(inputs: Mapping[str, Any]) -> None:
    """ValueError unless a collator gave the noisy audio and the clean, of one shape."""
    if missing := [name for name in ("input_values", "labels") if name not in inputs]:
        raise ValueError(
            f"the batch has no {' and no '.join(missing)}, expected of the collator input_values (noisy) and labels "
            f"(clean), each (B, T), got {', '.join(inputs) or 'nothing'}"
        )
    noisy, labels = inputs["input_values"], inputs["labels"]
    if labels.shape != noisy.shape:
        raise ValueError(f"labels must have the shape of input_values {tuple(noisy.shape)}, got {tuple(labels.shape)}")


def check_method(method: Any, options: Mapping[str, Any]) -> None:
    """ValueError unless it is a `DistillationMethod`, and `options` (method_kwargs) are none, or its own."""
    if isinstance(method, DistillationMethod):
        if options and dict(method.built_with) != dict(options):
            raise ValueError(
                f"method_kwargs {options} beside an object of {type(method).__name__}: expected one of them, "
                "the object has options of its own"
            )
        return
    if isinstance(method, type):
        raise ValueError(f"method must be an object, got the class {method.__name__}: expected {method.__name__}()")
    got = f'"{method}"' if isinstance(method, str) else f"an object of class {type(method).__name__}"
    raise ValueError(f"method must be a DistillationMethod, got {got}: a name goes into DistillationConfig(method=…)")


def check_terms(method: DistillationMethod, terms: Any, logged: Mapping[str, Any]) -> None:
    """ValueError unless what a method gave are scalars by names that are not `logged` already."""
    name = type(method).__name__
    if not isinstance(terms, Mapping):
        raise ValueError(f"{name} gave an object of class {type(terms).__name__}, expected a mapping of scalars")
    if not terms:
        raise ValueError(f"{name} gave no terms, expected at least one scalar by name")
    for term, value in terms.items():
        if not isinstance(value, Tensor) or value.ndim:
            got = f"the shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"class {type(value).__name__}"
            raise ValueError(f'the term "{term}" of {name} has {got}, expected a tensor of shape (): take its mean')
    if taken := sorted(terms.keys() & (LOGGED | logged.keys())):
        raise ValueError(f"{name} gave a term {', '.join(taken)}, a name that the log has already: choose another")
