"""Configuration of MANNER and the presets of the MV-AT study.

Shapes in this package: audio is (batch, time) at `sampling_rate` Hz, features are (batch, channels, frames).
Sources: MANNER (Park et al., ICASSP 2022, arXiv 2203.02181); MV-AT (Shin et al., Interspeech 2022, arXiv 2208.10367).
"""

import copy
import math
from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .snapshot_manner import SnapshotFallback

if TYPE_CHECKING:  # it never runs, but transformers saves with this file what it names: the pipeline travels along
    from .pipeline_manner import AudioToAudioPipeline  # noqa: F401

# hidden_size, depth and attention_levels of each preset; only the first four names are the papers' own.
PRESETS: dict[str, dict] = {
    "manner-b": {"hidden_size": 60, "depth": 4, "attention_levels": "all"},
    "manner-l": {"hidden_size": 120, "depth": 4, "attention_levels": "all"},
    "manner-s": {"hidden_size": 60, "depth": 4, "attention_levels": "deepest"},
    "manner-s-8.1gf": {"hidden_size": 30, "depth": 3, "attention_levels": "deepest"},
    "manner-s-20.3gf": {"hidden_size": 48, "depth": 3, "attention_levels": "deepest"},
    "manner-s-5.3gf": {"hidden_size": 24, "depth": 3, "attention_levels": "deepest"},
    "manner-s-2.2gf": {"hidden_size": 15, "depth": 3, "attention_levels": "deepest"},
}

# far beyond any model of this kind; more is refused before memory is asked for
LARGEST = {
    "depth": 16, "kernel_size": 1024, "stride": 1024, "growth": 1024, "num_heads": 64, "segment_len": 2**16,
    "sampling_rate": 1_000_000,
}  # fmt: skip
MOST_CHANNELS = 2**16
OWN_FIELDS = (
    "model_type",
    "name_or_path",
    "output_attentions",
    "torch_dtype",
)  # of transformers, besides those declared
DTYPES = ("float32", "float64", "float16", "bfloat16")

# where transformers.pipeline finds the task in a repo of the Hub
REMOTE_PIPELINES = {"audio-to-audio": {"impl": "pipeline_manner.AudioToAudioPipeline", "pt": ["AutoModel"]}}


