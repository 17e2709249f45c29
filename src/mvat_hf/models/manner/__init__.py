"""MANNER as transformers classes. The files import only each other: they travel to the Hub as remote code."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from .configuration_manner import PRESETS, MannerConfig
from .feature_extraction_manner import MannerFeatureExtractor
from .modeling_manner import MannerModel, MannerOutput, MannerPreTrainedModel, MannerViewFeatures

# Auto classes find MANNER by its model type once this package is imported …
AutoConfig.register("manner", MannerConfig, exist_ok=True)
AutoModel.register(MannerConfig, MannerModel, exist_ok=True)
AutoFeatureExtractor.register(MannerConfig, MannerFeatureExtractor, exist_ok=True)
# … and by the code saved beside the weights where it is not installed.
MannerConfig.register_for_auto_class()
MannerModel.register_for_auto_class("AutoModel")
MannerFeatureExtractor.register_for_auto_class()

__all__ = [
    "PRESETS",
    "MannerConfig",
    "MannerFeatureExtractor",
    "MannerModel",
    "MannerOutput",
    "MannerPreTrainedModel",
    "MannerViewFeatures",
]
