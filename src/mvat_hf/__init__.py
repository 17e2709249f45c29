"""Efficient speech enhancement: MANNER and its students, distilled with multi-view attention transfer (MV-AT).

Importing the package registers its classes with transformers' Auto classes, at once or as soon as transformers is
imported: alone it loads neither torch nor transformers. README.md beside this file tells what is where.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .models import DEFAULT_MODEL
from .utils.imports import when_imported

if TYPE_CHECKING:
    from . import metrics
    from .acceleration.export import export_onnx
    from .data.dns import load_dns
    from .data.pairs import load_pairs
    from .data.valentini import load_valentini
    from .evaluation.evaluating import evaluate_systems
    from .inference.enhancer import Enhancer, load_model
    from .inference.enhancing import enhance, enhance_file
    from .inference.folders import enhance_folder
    from .inference.live import StreamingEnhancer
    from .models.complexity import complexity
    from .models.manner import MannerConfig, MannerFeatureExtractor, MannerModel
    from .models.resizing import resize
    from .training.arguments import DistillationConfig, EnhancementConfig
    from .training.distillation_trainer import DistillationTrainer
    from .training.trainer import EnhancementTrainer

__version__ = "0.1.0"

# the module that defines each public name
_LAZY = {
    "DistillationConfig": "training.arguments",
    "DistillationTrainer": "training.distillation_trainer",
    "EnhancementConfig": "training.arguments",
    "EnhancementTrainer": "training.trainer",
    "Enhancer": "inference.enhancer",
    "MannerConfig": "models.manner",
    "MannerFeatureExtractor": "models.manner",
    "MannerModel": "models.manner",
    "StreamingEnhancer": "inference.live",
    "complexity": "models.complexity",
    "enhance": "inference.enhancing",
    "enhance_file": "inference.enhancing",
    "enhance_folder": "inference.folders",
    "evaluate_systems": "evaluation.evaluating",
    "export_onnx": "acceleration.export",
    "load_dns": "data.dns",
    "load_model": "inference.enhancer",
    "load_pairs": "data.pairs",
    "load_valentini": "data.valentini",
    "metrics": "metrics",
    "resize": "models.resizing",
}

__all__ = [
    "DistillationConfig",
    "DistillationTrainer",
    "Enhancer",
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
    "evaluate_systems",
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
if find_spec("datasets") is None:  # of `evaluation`
    __all__ = [name for name in __all__ if not _LAZY.get(name, "").startswith("evaluation.")]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = import_module(f".{_LAZY[name]}", __name__)
    if name != _LAZY[name]:
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def _register_pipeline() -> None:
    from transformers import AutoModel
    from transformers.pipelines import PIPELINE_REGISTRY

    from .models.manner.pipeline_manner import AudioToAudioPipeline
    from .models.snapshots import find_snapshot

    PIPELINE_REGISTRY.register_pipeline(
        "audio-to-audio",
        AudioToAudioPipeline,
        pt_model=AutoModel,
        default={"model": (str(find_snapshot(DEFAULT_MODEL)), "main")},  # whatever the Hub says
        type="audio",
    )


# whoever uses the Auto classes or `pipeline` imports these first; ours may be on their way already, and end later
_MANNER = f"{__name__}.models.manner"
_OF_THE_MODEL = ("attention", "configuration", "feature_extraction", "modeling")
when_imported(
    lambda: import_module(f"{_MANNER}.auto_manner"),
    "transformers",
    *(f"{_MANNER}.{name}_manner" for name in _OF_THE_MODEL),
)
when_imported(_register_pipeline, f"{_MANNER}.pipeline_manner")
when_imported(lambda: import_module(f"{_MANNER}.pipeline_manner"), "transformers.pipelines")
