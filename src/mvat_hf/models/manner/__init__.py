"""MANNER as transformers classes. The files import only each other: they travel to the Hub as remote code."""

from functools import wraps

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_manner import PRESETS, MannerConfig
from .feature_extraction_manner import MannerFeatureExtractor
from .modeling_manner import MannerModel, MannerOutput, MannerPreTrainedModel, MannerViewFeatures
from .pipeline_manner import AudioToAudioPipeline
from .snapshot_manner import find_snapshot


def know_snapshots(auto, own) -> None:
    """Let `auto.from_pretrained` leave the ids of embedded checkpoints, and only these, to `own.from_pretrained`.

    An Auto class reads from the files of a repo which class to load: without the Hub it would get no further.
    """
    ask_the_hub = auto.from_pretrained

    @wraps(ask_the_hub)
    def from_pretrained(pretrained_model_name_or_path, *args, **kwargs):
        if find_snapshot(pretrained_model_name_or_path) is None:
            return ask_the_hub(pretrained_model_name_or_path, *args, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in ("trust_remote_code", "code_revision")}
        return own.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    auto.from_pretrained = from_pretrained


# Auto classes find MANNER by its model type once this package is imported …
AutoConfig.register("manner", MannerConfig, exist_ok=True)
AutoModel.register(MannerConfig, MannerModel, exist_ok=True)
AutoFeatureExtractor.register(MannerConfig, MannerFeatureExtractor, exist_ok=True)
know_snapshots(AutoConfig, MannerConfig)
know_snapshots(AutoFeatureExtractor, MannerFeatureExtractor)
PIPELINE_REGISTRY.register_pipeline("audio-to-audio", AudioToAudioPipeline, pt_model=AutoModel, type="audio")
MannerConfig.pipeline_registered = True
# … and by the code saved beside the weights where it is not installed.
MannerConfig.register_for_auto_class()
MannerModel.register_for_auto_class("AutoModel")
MannerFeatureExtractor.register_for_auto_class()

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
