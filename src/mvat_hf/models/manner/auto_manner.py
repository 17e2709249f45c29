"""MANNER for transformers' Auto classes, which find it by its model type once this is imported."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from .configuration_manner import PRESETS, MannerConfig
from .feature_extraction_manner import MannerFeatureExtractor
from .modeling_manner import MannerModel, MannerOutput, MannerPreTrainedModel, MannerViewFeatures

AutoConfig.register("manner", MannerConfig, exist_ok=True)
AutoModel.register(MannerConfig, MannerModel, exist_ok=True)
AutoFeatureExtractor.register(MannerConfig, MannerFeatureExtractor, exist_ok=True)
MannerConfig.pipeline_registered = True  # by `import mvat_hf`
# and by the code saved beside the weights where the package is not installed
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