@strict
class MannerConfig(SnapshotFallback, PreTrainedConfig):
    """
    Everything that tells one MANNER from another; every preset is one class with other values.

    Args:
        hidden_size: channels N after the input layer, and of the mask.
        depth: number of U-Net levels; level l works on N * growth**l channels.
        attention_levels: levels whose encoder and decoder carry multi-view attention: "all", "deepest", "none"
            or a list of levels, 0 being the shallowest.
        kernel_size, stride: of the down- and up-sampling convolutions, in frames of their level.
        growth: channel factor from one level to the next.
        num_heads: heads of the global view; each is `segment_len * num_heads` wide.
        segment_len: chunk length of the global and local views, in frames; the hop is half of it.
        sampling_rate: of the audio the model works on, in Hz.
        high_pass_hz: what the input holds below is taken away before the network, in Hz; 0 takes nothing, as upstream.
        initializer_scale: target of the weight rescaling after PyTorch's default initialisation.

    Raises:
        An error of huggingface_hub's strict dataclasses that names the field, for a wrong type or a value out of range.
        ValueError: a field that no MANNER has.
        OSError: from `from_pretrained`, where there is no config.json, or one that is not of a MANNER.
    """

    model_type = "manner"
    hub_file = "config.json"
    pipeline_registered = False  # by the package; or else it comes from the code beside the weights

    hidden_size: int = 60
    depth: int = 4
    attention_levels: str | list[int] | tuple[int, ...] = "all"
    kernel_size: int = 8
    stride: int = 4
    growth: int = 2
    num_heads: int = 1
    segment_len: int = 64
    sampling_rate: int = 16000
    high_pass_hz: float | int = 0
    initializer_scale: float | int = 0.1

    def __post_init__(self, **kwargs):
        if fault := self.field_fault(kwargs):
            raise ValueError(fault)
        pipelines = {} if self.pipeline_registered else copy.deepcopy(REMOTE_PIPELINES)
        super().__post_init__(**{**kwargs, "custom_pipelines": pipelines})
        known = self.__dataclass_fields__.keys() | {"auto_map", "custom_pipelines", "model_type"}
        unknown = sorted(name for name in vars(self).keys() - known if not name.startswith("_"))
        if unknown:
            raise ValueError(f"unknown field {', '.join(unknown)} in a MANNER configuration; is it of a newer mvat_hf?")

    def field_fault(self, further: dict) -> str | None:
        """What transformers' own fields, or `further` ones, must not be; None if all is well.

        It would make a list of so many labels, fetch code for an attention, or write over a method.
        """
        taken = [name for name in further if name[:2] == "__" or (name not in OWN_FIELDS and hasattr(type(self), name))]
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

    def to_dict(self) -> dict:
        return {**super().to_dict(), "custom_pipelines": copy.deepcopy(REMOTE_PIPELINES)}

    def validate_sizes(self):
        """Every size is a count of something: at least one, and not beyond reason."""
        for name in ("hidden_size", "depth", "kernel_size", "stride", "growth", "num_heads", "sampling_rate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, largest in LARGEST.items():
            if getattr(self, name) > largest:
                raise ValueError(f"{name} must be at most {largest}, got {getattr(self, name)}")
        if self.level_channels(self.depth) > MOST_CHANNELS:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) times growth ({self.growth}) at every level must come to at most "
                f"{MOST_CHANNELS} channels, got {self.level_channels(self.depth)} at depth {self.depth}"
            )
        if self.kernel_size < self.stride:
            raise ValueError(f"kernel_size must not be below stride ({self.stride}), got {self.kernel_size}")
        if self.segment_len < 2 or self.segment_len % 2:
            raise ValueError(f"segment_len must be an even number of at least 2, got {self.segment_len}")
        if self.high_pass_hz != 0 and not 1 <= self.high_pass_hz < self.sampling_rate / 2:
            raise ValueError(
                "high_pass_hz must be 0, or at least 1 and below half the sampling rate "
                f"({self.sampling_rate / 2:g} Hz), got {self.high_pass_hz}"
            )
        if not 0 < self.initializer_scale < math.inf:
            raise ValueError(f"initializer_scale must be above 0 and finite, got {self.initializer_scale}")

    def validate_attention_levels(self):
        """Attention stands on levels that exist, and its three branches need at least two channels each."""
        self.validate_sizes()
        levels = self.attention_levels
        if isinstance(levels, str):
            if levels not in ("all", "deepest", "none"):
                expected = '"all", "deepest", "none" or a list of levels'
                raise ValueError(f'attention_levels must be {expected}, got "{levels}"')
        else:
            wrong = [level for level in levels if not 0 <= level < self.depth]
            if wrong or len(set(levels)) != len(levels):
                got = list(levels) if len(levels) <= LARGEST["depth"] else f"{len(levels)} of them"
                raise ValueError(
                    f"attention_levels must be distinct levels from 0 to {self.depth - 1} (depth {self.depth}), "
                    f"got {got}"
                )
        for level in self.attended_levels:
            if self.level_channels(level) < 6:
                raise ValueError(
                    f"multi-view attention needs at least 6 channels, level {level} has {self.level_channels(level)}: "
                    f"raise hidden_size ({self.hidden_size}) or leave that level out of attention_levels"
                )

    @property
    def attended_levels(self) -> tuple[int, ...]:
        """Levels with multi-view attention, ascending."""
        if isinstance(self.attention_levels, str):
            named = {"all": range(self.depth), "deepest": [self.depth - 1], "none": []}
            return tuple(named[self.attention_levels])
        return tuple(sorted(self.attention_levels))

    def level_channels(self, level: int) -> int:
        """Channels that enter encoder level `level` and leave its decoder: hidden_size * growth**level."""
        return self.hidden_size * self.growth**level

    def padded_length(self, length: int) -> int:
        """Shortest length of at least `length` samples that the U-Net's convolutions reproduce exactly."""
        frames = length
        for _ in range(self.depth):
            frames = max(math.ceil((frames - self.kernel_size) / self.stride) + 1, 1)
        for _ in range(self.depth):
            frames = (frames - 1) * self.stride + self.kernel_size
        return frames

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict, dict]:
        """As in transformers, but of a MANNER only."""
        values, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if values.get("model_type") != cls.model_type:
            got = f"model_type {values.get('model_type')!r}" if values else "no config.json, or an empty one"
            raise OSError(f"{pretrained_model_name_or_path}: expected a model_type 'manner', got {got}")
        return values, unused

    @classmethod
    def _dict_from_json_file(cls, json_file) -> dict:
        values = super()._dict_from_json_file(json_file)
        if not isinstance(values, dict):
            raise OSError(f"{json_file}: expected the fields of a configuration, got a {type(values).__name__}")
        return values

    @classmethod
    def from_preset(cls, name: str, **overrides) -> "MannerConfig":
        """The configuration of a named preset (see `PRESETS`), with `overrides` on top.

        Raises:
            ValueError: unknown preset; the message lists the known ones.
        """
        if name not in PRESETS:
            raise ValueError(f'unknown preset "{name}"; expected one of: {", ".join(PRESETS)}')
        return cls(**{**PRESETS[name], **overrides})


__all__ = ["PRESETS", "MannerConfig"]
