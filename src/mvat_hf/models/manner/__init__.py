"""MANNER as transformers classes. The files import only each other: they travel to the Hub as remote code."""

from typing import TYPE_CHECKING

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from .configuration_manner import PRESETS, MannerConfig
from .feature_extraction_manner import MannerFeatureExtractor
from .modeling_manner import MannerModel, MannerOutput, MannerPreTrainedModel, MannerViewFeatures

if TYPE_CHECKING:
    from .pipeline_manner import AudioToAudioPipeline

# Auto classes find MANNER by its model type once this package is imported …
AutoConfig.register("manner", MannerConfig, exist_ok=True)
AutoModel.register(MannerConfig, MannerModel, exist_ok=True)
AutoFeatureExtractor.register(MannerConfig, MannerFeatureExtractor, exist_ok=True)
MannerConfig.pipeline_registered = True  # by `import mvat_hf`
# … and by the code saved beside the weights where it is not installed.
MannerConfig.register_for_auto_class()
MannerModel.register_for_auto_class("AutoModel")
MannerFeatureExtractor.register_for_auto_class()


def __getattr__(name: str):
    if name != "AudioToAudioPipeline":  # transformers' pipelines take a second, and most never ask for one
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .pipeline_manner import AudioToAudioPipeline

    return AudioToAudioPipeline


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
