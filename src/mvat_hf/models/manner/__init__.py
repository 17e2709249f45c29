"""MANNER as transformers classes. The files import only each other: they travel to the Hub as remote code."""

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from .configuration_manner import PRESETS, MannerConfig
from .feature_extraction_manner import MannerFeatureExtractor
from .modeling_manner import MannerModel, MannerOutput, MannerPreTrainedModel, MannerViewFeatures
from .snapshot_manner import find_snapshot, hub_answers

if TYPE_CHECKING:
    from .pipeline_manner import AudioToAudioPipeline


def know_snapshots(auto, own) -> None:
    """Let `auto.from_pretrained` leave the ids of embedded checkpoints, and only these, to `own.from_pretrained`.

    An Auto class reads from the files of a repo which class to load: without the Hub it would get no further. And it
    writes them before a class of ours is asked: OSError if the Hub gives them a name outside the cache.
    """
    ask_the_hub = auto.from_pretrained

    @wraps(ask_the_hub)
    def from_pretrained(pretrained_model_name_or_path, *args, **kwargs):
        name = pretrained_model_name_or_path
        if find_snapshot(name) is None:
            if isinstance(name, str) and not Path(name).exists() and not kwargs.get("local_files_only"):
                # it raises where need be; nothing more is asked after a file that there is no answer for
                all(hub_answers(name, file, kwargs) for file in dict.fromkeys(("config.json", own.hub_file)))
            return ask_the_hub(name, *args, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in ("trust_remote_code", "code_revision")}
        return own.from_pretrained(name, *args, **kwargs)

    auto.from_pretrained = from_pretrained


# Auto classes find MANNER by its model type once this package is imported …
AutoConfig.register("manner", MannerConfig, exist_ok=True)
AutoModel.register(MannerConfig, MannerModel, exist_ok=True)
AutoFeatureExtractor.register(MannerConfig, MannerFeatureExtractor, exist_ok=True)
know_snapshots(AutoConfig, MannerConfig)
know_snapshots(AutoModel, MannerModel)
know_snapshots(AutoFeatureExtractor, MannerFeatureExtractor)
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
