"""Efficient speech enhancement: MANNER and its students, distilled with multi-view attention transfer (MV-AT).

Importing the package registers its classes with transformers' Auto classes. README.md beside this file tells what is
where.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .models.complexity import complexity
from .models.manner import MannerConfig, MannerFeatureExtractor, MannerModel

if TYPE_CHECKING:
    from . import metrics
    from .acceleration.export import export_onnx
    from .data.dns import load_dns
    from .data.pairs import load_pairs
    from .data.valentini import load_valentini
    from .inference.enhancing import enhance, enhance_file, load_model
    from .inference.folders import enhance_folder
    from .inference.live import StreamingEnhancer
    from .models.resizing import resize
    from .training.arguments import DistillationConfig, EnhancementArguments, EnhancementConfig
    from .training.distillation_trainer import DistillationTrainer
    from .training.trainer import EnhancementTrainer

__version__ = "0.1.0"

# resolved on first use: scoring, data and training pull in libraries that enhancing does not need
_LAZY = {
    "DistillationConfig": "training.arguments",
    "DistillationTrainer": "training.distillation_trainer",
    "EnhancementArguments": "training.arguments",
    "EnhancementConfig": "training.arguments",
    "EnhancementTrainer": "training.trainer",
    "StreamingEnhancer": "inference.live",
    "enhance": "inference.enhancing",
    "enhance_file": "inference.enhancing",
    "enhance_folder": "inference.folders",
    "export_onnx": "acceleration.export",
    "load_dns": "data.dns",
    "load_model": "inference.enhancing",
    "load_pairs": "data.pairs",
    "load_valentini": "data.valentini",
    "metrics": "metrics",
    "resize": "models.resizing",
}

__all__ = [
    "DistillationConfig",
    "DistillationTrainer",
    "EnhancementArguments",
    "EnhancementConfig",
    "EnhancementTrainer",
    "MannerConfig",
    "MannerFeatureExtractor",
    "MannerModel",
    "StreamingEnhancer",
    "complexity",
    "enhance",
    "enhance_file",
    "enhance_folder",
    "export_onnx",
    "load_dns",
    "load_model",
    "load_pairs",
    "load_valentini",
    "metrics",
    "resize",
]
if find_spec("accelerate") is None:  # of the extra `training`: `from mvat_hf import *` gives what works without it
    __all__ = [name for name in __all__ if not _LAZY.get(name, "").startswith("training.")]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_LAZY[name]}", __name__)
    value = module if name == "metrics" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
