"""The data to train and validate on: one class of options for every kind of data set, and what loads it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.augment import Augmentation
from ..data.batch_augmentation import AugmentingCollator, BatchAugmentation
from ..data.dns import files_below, hold_out, load_dns, source_of, speaker_chances
from ..data.dns import mixtures as mixed
from ..data.mixing import Mixer, MixingOptions
from ..data.pairs import load_columns, load_pairs
from ..data.reverb import Rooms, simulate_rooms
from ..data.segments import hop_segments
from ..data.streaming import MixtureStream
from ..data.valentini import VALIDATION_SPEAKERS, load_valentini
from .model_arguments import RecipeError


@dataclass
class SourceArguments:
    """Which data, and what all kinds of it have."""

    dataset: str = field(
        default="dns", metadata={"help": "dns, valentini; of your own: pairs, mixed (speech and noise), hub."}
    )
    data_root: str = field(default="", metadata={"help": "Folder (or Hub id) of dns, valentini, hub."})
    segment_seconds: float = field(default=4.0, metadata={"help": "Length of a training crop."})
    validation_files: int | None = field(
        default=None, metadata={"help": "Validate on so many files only, spread over all."}
    )


@dataclass
class PairsArguments:
    """Two folders with recordings of the same names, and others to validate on."""

    clean: str = field(default="", metadata={"help": "pairs: folder of clean recordings."})
    noisy: str = field(default="", metadata={"help": "pairs: folder of noisy recordings of the same names."})
    validation_clean: str = field(default="", metadata={"help": "pairs: folder of clean recordings to validate on."})
    validation_noisy: str = field(default="", metadata={"help": "pairs: folder of their noisy versions."})


@dataclass
class ShareArguments:
    """What of recorded pairs validates."""

    validation_share: float = field(
        default=0.1, metadata={"help": "pairs, hub: share of the pairs that validates where nothing else is given."}
    )


@dataclass
class HubArguments:
    """Which columns and splits of a data set of the Hub, or of a folder of one."""

    clean_column: str = field(default="clean", metadata={"help": "hub: column of clean audio."})
    noisy_column: str = field(default="noisy", metadata={"help": "hub: column of noisy audio."})
    train_split: str = field(default="train", metadata={"help": "hub: split to train on."})
    validation_split: str | None = field(
        default=None, metadata={"help": "hub: split to validate on; by default a share of the training split."}
    )


@dataclass
class FolderArguments:
    """Speech and noise of one's own, mixed on the fly as those of DNS."""

    speech: str = field(default="", metadata={"help": "mixed: folder of clean speech, a sub-folder a speaker."})
    noise: str = field(default="", metadata={"help": "mixed: folder of noise, a sub-folder a kind."})


@dataclass
class SegmentArguments:
    """How recorded pairs are cut."""

    segments: str = field(
        default="random",
        metadata={
            "help": "pairs, hub, valentini: random (a crop of every file, another each epoch) or hop (all of a grid)."
        },
    )
    hop_seconds: float = field(
        default=1.0, metadata={"help": "pairs, hub, valentini: between the starts of two hop segments."}
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

    snr_low: float = field(default=0.0, metadata={"help": "dns, mixed: lowest SNR of a training mixture, dB."})
    snr_high: float = field(default=40.0, metadata={"help": "dns, mixed: highest SNR of a training mixture, dB."})
    level_low: float = field(default=-35.0, metadata={"help": "dns, mixed: lowest level of a training mixture, dBFS."})
    level_high: float = field(
        default=-15.0, metadata={"help": "dns, mixed: highest level of a training mixture, dBFS."}
    )
    silence_seconds: float = field(
        default=0.0, metadata={"help": "dns, mixed: silence between recordings that are joined (the challenge: 0.2)."}
    )
    active_snr: bool = field(default=False, metadata={"help": "dns, mixed: measure the SNR where the noise is active."})
    speaker_power: float = field(
        default=1.0,
        metadata={"help": "dns, mixed: speakers are heard by this power of their number of files (0: all alike)."},
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "dns, mixed: endless mixtures in order; training then resumes without skipping."},
    )


@dataclass
class DnsArguments:
    """Which part of the corpus."""

    dns_source: str | None = field(
        default=None, metadata={"help": "dns: mixed (on the fly) or synthesised; by default what the folder holds."}
    )


