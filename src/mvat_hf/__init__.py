"""Efficient speech enhancement: MANNER and its students, distilled with multi-view attention transfer (MV-AT).

Importing the package registers its classes with transformers' Auto classes. What is where:
`models.manner` the model, its configuration, feature extractor and the conversion of upstream checkpoints;
`enhance` cleans recordings, `StreamingEnhancer` live audio; `export` and `runtime` take a model to ONNX; `complexity`
counts cost; `metrics` and `evaluation` measure; `data` loads the corpora; `losses` and `trainer` train and distil;
`recipe` reads the YAML recipes of `scripts/`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

# at once, as the function must win over the module of its name
from .models.complexity import complexity
from .models.manner import MannerConfig, MannerFeatureExtractor, MannerModel

if TYPE_CHECKING:
    from . import metrics
    from .data.dns import load_dns
    from .data.valentini import load_valentini
    from .inference.enhancing import enhance
    from .inference.live import StreamingEnhancer
    from .training.trainer import DistillationTrainer, EnhancementArguments, EnhancementTrainer

__version__ = "0.1.0"

# resolved on first use: scoring, data and training pull in libraries that enhancing does not need
_LAZY = {
    "DistillationTrainer": "trainer",
    "EnhancementArguments": "trainer",
    "EnhancementTrainer": "trainer",
    "StreamingEnhancer": "live",
    "enhance": "inference",
    "load_dns": "data.dns",
    "load_valentini": "data.valentini",
    "metrics": "metrics",
}

__all__ = [
    "DistillationTrainer",
    "EnhancementArguments",
    "EnhancementTrainer",
    "MannerConfig",
    "MannerFeatureExtractor",
    "MannerModel",
    "StreamingEnhancer",
    "complexity",
    "enhance",
    "load_dns",
    "load_valentini",
    "metrics",
]
if find_spec("accelerate") is None:  # of the extra `training`: `from mvat_hf import *` gives what works without it
    __all__ = [name for name in __all__ if _LAZY.get(name) != "trainer"]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_LAZY[name]}", __name__)
    value = module if name == "metrics" else getattr(module, name)
    globals()[name] = value
    return value
