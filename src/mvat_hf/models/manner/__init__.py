"""MANNER as transformers classes. The files travel to the Hub as remote code, where they import only each other; five
of them also use services of the package where it is installed.

The names below are loaded with transformers and torch when they are asked for; `chunking_manner` takes neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .auto_manner import (
        PRESETS,
        MannerConfig,
        MannerFeatureExtractor,
        MannerModel,
        MannerOutput,
        MannerPreTrainedModel,
        MannerViewFeatures,
    )
    from .pipeline_manner import AudioToAudioPipeline

__all__ = [
    "PRESETS",
    "AudioToAudioPipeline",
    "MannerConfig",
    "MannerFeatureExtractor",
    "MannerModel",
    "MannerOutput",
    "MannerPreTrainedModel",
    "MannerViewFeatures",
]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # transformers' pipelines take a second, and most never ask for one
    module = "pipeline_manner" if name == "AudioToAudioPipeline" else "auto_manner"
    return getattr(import_module(f".{module}", __name__), name)
