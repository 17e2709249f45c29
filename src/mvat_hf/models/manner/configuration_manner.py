"""Configuration of MANNER and the presets of the MV-AT study.

Shapes in this package: audio is (batch, time) at `sampling_rate` Hz, features are (batch, channels, frames).
Sources: MANNER (Park et al., ICASSP 2022, arXiv 2203.02181); MV-AT (Shin et al., Interspeech 2022, arXiv 2208.10367).
"""

from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .chunking_manner import padded_length

try:
    from mvat_hf.models.services import ConfigServices
except ImportError:  # the code came with a checkpoint and stands alone
    ConfigServices = type("Alone", (), {})  # type: ignore[assignment,misc]

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


@strict
class MannerConfig(ConfigServices, PreTrainedConfig):
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
        high_pass_hz: cut-off of a high-pass filter on the input, in Hz; 0 for none, as upstream.
        initializer_scale: target of the weight rescaling after PyTorch's default initialisation.

    Raises:
        StrictDataclassError of huggingface_hub, which names the field: a wrong type; with the package also a value out
            of range.
        ValueError: an argument that no MANNER has.
        OSError: from `from_pretrained`: there is no config.json, or it is not a MANNER's.
    """

    model_type = "manner"

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
        return padded_length(length, self.kernel_size, self.stride, self.depth)

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
