"""Distillation methods: the terms that a student learns from a teacher.

`attention_transfer`: maps and distances of attention transfer (AT) and multi-view attention transfer (MV-AT) as pure
functions; `base`: the seam where a method plugs in; `activations`: what a method reads of a model. Every other file is
a method, imported here whatever its name.
"""

from importlib import import_module
from pkgutil import iter_modules

from .at import AttentionTransfer
from .attention_transfer import attention_distance, attention_map, attention_transfer, multi_view_attention_transfer
from .base import METHODS, DistillationMethod, Stage, build_method, register
from .mvat import MultiViewAttentionTransfer
from .output import OutputDistillation

for module in iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")
del import_module, iter_modules, module

__all__ = [
    "METHODS",
    "AttentionTransfer",
    "DistillationMethod",
    "MultiViewAttentionTransfer",
    "OutputDistillation",
    "Stage",
    "attention_distance",
    "attention_map",
    "attention_transfer",
    "build_method",
    "multi_view_attention_transfer",
    "register",
]
