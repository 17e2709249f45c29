"""What the package adds to the classes of `manner/`, whose files also travel to the Hub and work there without it:
checks of whatever is loaded, the embedded checkpoint, complete folders when saving, and the door to speed.

Each class there takes the mixin of its kind where the package is installed; alone it loads by transformers' rules.
"""

import copy
from typing import Any, ClassVar

from safetensors import SafetensorError
from transformers.utils import FEATURE_EXTRACTOR_NAME, SAFE_WEIGHTS_INDEX_NAME, logging

from .limits import ConfigLimits
from .snapshots import SnapshotFallback, cached_path
from .weights import CheckpointError, check_weights, index_fault, weights_fault

# of transformers, beside those declared
OWN_FIELDS = ("model_type", "name_or_path", "output_attentions", "torch_dtype")
# by these transformers reads the weights in another way, or from elsewhere
READING_FIELDS = ("distributed_config", "fusion_config", "quantization_config", "transformers_weights")
FROM_FILE = "_from_file"  # beside fields that no caller wrote
# where transformers.pipeline finds the task in a repo of the Hub
REMOTE_PIPELINES = {"audio-to-audio": {"impl": "pipeline_manner.AudioToAudioPipeline", "pt": ["AutoModel"]}}
DTYPES = ("float32", "float64", "float16", "bfloat16")

logger = logging.get_logger(__name__)


class ConfigServices(ConfigLimits, SnapshotFallback):
    """A configuration that is of a MANNER, and within its limits.

    An argument that no MANNER has is a mistake, and refused. A file may hold what somebody noted in it, or what a newer
    version knows: it is kept, with a warning.
    """

    hub_file = "config.json"
    model_type: ClassVar[str]
    pipeline_registered = False  # by the package; or else it comes from the code beside the weights

    def __post_init__(self, **kwargs):
        from_file = kwargs.pop(FROM_FILE, False)
        if fault := self.field_fault(kwargs):
            raise ValueError(fault)
        if self.pipeline_registered:
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        known = self.__dataclass_fields__.keys() | {"auto_map", "custom_pipelines", "model_type"}
        unknown = sorted(name for name in vars(self).keys() - known if not name.startswith("_"))
        told = f"unknown field {', '.join(unknown)} in a MANNER configuration"
        if unknown and not from_file:
            raise ValueError(f"{told}, expected some of: {', '.join(type(self).__annotations__)}")
        if unknown:
            logger.warning_once(f"{told}: kept, but nothing here reads it; is it of a newer mvat_hf?")

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """As in transformers, which reads files by this."""
        return super().from_dict({**config_dict, FROM_FILE: True}, **kwargs)  # type: ignore[misc]

    def to_dict(self) -> dict:
        """As in transformers, with the pipeline, and without what would not be taken from a file."""
        return {**self.loadable(super().to_dict()), "custom_pipelines": copy.deepcopy(REMOTE_PIPELINES)}  # type: ignore[misc]

    def to_diff_dict(self) -> dict:
        """As in transformers, which adds the field of quantisers once more."""
        return self.loadable(super().to_diff_dict())  # type: ignore[misc]

    @staticmethod
    def loadable(fields: dict) -> dict:
        return {name: value for name, value in fields.items() if name not in READING_FIELDS}

    def field_fault(self: Any, further: dict) -> str | None:
        """What transformers' own fields, or `further` ones, must not be; None if all is well.

        It would make a list of so many labels, fetch code for an attention, have other weights read, or write over a
        method.
        """
        taken = [
            name
            for name in further
            if name[:2] == "__" or name in READING_FIELDS or (name not in OWN_FIELDS and hasattr(type(self), name))
        ]
        if taken:
            return f"unknown field {min(taken)} in a MANNER configuration"
        dtype = further.get("torch_dtype") if self.dtype is None else self.dtype
        if dtype is not None and str(dtype).removeprefix("torch.") not in DTYPES:
            return f"dtype must be one of {', '.join(DTYPES)}, got {dtype}"
        if further.get("attn_implementation") not in (None, "eager", "sdpa"):
            return f'attn_implementation must be "eager" or "sdpa", got {further["attn_implementation"]}'
        if not isinstance(self.id2label, dict | None):
            return f"id2label must be a mapping, and a MANNER has no labels, got {self.id2label}"
        return None

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict, dict]:
        """As in transformers, but of a MANNER only."""
        values, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)  # type: ignore[misc]
        if values.get("model_type") != cls.model_type:
            got = f"model_type {values.get('model_type')!r}" if values else "no config.json, or an empty one"
            raise OSError(f"{pretrained_model_name_or_path}: expected a model_type 'manner', got {got}")
        return values, unused

    @classmethod
    def _dict_from_json_file(cls, json_file) -> dict:
        values = super()._dict_from_json_file(json_file)  # type: ignore[misc]
        if not isinstance(values, dict):
            raise OSError(f"{json_file}: expected the fields of a configuration, got a {type(values).__name__}")
        return values


