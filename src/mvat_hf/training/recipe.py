"""Recipes: YAML files of options, overridden on the command line, and the models, data and methods they describe."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

import torch
import yaml
from transformers import HfArgumentParser

from ..data.augment import Augmentation
from ..data.batch_augmentation import AugmentingCollator, BatchAugmentation
from ..data.dns import load_dns, source_of
from ..data.mixing import MixingOptions
from ..data.reverb import Rooms
from ..data.segments import hop_segments
from ..data.valentini import VALIDATION_SPEAKERS, load_valentini
from ..distillation import METHODS, DistillationMethod, build_method
from ..distillation.attention_transfer import SIDES, VIEWS
from ..models.manner import MannerConfig, MannerModel
from ..models.resizing import resize

DEFAULT_PRESET = "manner-s-8.1gf"
Part = TypeVar("Part", Augmentation, BatchAugmentation, Rooms)


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
        for option in MannerConfig.__annotations__:
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
            "help": "Overrides preset and init_from: below it inputs are emptied, and targets do not count, in Hz "
            "(70: hum, rumble)."
        },
    )
    init_from: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to start from: folder or id; of several, with commas, the mean. It is widened or "
            "narrowed, and given attention or rid of it, where the options above ask for another size."
        },
    )

    def build(self, batches: Callable[[int], Iterable[torch.Tensor]] = lambda rate: ()) -> MannerModel:
        """
        A new model of the preset with its overrides; or the mean of the checkpoints `init_from`, resized to that.

        Args:
            batches: noisy audio (B, T) at a sampling rate (Hz), asked for where a checkpoint is resized: see `resize`.
        """
        if self.init_from is None:
            return MannerModel(MannerConfig.from_preset(self.preset or DEFAULT_PRESET, **self.overrides()))
        model = load_mean([name.strip() for name in self.init_from.split(",")])
        if self.high_pass_hz is not None:
            model.config.high_pass_hz = self.high_pass_hz
            model.config.validate()
        own = {
            name: getattr(model.config, name) for name in MannerConfig.__annotations__ if hasattr(model.config, name)
        }
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


@dataclass
class DataArguments(Augmentation, BatchAugmentation, Rooms):
    """The data to train and validate on, and the options of their augmentation."""

    dataset: str = field(default="dns", metadata={"help": "dns or valentini."})
    data_root: str = field(default="", metadata={"help": "Folder (or Hub id) of the data set, as its loader takes it."})
    segment_seconds: float = field(default=4.0, metadata={"help": "Length of a training crop."})
    segments: str = field(
        default="random",
        metadata={
            "help": "valentini: random (one crop of every file, another each epoch) or hop (all of a fixed grid)."
        },
    )
    hop_seconds: float = field(default=1.0, metadata={"help": "valentini: between the starts of two hop segments."})
    speakers: int = field(default=28, metadata={"help": "valentini: the training set of 28 or of 56 speakers."})
    validation_speakers: str = field(
        default=",".join(VALIDATION_SPEAKERS), metadata={"help": "valentini: held out of training to validate on."}
    )
    cache_dir: str | None = field(
        default=None, metadata={"help": "valentini: keep files of other rates here, resampled; the result is the same."}
    )
    snr_low: float = field(default=0.0, metadata={"help": "dns: lowest SNR of a training mixture, dB."})
    snr_high: float = field(default=40.0, metadata={"help": "dns: highest SNR of a training mixture, dB."})
    level_low: float = field(default=-35.0, metadata={"help": "dns: lowest level of a training mixture, dBFS."})
    level_high: float = field(default=-15.0, metadata={"help": "dns: highest level of a training mixture, dBFS."})
    silence_seconds: float = field(
        default=0.0, metadata={"help": "dns: silence between recordings that are joined (the challenge: 0.2)."}
    )
    active_snr: bool = field(default=False, metadata={"help": "dns: measure the SNR where the noise is active."})
    speaker_power: float = field(
        default=1.0,
        metadata={"help": "dns: speakers are heard by this power of their number of files (0: all alike)."},
    )
    dns_source: str | None = field(
        default=None, metadata={"help": "dns: mixed (on the fly) or synthesised; by default what the folder holds."}
    )
    streaming: bool = field(
        default=False, metadata={"help": "dns: endless mixtures in order; training then resumes without skipping."}
    )
    validation_files: int | None = field(
        default=None, metadata={"help": "Validate on so many files only, spread over all."}
    )

    def check_options(self, given: set[str]) -> None:
        """RecipeError if one of the options `given` is of another data set, as the help of each begins."""
        for option in dataclasses.fields(self):
            owner = option.metadata.get("help", "").partition(":")[0]
            if option.name in given and owner in LOADERS and owner != self.dataset:
                raise RecipeError(f"{option.name} is an option of {owner}, the data set is {self.dataset}")

    def load(self, seed: int, mixtures: int | None, sampling_rate: int):
        """(training, validation) data sets; `mixtures` is the size of an epoch of mixed data."""
        if self.dataset not in LOADERS:
            raise RecipeError(f'dataset must be one of {", ".join(LOADERS)}, got "{self.dataset}"')
        if not self.data_root:
            raise RecipeError("data_root is not set, expected the folder of the data set")
        train, validation = LOADERS[self.dataset](self, seed, mixtures, sampling_rate)
        if self.validation_files is None:
            return train, validation
        if self.validation_files < 1:
            raise RecipeError(f"validation_files must be at least 1, got {self.validation_files}")
        # spread over the speakers, whose files stand together
        count = min(self.validation_files, len(validation))
        return train, validation.select([index * len(validation) // count for index in range(count)])

    def _load_dns(self, seed: int, mixtures: int | None, sampling_rate: int):
        options: dict[str, Any] = {"source": self.dns_source, "sampling_rate": sampling_rate}
        options["mixing"] = MixingOptions(
            self.segment_seconds,
            (self.snr_low, self.snr_high),
            (self.level_low, self.level_high),
            silence_seconds=self.silence_seconds,
            active_snr=self.active_snr,
            speaker_power=self.speaker_power,
            augmentation=self.part(Augmentation),
        )
        mixed = source_of(self.data_root, self.dns_source) == "mixed"
        size = None if self.streaming or not mixed else mixtures
        train = load_dns(
            self.data_root, "train", seed=seed, size=size, streaming=self.streaming, rooms=self.part(Rooms), **options
        )
        return train, load_dns(self.data_root, "validation", **options)

    def _load_valentini(self, seed: int, mixtures: int | None, sampling_rate: int):
        if self.segments not in ("random", "hop"):
            raise RecipeError(f'segments must be random or hop, got "{self.segments}"')
        options: dict[str, Any] = {
            "speakers": self.speakers,
            "validation_speakers": [name.strip() for name in self.validation_speakers.split(",")],
            "sampling_rate": sampling_rate,
            "cache_dir": self.cache_dir,
        }
        train, validation = (load_valentini(self.data_root, split, **options) for split in ("train", "validation"))
        if self.segments == "hop":
            train = hop_segments(train, self.segment_seconds, self.hop_seconds)
        return train, validation

    def collator(self, sampling_rate: int, seed: int) -> AugmentingCollator:
        """What makes training batches of the items."""
        return AugmentingCollator(self.segment_seconds, sampling_rate, seed, augmentation=self.part(BatchAugmentation))

    def part(self, kind: type[Part]) -> Part:
        """The options of one of the inherited kinds by themselves, checked."""
        return kind(**{option.name: getattr(self, option.name) for option in dataclasses.fields(kind)})


LOADERS = {"dns": DataArguments._load_dns, "valentini": DataArguments._load_valentini}


@dataclass
class DistillationArguments:
    """The teacher and what is transferred from it."""

    teacher: str = field(default="", metadata={"help": "Teacher checkpoint: folder or Hub id."})
    method: str = field(default="mvat", metadata={"help": f"One of {', '.join(METHODS)}."})
    beta: float = field(default=0.1, metadata={"help": "Weight of the method's term; 0 is plain training."})
    p: float = field(default=2.0, metadata={"help": "at, mvat: exponent of the attention maps."})
    views: str = field(default=",".join(VIEWS), metadata={"help": "mvat: the views to transfer."})
    sides: str = field(default=",".join(SIDES), metadata={"help": "mvat: the sides of the U-Net to transfer from."})
    teacher_cache: str | None = field(
        default=None,
        metadata={"help": "Folder to keep what the teacher gave for a clip; pays where clips come again."},
    )

    def build_method(self) -> DistillationMethod | None:
        """The method with its options; None for "none"."""
        views, sides = (tuple(part.strip() for part in names.split(",")) for names in (self.views, self.sides))
        options: dict[str, Any] = {"p": self.p, "views": views, "sides": sides}
        for option in dataclasses.fields(self):
            owners = option.metadata["help"].partition(":")[0]  # as the help of each begins
            if option.name in options and self.method not in owners.split(", "):
                if getattr(self, option.name) != option.default:
                    raise RecipeError(f"{option.name} is an option of {owners}, the method is {self.method}")
                del options[option.name]
        return build_method(self.method, **options)


@dataclass
class Recipe:
    """
    A parsed recipe; iterating gives its parts.

    parts: one instance of each kind of options.
    given: the options that the file or the command line set.
    """

    parts: list[Any]
    given: set[str]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts)

    def value(self, name: str) -> Any:
        """The value of an option, whichever part it belongs to, as YAML holds it."""
        value: Any = next((getattr(part, name) for part in self.parts if name in vars(part)), None)
        if isinstance(value, Enum):
            return value.value
        return value.to_dict() if hasattr(value, "to_dict") else value

    def described(self) -> dict[str, Any]:
        """The options that were set and bear on the result."""
        return {name: self.value(name) for name in sorted(self.given - NOT_PART_OF_A_RECIPE)}


# where and how fast a run goes and who gets it, not what it computes; a token is for no file
NOT_PART_OF_A_RECIPE = {
    "config", "data_root", "cache_dir", "output_dir", "logging_steps", "disable_tqdm", "scoring_processes",
    "dataloader_num_workers", "report_to", "save_total_limit", "teacher_cache", "push_to_hub", "hub_token",
    "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision",
}  # fmt: skip


class RecipeParser(HfArgumentParser):
    """Tells a wrong option in one line, where argparse would print the usage of all."""

    def error(self, message: str) -> NoReturn:
        raise RecipeError(message)


def parse_recipe(kinds: Sequence[Any], arguments: Sequence[str] | None = None) -> Recipe:
    """
    The options of the dataclasses `kinds` from `--config RECIPE.yaml` and the options that follow it, which win.

    Raises:
        RecipeError: the file is missing or not a mapping, a key belongs to none of `kinds`, a value has no sense, or an
            option of the command line is of another data set.
    """
    parser = RecipeParser(list(kinds), description=f"Options of {Path(sys.argv[0]).name}", allow_abbrev=False)
    parser.add_argument("--config", help="YAML file of options; the command line overrides it")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    path, known = config_of(arguments), {field.name for kind in kinds for field in dataclasses.fields(kind)}
    spelt = {argument[2:].split("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--")}
    given = {name if name in known else name.removeprefix("no_") for name in spelt}
    if path is not None:
        recipe = read_recipe(path)
        unknown = sorted(recipe.keys() - known)
        if unknown:
            raise RecipeError(f"{path}: unknown key{'s' * (len(unknown) > 1)} {', '.join(unknown)}; see --help for all")
        types = {name: kind for each in kinds for name, kind in get_type_hints(each).items()}
        for name in (name for name, value in recipe.items() if value is None):
            if type(None) not in get_args(types[name]):
                raise RecipeError(f"{path}: {name} cannot be null; leave the line out for its default")
        # argparse converts defaults to the type of their option where they are strings, and only there
        parser.set_defaults(
            **{
                name: json.dumps(value) if isinstance(value, dict) else None if value is None else str(value)
                for name, value in recipe.items()
            }
        )
        given |= recipe.keys()
    *parts, _ = parser.parse_args_into_dataclasses(arguments, look_for_args_file=False)
    for data in (part for part in parts if isinstance(part, DataArguments)):
        data.check_options(spelt)
    return Recipe(parts, given)


def config_of(arguments: Sequence[str]) -> str | None:
    """The value of `--config` among `arguments`."""
    for index, argument in enumerate(arguments):
        if argument == "--config" and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith("--config="):
            return argument.removeprefix("--config=")
    return None


def read_recipe(path: str | Path) -> dict[str, Any]:
    """A YAML file as a mapping of options; RecipeError if it is missing or something else."""
    if not Path(path).is_file():
        raise RecipeError(f"no such recipe: {path}")
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"{path} must hold a mapping of options, got {type(recipe).__name__}")
    return recipe
