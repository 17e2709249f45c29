"""The data to train and validate on: one class of options for every kind of data set, and what loads it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.augment import Augmentation
from ..data.batch_augmentation import AugmentingCollator, BatchAugmentation
from ..data.dns import load_dns, source_of
from ..data.mixing import MixingOptions
from ..data.pairs import load_pairs
from ..data.reverb import Rooms
from ..data.segments import hop_segments
from ..data.valentini import VALIDATION_SPEAKERS, load_valentini
from .model_arguments import RecipeError


@dataclass
class SourceArguments:
    """Which data, and what all kinds of it have."""

    dataset: str = field(default="dns", metadata={"help": "dns, valentini, or pairs (recordings of your own)."})
    data_root: str = field(default="", metadata={"help": "Folder (or Hub id) of dns or valentini."})
    segment_seconds: float = field(default=4.0, metadata={"help": "Length of a training crop."})
    validation_files: int | None = field(
        default=None, metadata={"help": "Validate on so many files only, spread over all."}
    )


@dataclass
class PairsArguments:
    """Two folders with recordings of the same names, and what of them validates."""

    clean: str = field(default="", metadata={"help": "pairs: folder of clean recordings."})
    noisy: str = field(default="", metadata={"help": "pairs: folder of noisy recordings of the same names."})
    validation_clean: str = field(default="", metadata={"help": "pairs: folder of clean recordings to validate on."})
    validation_noisy: str = field(default="", metadata={"help": "pairs: folder of their noisy versions."})
    validation_share: float = field(
        default=0.1, metadata={"help": "pairs: share of the pairs that validates where no folders are given."}
    )


@dataclass
class SegmentArguments:
    """How recorded pairs are cut."""

    segments: str = field(
        default="random",
        metadata={
            "help": "pairs, valentini: random (one crop of every file, another each epoch) or hop (all of a grid)."
        },
    )
    hop_seconds: float = field(
        default=1.0, metadata={"help": "pairs, valentini: between the starts of two hop segments."}
    )


@dataclass
class ValentiniArguments:
    """Which part of the corpus."""

    speakers: int = field(default=28, metadata={"help": "valentini: the training set of 28 or of 56 speakers."})
    validation_speakers: str = field(
        default=",".join(VALIDATION_SPEAKERS), metadata={"help": "valentini: held out of training to validate on."}
    )
    cache_dir: str | None = field(
        default=None, metadata={"help": "valentini: keep files of other rates here, resampled; the result is the same."}
    )


@dataclass
class MixingArguments:
    """How speech and noise are mixed on the fly."""

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


@dataclass
class DataArguments:
    """All options of data, by their kind."""

    source: SourceArguments = field(default_factory=SourceArguments)
    pairs: PairsArguments = field(default_factory=PairsArguments)
    segmenting: SegmentArguments = field(default_factory=SegmentArguments)
    valentini: ValentiniArguments = field(default_factory=ValentiniArguments)
    mixing: MixingArguments = field(default_factory=MixingArguments)
    augmentation: Augmentation = field(default_factory=Augmentation)
    rooms: Rooms = field(default_factory=Rooms)
    batches: BatchAugmentation = field(default_factory=BatchAugmentation)

    @classmethod
    def of(cls, **options: Any) -> "DataArguments":
        """From options without their kinds: `DataArguments.of(dataset="dns", data_root="…", snr_low=-5)`."""
        parts = {}
        for part, kind in cls.kinds().items():
            names = {option.name for option in dataclasses.fields(kind)}
            parts[part] = kind(**{name: options.pop(name) for name in names & options.keys()})
        if options:
            raise RecipeError(f"no such option of data: {', '.join(sorted(options))}")
        return cls(**parts)

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """The classes of options by the names of their fields."""
        return {part.name: part.type for part in dataclasses.fields(cls)}

    def check_options(self, given: set[str]) -> None:
        """RecipeError if one of the options `given` is of another data set."""
        for part, users in USERS.items():
            if self.source.dataset in users or self.source.dataset not in LOADERS:
                continue
            for option in dataclasses.fields(getattr(self, part)):
                if option.name in given:
                    owners = " and ".join(users)
                    raise RecipeError(f"{option.name} is an option of {owners}, the data set is {self.source.dataset}")

    def load(self, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
        """(training, validation) data sets; `mixtures` is the size of an epoch of mixed data."""
        name, count = self.source.dataset, self.source.validation_files
        if name not in LOADERS:
            raise RecipeError(f'dataset must be one of {", ".join(LOADERS)}, got "{name}"')
        if count is not None and count < 1:
            raise RecipeError(f"validation_files must be at least 1, got {count}")
        train, validation = LOADERS[name](self, seed, mixtures, sampling_rate)
        if count is None:
            return train, validation
        # spread over the speakers, whose files stand together
        count = min(count, len(validation))
        return train, validation.select([index * len(validation) // count for index in range(count)])

    def collator(self, sampling_rate: int, seed: int) -> AugmentingCollator:
        """What makes training batches of the items."""
        return AugmentingCollator(self.source.segment_seconds, sampling_rate, seed, augmentation=self.batches)

    def segmented(self, train: Any) -> Any:
        """Recorded pairs as they are, or cut on a grid."""
        if self.segmenting.segments not in ("random", "hop"):
            raise RecipeError(f'segments must be random or hop, got "{self.segmenting.segments}"')
        if self.segmenting.segments == "random":
            return train
        return hop_segments(train, self.source.segment_seconds, self.segmenting.hop_seconds)


def root_of(data: DataArguments) -> str:
    """The folder of a corpus; RecipeError where it is not set, or holds plain pairs."""
    root, name = data.source.data_root, data.source.dataset
    if not root:
        raise RecipeError("data_root is not set, expected the folder of the data set")
    clean, noisy = Path(root) / "clean", Path(root) / "noisy"
    if clean.is_dir() and noisy.is_dir() and not (Path(root) / "noise").is_dir():
        raise RecipeError(
            f"{root} holds pairs in clean and noisy, and not {name}: expected --dataset pairs --clean {clean} "
            f"--noisy {noisy}"
        )
    return root


def load_mixed(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
    """DNS: mixtures made on the fly, or pairs that are synthesised already."""
    root, mixing = root_of(data), data.mixing
    options: dict[str, Any] = {"source": mixing.dns_source, "sampling_rate": sampling_rate}
    options["mixing"] = MixingOptions(
        data.source.segment_seconds,
        (mixing.snr_low, mixing.snr_high),
        (mixing.level_low, mixing.level_high),
        silence_seconds=mixing.silence_seconds,
        active_snr=mixing.active_snr,
        speaker_power=mixing.speaker_power,
        augmentation=data.augmentation,
    )
    mixed = source_of(root, mixing.dns_source) == "mixed"
    size = None if mixing.streaming or not mixed else mixtures
    train = load_dns(root, "train", seed=seed, size=size, streaming=mixing.streaming, rooms=data.rooms, **options)
    return train, load_dns(root, "validation", **options)


def load_corpus(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
    """Valentini."""
    root = root_of(data)
    options: dict[str, Any] = {
        "speakers": data.valentini.speakers,
        "validation_speakers": [name.strip() for name in data.valentini.validation_speakers.split(",")],
        "sampling_rate": sampling_rate,
        "cache_dir": data.valentini.cache_dir,
    }
    train, validation = (load_valentini(root, split, **options) for split in ("train", "validation"))
    return data.segmented(train), validation


def load_own(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
    """Folders of pairs; the same share of the same names validates in every run."""
    own = data.pairs
    for name in ("clean", "noisy"):
        if not getattr(own, name):
            raise RecipeError(f"{name} is not set, expected the folder of {name} recordings (--clean DIR --noisy DIR)")
    if bool(own.validation_clean) != bool(own.validation_noisy):
        raise RecipeError(
            "expected both validation_clean and validation_noisy or none, got "
            f'"{own.validation_clean}" and "{own.validation_noisy}"'
        )
    every = load_pairs(own.clean, own.noisy, sampling_rate=sampling_rate)
    if own.validation_clean:
        return data.segmented(every), load_pairs(
            own.validation_clean, own.validation_noisy, sampling_rate=sampling_rate
        )
    train, validation = held_out(every, own.validation_share, own.clean)
    return data.segmented(train), validation


def held_out(rows: Any, share: float, place: str) -> tuple[Any, Any]:
    """(training, validation) rows of a data set: at least one of each, chosen by their number alone."""
    if not 0 < share < 1:
        raise RecipeError(f"validation_share must be above 0 and below 1, got {share}")
    if len(rows) < 2:
        raise RecipeError(f"{place} has {len(rows)} pair, expected at least 2 to hold one out for validation")
    order = np.random.default_rng(0).permutation(len(rows))
    count = min(max(1, round(share * len(rows))), len(rows) - 1)
    return rows.select(sorted(order[count:])), rows.select(sorted(order[:count]))


LOADERS: dict[str, Callable[[DataArguments, int, int | None, int], tuple[Any, Any]]] = {
    "dns": load_mixed,
    "valentini": load_corpus,
    "pairs": load_own,
}
# the data sets that have the options of a part; the others refuse them
USERS = {
    "pairs": ("pairs",),
    "segmenting": ("pairs", "valentini"),
    "valentini": ("valentini",),
    "mixing": ("dns",),
    "augmentation": ("dns",),
    "rooms": ("dns",),
}