class FeatureExtractorServices(SnapshotFallback):
    """A feature extractor whose file is what the Hub says that it is."""

    hub_file = "preprocessor_config.json"


class ModelServices(SnapshotFallback):
    """A model whose weights are checked, that is saved with its feature extractor, and that can be made fast."""

    hub_file = "model.safetensors"
    feature_extractor_class: ClassVar[Any]  # that is saved along
    fast_estimate: Any = None  # what `fuse` sets: computes in place of `estimate` in evaluation without gradients

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, **kwargs):
        """As in transformers (evaluation mode), but safetensors only, and every weight must come from the checkpoint.

        Raises:
            OSError: nothing to load under that name, or weights that are missing, left over, of another shape or type,
                not those that the Hub speaks of, or not finite.
        """
        name = pretrained_model_name_or_path
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                f"{name}: weights are read from safetensors files alone, got use_safetensors=False: save those of a "
                ".bin file as model.safetensors, by safetensors.torch.save_file"
            )
        kwargs["use_safetensors"] = True
        try:
            model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
        except SafetensorError as error:
            raise OSError(f"{name}: the weights are no safetensors file: {error}") from error
        except CheckpointError as error:
            raise OSError(f"{name}: {error}") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            index = cached_path(name, SAFE_WEIGHTS_INDEX_NAME, kwargs)
            if index is None or (fault := index_fault(index)) is None:
                raise
            raise OSError(f"{name}: {fault}") from error
        if fault := weights_fault(model.state_dict()):
            raise OSError(f"{name}: {fault}")
        return (model, info) if output_loading_info else model

    @classmethod
    def _load_pretrained_model(cls, model, state_dict, checkpoint_files, load_config, *args, **kwargs):
        """As in transformers, if the weights are what the model, which has no memory yet, has a place for.

        Those of an adapter are for what transformers has put into a model that is there.
        """
        if not model._hf_peft_config_loaded:
            check_weights(model, state_dict, checkpoint_files or (), load_config.sharded_metadata)
        return super()._load_pretrained_model(model, state_dict, checkpoint_files, load_config, *args, **kwargs)

    def save_pretrained(self: Any, save_directory, is_main_process: bool = True, state_dict=None, *args, **kwargs):
        """As in transformers, with the feature extractor: a saved folder and a pushed repo are complete.

        Weights that cannot be loaded again are saved all the same, with a warning.
        """
        fault = weights_fault(self.state_dict() if state_dict is None else state_dict)  # by all processes that share it
        if is_main_process:
            self.feature_extractor_class(sampling_rate=self.config.sampling_rate).save_pretrained(save_directory)
            if fault:
                logger.warning(f"{save_directory}: {fault}: they are saved, but cannot be loaded by from_pretrained")
        super().save_pretrained(save_directory, is_main_process, state_dict, *args, **kwargs)  # type: ignore[misc]

    def _get_files_timestamps(self, working_dir):
        """What is newer is pushed, the feature extractor's file too, which `save_pretrained` saves before it asks."""
        found = super()._get_files_timestamps(working_dir)
        return {name: changed for name, changed in found.items() if name != FEATURE_EXTRACTOR_NAME}

    def fuse(self, dtype=None):
        """Let evaluation passes without gradients run on folded weights: `mvat_hf.acceleration.folding.fuse`."""
        from ..acceleration.folding import fuse

        return fuse(self, dtype)

    def unfuse(self):
        """Undo `fuse`; the model is given back."""
        self.fast_estimate = None
        return self

    @property
    def fused(self) -> bool:
        """Whether `fuse` is in force."""
        return self.fast_estimate is not None

    def train(self, mode: bool = True):
        """As in any module; training mode undoes `fuse`."""
        if mode:
            self.unfuse()
        return super().train(mode)  # type: ignore[misc]


__all__ = ["ConfigServices", "FeatureExtractorServices", "ModelServices"]
