"""Which models may run on a folded copy of their weights, and the copy that fits the weights they have now."""

import inspect
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .folded import FoldedManner, Levels
from .training_layers import PLAIN

# of a model: the values that it was folded from, and the copy
COPIES: WeakKeyDictionary[nn.Module, tuple[Tensor, FoldedManner]] = WeakKeyDictionary()
FOLDING = threading.Lock()  # one thread folds, the others wait for its copy
# methods that say what a MannerModel computes
COMPUTING = ("__call__", "forward", "high_passed", "normalize", "estimate")
SIZES = ("hidden_size", "depth", "attended_levels", "kernel_size", "stride", "growth", "num_heads", "segment_len")

Kind = tuple[str, str]  # module and name of a class: remote code may define the same one twice


def fuse(model: Any, dtype: torch.dtype | None = None) -> Any:
    """
    Let evaluation passes without gradients run on a folded copy of the weights, several times faster on CPUs.

    Parameters, what is saved, and passes that want gradients stay as they are; outputs differ by rounding. The copy
    follows changes of the weights. Where a part of the model was replaced or has a hook, passes stay as they are too.
    `model.unfuse()` undoes it, and so does `model.train()`.

    Args:
        model: a `MannerModel`, which is given back.
        dtype: that the folded copy computes in, None for the model's own; input and output audio keep theirs.

    Raises:
        ValueError: the model is in training mode, or a weight is NaN or infinite.
    """
    if model.training:
        raise ValueError("fuse() is for evaluation, and the model is in training mode: call model.eval() first")
    folded_copy(model, dtype or model.dtype)
    model.fast_estimate = FoldedEstimate(dtype)
    return model


@dataclass(frozen=True)
class FoldedEstimate:
    """Replaces `MannerModel.estimate`, on a folded copy in `dtype` (None: the model's own) if there is one.

    Autocast is off in it: it would turn a convolution into bfloat16 that oneDNN prepares without end.
    """

    dtype: torch.dtype | None = None

    def __call__(
        self, model: Any, normalized: Tensor, inside: bool, last_level: int | None
    ) -> tuple[Tensor | None, Levels]:
        copy = folded_copy(model, self.dtype or model.dtype)
        if copy is None:
            return model.estimate(normalized, last_level)
        with torch.autocast(normalized.device.type, enabled=False):
            return copy.estimate(normalized, inside, last_level)


def folded_pass(model: Any, audio: Tensor) -> Tensor | None:
    """Audio (B, T) through `model` on folded weights, on a CPU; None if it must run as it is (`unknown_part`)."""
    copy = folded_copy(model) if model.device.type == "cpu" else None
    if copy is None:
        return None
    normalized, scale = model.normalize(audio)
    with torch.autocast("cpu", enabled=False):
        return copy(normalized)[..., : audio.shape[-1]] * scale


def folded_copy(model: Any, dtype: torch.dtype | None = None) -> FoldedManner | None:
    """
    A copy of `model` in evaluation with folded weights, for any thread; None if it must run as it is (`unknown_part`).

    It is made anew when a weight or statistic has another value than it was made from, however that came about. Who
    has it may go on with it: nothing changes it.

    Args:
        dtype: that the copy computes in; None for what `model.fuse` was told, or else the model's own.

    Raises:
        ValueError: a weight or statistic is NaN or infinite.
    """
    if unknown_part(model) is not None:
        return None
    if dtype is None:
        dtype = getattr(getattr(model, "fast_estimate", None), "dtype", None) or model.dtype
    weights = flat_weights(model)
    if (copy := known_copy(model, dtype, weights)) is not None:
        return copy
    with FOLDING:
        copy = known_copy(model, dtype, weights)
        if copy is None:
            with torch.inference_mode(False), torch.no_grad():
                copy = FoldedManner(model, dtype, tiled=model.device.type == "cpu")
            find_at_once(copy)
            COPIES[model] = weights, copy
        return copy


def find_at_once(copy: nn.Module) -> None:
    """Let layers and weights be plain attributes too: PyTorch looks through three lists, hundreds of times a live step,
    of which that is a twenty-fifth."""
    for part in copy.modules():
        vars(part).update({**part._buffers, **part._modules})