@dataclass
class DataArguments:
    """All options of data, by their kind."""

    source: SourceArguments = field(default_factory=SourceArguments)
    pairs: PairsArguments = field(default_factory=PairsArguments)
    share: ShareArguments = field(default_factory=ShareArguments)
    hub: HubArguments = field(default_factory=HubArguments)
    folders: FolderArguments = field(default_factory=FolderArguments)
    segmenting: SegmentArguments = field(default_factory=SegmentArguments)
    valentini: ValentiniArguments = field(default_factory=ValentiniArguments)
    dns: DnsArguments = field(default_factory=DnsArguments)
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
                    owners = ", ".join(users)
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


def mixing_of(data: DataArguments, sampling_rate: int) -> MixingOptions:
    """How training mixtures are made."""
    mixing = data.mixing
    return MixingOptions(
        data.source.segment_seconds,
        (mixing.snr_low, mixing.snr_high),
        (mixing.level_low, mixing.level_high),
        sampling_rate,
        silence_seconds=mixing.silence_seconds,
        active_snr=mixing.active_snr,
        speaker_power=mixing.speaker_power,
        augmentation=data.augmentation,
    )


def load_challenge(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
    """DNS: mixtures made on the fly, or pairs that are synthesised already."""
    root, streaming, source = root_of(data), data.mixing.streaming, data.dns.dns_source
    mixing = replace(mixing_of(data, sampling_rate), sampling_rate=MixingOptions.sampling_rate)
    options: dict[str, Any] = {"source": source, "sampling_rate": sampling_rate, "mixing": mixing}
    size = None if streaming or source_of(root, source) != "mixed" else mixtures
    train = load_dns(root, "train", seed=seed, size=size, streaming=streaming, rooms=data.rooms, **options)
    return train, load_dns(root, "validation", **options)


def load_mixed(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
    """Folders of speech and noise, a tenth of whose speakers and kinds are held out, mixed as for DNS."""
    parts = {}
    for name in ("speech", "noise"):
        folder = getattr(data.folders, name)
        if not folder:
            raise RecipeError(f"{name} is not set, expected a folder (--speech DIR --noise DIR)")
        parts[name] = hold_out(files_below(Path(folder)), Path(folder))
    (speech, held_speech), (noise, held_noise) = parts["speech"], parts["noise"]
    options = mixing_of(data, sampling_rate)
    reverberates = data.augmentation.reverb_probability > 0
    responses = simulate_rooms(data.rooms, sampling_rate, seed) if reverberates else ()
    chances = speaker_chances(speech, Path(data.folders.speech), options.speaker_power)
    mixer = Mixer(speech, noise, options, seed, responses, chances)
    whole = Mixer(held_speech, held_noise, replace(options, seconds=None, augmentation=Augmentation()))
    train = MixtureStream(mixer) if data.mixing.streaming else mixed(mixer, mixtures or 10 * len(speech))
    return train, mixed(whole, len(held_speech))


def load_hub(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
    """A data set of the Hub, or a folder that `datasets.load_dataset` takes."""
    root, hub = data.source.data_root, data.hub
    if not root:
        raise RecipeError("data_root is not set, expected the id of a data set on the Hub, or a folder of one")
    every = load_columns(root, hub.train_split, hub.clean_column, hub.noisy_column, sampling_rate)
    if hub.validation_split is None:
        train, validation = held_out(every, data.share.validation_share, root)
        return data.segmented(train), validation
    validation = load_columns(root, hub.validation_split, hub.clean_column, hub.noisy_column, sampling_rate)
    return data.segmented(every), validation


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
    train, validation = held_out(every, data.share.validation_share, own.clean)
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
    "dns": load_challenge,
    "valentini": load_corpus,
    "pairs": load_own,
    "mixed": load_mixed,
    "hub": load_hub,
}
# the data sets that have the options of a part; the others refuse them
USERS = {
    "pairs": ("pairs",),
    "share": ("pairs", "hub"),
    "hub": ("hub",),
    "folders": ("mixed",),
    "segmenting": ("pairs", "hub", "valentini"),
    "valentini": ("valentini",),
    "dns": ("dns",),
    "mixing": ("dns", "mixed"),
    "augmentation": ("dns", "mixed"),
    "rooms": ("dns", "mixed"),
}
