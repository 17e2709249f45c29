"""`ModelArguments`: the model to train, new or from checkpoints."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from ..models.manner import MannerConfig, MannerModel
from ..models.resizing import resize

DEFAULT_PRESET = "manner-s-8.1gf"
# the fields of a configuration that are this model's, not of all
OWN = [option.name for option in fields(MannerConfig) if option.name in MannerConfig.__annotations__]


class RecipeError(ValueError):
    """A recipe or command line that cannot be run; the message says what was got and expected."""


def load_mean(checkpoints: Sequence[str]) -> MannerModel:
    """
    One checkpoint, or the mean of the weights of several that were trained from each other or from the same one: often
    better than each (Wortsman et al. 2022, "Model soups"). The statistics of batch norms are means, too: recalibrate.

    Raises:
        RecipeError: they have different configurations.
        OSError: as `from_pretrained`.
    """
    mean, *others = (MannerModel.from_pretrained(name) for name in checkpoints)
    for name, other in zip(checkpoints[1:], others, strict=True):
        for option in OWN:
            ours, theirs = (getattr(model.config, option) for model in (mean, other))
            if ours != theirs:
                raise RecipeError(f"{checkpoints[0]} and {name} have no mean: their {option} is {ours} and {theirs}")
    states = [model.state_dict() for model in (mean, *others)]
    with torch.no_grad():
        for name, value in states[0].items():
            if value.is_floating_point():
                value.copy_(torch.stack([state[name] for state in states]).mean(dim=0))
    return mean


@dataclass
class ModelArguments:
    """The model to train."""

    preset: str | None = field(
        default=None,
        metadata={"help": f"Preset of the model, see `mvat info`; by default {DEFAULT_PRESET}, or as init_from is."},
    )
    hidden_size: int | None = field(default=None, metadata={"help": "Overrides the width of preset and init_from."})
    depth: int | None = field(default=None, metadata={"help": "Overrides the preset's number of levels."})
    attention_levels: str | None = field(
        default=None,
        metadata={"help": 'Overrides those of preset and init_from: "all", "deepest", "none", or levels as in "1,2".'},
    )
    high_pass_hz: float | None = field(
        default=None,
        metadata={
            "help": "Overrides preset and init_from: cut-off of the high-pass filter in Hz (70: hum, rumble) of inputs "
            "and of the loss's targets; validation scores compare with the full clean recording."
        },
    )
    init_from: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to start from: folder or id; of several, with commas, the mean. It is widened or "
            "narrowed, and given attention or rid of it, where the options above ask for another size."
        },
    )

    @property
    def checkpoints(self) -> list[str]:
        """Those to start from."""
        return [] if self.init_from is None else [name.strip() for name in self.init_from.split(",")]

    @property
    def is_mean(self) -> bool:
        """Whether the model to start from is the mean of several."""
        return len(self.checkpoints) > 1

    def build(self, batches: Callable[[int], Iterable[torch.Tensor]] = lambda rate: ()) -> MannerModel:
        """
        A new model of the preset with its overrides; or the mean of the checkpoints `init_from`, resized to that.

        Args:
            batches: noisy audio (B, T) at a sampling rate (Hz), asked for where a checkpoint is resized: see `resize`.
        """
        if self.init_from is None:
            return MannerModel(MannerConfig.from_preset(self.preset or DEFAULT_PRESET, **self.overrides()))
        model = load_mean(self.checkpoints)
        if self.high_pass_hz is not None:
            model.config.high_pass_hz = self.high_pass_hz
            model.config.validate()
        own = {name: getattr(model.config, name) for name in OWN if hasattr(model.config, name)}
        preset = MannerConfig.from_preset(self.preset) if self.preset else model.config
        sizes = {name: getattr(preset, name) for name in ("hidden_size", "depth", "attention_levels")}
        config = MannerConfig(**{**own, **sizes, **self.overrides()})
        if (config.hidden_size, config.attended_levels, config.depth) == (
            model.config.hidden_size, model.config.attended_levels, model.config.depth,
        ):  # fmt: skip
            return model
        return resize(model, config, batches(config.sampling_rate))

    def overrides(self) -> dict[str, Any]:
        """The fields of the configuration that options set."""
        names = ("hidden_size", "depth", "attention_levels", "high_pass_hz")
        overrides = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.attention_levels not in (None, "all", "deepest", "none"):
            try:
                overrides["attention_levels"] = [int(level) for level in self.attention_levels.split(",")]
            except ValueError as error:
                raise RecipeError(
                    f'attention_levels must be all, deepest, none or numbers as "1,2", got "{self.attention_levels}"'
                ) from error
        return overrides