def known_copy(model: nn.Module, dtype: torch.dtype, weights: Tensor) -> FoldedManner | None:
    """The copy that was made of `weights` in `dtype`, if it is the latest."""
    folded_from, copy = COPIES.get(model, (None, None))
    if folded_from is None or copy is None or copy.dtype != dtype:
        return None
    alike = folded_from.dtype == weights.dtype and folded_from.device == weights.device
    return copy if alike and torch.equal(folded_from, weights) else None


@torch.no_grad()
def flat_weights(model: nn.Module) -> Tensor:
    """All that folding reads of a model, one value after another."""
    own = (tensor for module in model.modules() for tensor in own_tensors(module).values())
    return torch.cat([tensor.flatten() for tensor in own if tensor is not None and tensor.is_floating_point()])


def unknown_part(model: nn.Module) -> str | None:
    """What in `model` is not as `MannerModel` makes it, so that folded weights would be another model; None if all is.

    For example an adapter, a quantised or parametrised layer, a hook, or an overridden forward.
    """
    made = manner_class(type(model))
    if made is None:
        return f"the model is a {type(model).__name__}"
    modules, layout = dict(model.named_modules()), layout_of(made, *(getattr(model.config, name) for name in SIZES))
    if modules.keys() != layout.keys():
        return f"{min(modules.keys() ^ layout.keys())} is a part too many or too few"
    devices = set()
    for name, module in modules.items():
        kind, options, shapes = layout[name]
        state, tensors = vars(module), own_tensors(module)
        if name and kind_of(type(module)) != kind:
            return f"{name} is a {type(module).__name__}"
        if state["_forward_hooks"] or state["_forward_pre_hooks"] or forward_replaced(module):
            return f"{name or 'the model'} has a hook, or a forward of its own"
        if any(state.get(option) != value for option, value in options):
            return f"{name} has other options"
        if {key: tensor if tensor is None else tensor.shape for key, tensor in tensors.items()} != shapes:
            return f"{name} has other weights"
        for tensor in tensors.values():
            if type(tensor) not in (nn.Parameter, Tensor, type(None)):
                return f"{name} has weights that are a {type(tensor).__name__}"
            devices |= set() if tensor is None else {tensor.device}
    return None if len(devices) == 1 else "the model is spread over devices"


def forward_replaced(module: nn.Module) -> bool:
    """Whether a module computes by another forward than its class's. Accelerate's `unwrap_model` leaves that one on it,
    without decorators."""
    forward, of_class = vars(module).get("forward"), type(module).forward
    if forward is None:
        return False
    usual = getattr(forward, "__func__", None) in (of_class, inspect.unwrap(of_class))
    return not usual or forward.__self__ is not module


def own_tensors(module: nn.Module) -> dict[str, Tensor | None]:
    """Parameters and buffers by name, without those of the layers inside."""
    return {**module._parameters, **module._buffers}


def manner_class(kind: type) -> Any:
    """`MannerModel` as `kind` knows it, if `kind` is that or computes by its methods; else None."""
    for made in kind.__mro__:
        if made.__module__.rpartition(".")[2] == "modeling_manner" and made.__qualname__ == "MannerModel":
            return made if all(getattr(kind, name) is getattr(made, name) for name in COMPUTING) else None
    return None


def kind_of(kind: type) -> Kind:
    """Convolutions for training compute what they stand for."""
    plain = PLAIN.get(kind, kind)
    return plain.__module__, plain.__qualname__


@lru_cache(maxsize=16)
def layout_of(made: Any, *sizes: Any) -> dict[str, tuple[Kind, list[tuple[str, Any]], dict[str, torch.Size | None]]]:
    """By name of each part of a model of those sizes: its class, what it was made with, the shapes of its weights."""
    by_name = dict(zip(SIZES, sizes, strict=True))
    config = made.config_class(attention_levels=by_name.pop("attended_levels"), **by_name)
    with torch.device("meta"):
        blank = made(config)
    parts = {}
    for name, module in blank.named_modules():
        shapes = {key: tensor if tensor is None else tensor.shape for key, tensor in own_tensors(module).items()}
        parts[name] = kind_of(type(module)), options_of(module) if name else [], shapes
    return parts


def options_of(module: nn.Module) -> list[tuple[str, Any]]:
    """Numbers and words that a layer was made with, but for those that evaluation does not depend on."""
    plain = (bool, int, float, str, tuple)
    return [
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, plain) and name[0] != "_" and name not in ("training", "momentum")
    ]


__all__ = ["fuse", "folded_copy", "folded_pass", "unknown_part"]
