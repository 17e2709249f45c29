"""Recipes: YAML files of options, overridden on the command line, as dataclasses."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser

from .arguments import DistillationConfig
from .data_arguments import DataArguments
from .model_arguments import ModelArguments, RecipeError

# of the arguments of training, those that bear on the result; where and how fast a run goes, its name and logs do not
OF_THE_TRAINING = {
    "accelerator_config", "adam_beta1", "adam_beta2", "adam_epsilon", "beta", "bf16", "compressed_log", "data_seed",
    "dataloader_drop_last", "enhancement_weight", "eval_delay", "eval_steps", "eval_strategy", "fp16",
    "frozen_statistics", "gradient_accumulation_steps", "greater_is_better", "learning_rate", "load_best_model_at_end",
    "loss_weights", "lr_scheduler_kwargs", "lr_scheduler_type", "max_grad_norm", "max_steps", "method", "method_kwargs",
    "metric_for_best_model", "muon_learning_rate", "num_train_epochs", "one_cycle", "optim", "optim_args",
    "per_device_train_batch_size", "recalibration_batches", "save_steps", "save_strategy", "seed",
    "teacher_model_name_or_path", "train_sampling_strategy", "warmup_ratio", "warmup_steps", "weight_decay",
}  # fmt: skip
# the same data elsewhere
PLACES = {
    "data_root", "cache_dir", "clean", "noisy", "validation_clean", "validation_noisy", "speech", "noise",
}  # fmt: skip
RESULT_OPTIONS = (
    OF_THE_TRAINING
    | {option.name for kind in (ModelArguments, *DataArguments.kinds().values()) for option in dataclasses.fields(kind)}
) - PLACES


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

    def flat(self) -> Iterator[Any]:
        """The parts, and in place of `DataArguments` its own."""
        for part in self.parts:
            yield from vars(part).values() if isinstance(part, DataArguments) else (part,)

    def value(self, name: str) -> Any:
        """The value of an option, whichever part it belongs to, as YAML holds it."""
        value: Any = next((getattr(part, name) for part in self.flat() if name in vars(part)), None)
        if isinstance(value, Enum):
            return value.value
        return value.to_dict() if hasattr(value, "to_dict") else value

    def described(self) -> dict[str, Any]:
        """The options that were set and bear on the result."""
        return {name: self.value(name) for name in sorted(self.given & RESULT_OPTIONS)}

    def defaults(self) -> dict[str, Any]:
        """The default values of all options, in YAML types."""
        kinds = [type(part) for part in self.flat()]
        plain = {option.name: option.default for kind in kinds for option in dataclasses.fields(kind)}
        made = {"eval_strategy": "steps", "save_strategy": "steps", "load_best_model_at_end": True}
        return plain | made | {name: {} for name in ("loss_weights", "method_kwargs")}


class RecipeParser(HfArgumentParser):
    """Tells a wrong option in one line, where argparse would print the usage of all."""

    def error(self, message: str) -> NoReturn:
        raise RecipeError(message)


def parse_recipe(kinds: Sequence[Any], arguments: Sequence[str] | None = None) -> Recipe:
    """
    The options of the dataclasses `kinds` from `--config RECIPE.yaml` and the options that follow it, which win.

    Raises:
        RecipeError: the file is missing or not a mapping, a key belongs to none of `kinds`, a value has no sense, or an
            option is of another data set.
    """
    flat = [kind for each in kinds for kind in (each.kinds().values() if each is DataArguments else (each,))]
    parser = RecipeParser(flat, description=f"Options of {Path(sys.argv[0]).name}", allow_abbrev=False)
    parser.add_argument("--config", help="YAML file of options; the command line overrides it")
    types = {name: kind for each in flat for name, kind in get_type_hints(each).items()}
    arguments = sys.argv[1:] if arguments is None else arguments
    path = config_of(arguments)
    recipe = {} if path is None else read_recipe(path)
    if unknown := sorted(recipe.keys() - types.keys()):
        raise RecipeError(
            f"{path or 'command line'}: unknown key{'s' * (len(unknown) > 1)} {', '.join(unknown)}; see --help for all"
        )
    place = path or "command line"
    parser.set_defaults(**{name: default_of(place, name, value, types[name]) for name, value in recipe.items()})
    spelt = {argument[2:].split("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--")}
    aliases = {
        alias.removeprefix("--"): option.name
        for each in flat for option in dataclasses.fields(each) for alias in option.metadata.get("aliases", ())
    }  # fmt: skip
    given = {aliases.get(name, name if name in types else name.removeprefix("no_")) for name in spelt} | recipe.keys()
    *parts, _ = parser.parse_args_into_dataclasses(arguments, look_for_args_file=False)
    rest = iter(parts)
    grouped = [
        DataArguments(**{part: next(rest) for part in DataArguments.kinds()}) if kind is DataArguments else next(rest)
        for kind in kinds
    ]
    for data in (part for part in grouped if isinstance(part, DataArguments)):
        data.check_options(given)
    return Recipe(grouped, given)


def default_of(place: str | Path, name: str, value: Any, kind: Any) -> Any:
    """A value of YAML as a default of argparse, which makes of strings what their option is, and only of them."""
    kinds = get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is Union else (kind,)
    if value is None and type(None) not in kinds:
        raise RecipeError(f"{place}: {name} cannot be null; leave the line out for its default")
    if value is False and name.endswith("_strategy"):
        return "no"  # which YAML takes for false
    if name == "attention_levels" and isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, (dict, list)) and type(value) not in {get_origin(each) or each for each in kinds}:
        raise RecipeError(f"{place}: {name} cannot be a {type(value).__name__}, got {json.dumps(value, default=str)}")
    return value if value is None or isinstance(value, (dict, list)) else str(value)


def config_of(arguments: Sequence[str]) -> str | None:
    """The value of `--config` among `arguments`; RecipeError where there are two."""
    found = [argument.removeprefix("--config=") for argument in arguments if argument.startswith("--config=")]
    found += [value for name, value in pairwise(arguments) if name == "--config"]
    if len(found) > 1:
        raise RecipeError(f"expected one --config, got {len(found)}: {', '.join(found)}")
    return found[0] if found else None


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


__all__ = ["DataArguments", "DistillationConfig", "ModelArguments", "Recipe", "RecipeError", "parse_recipe"]
