"""The data to train and validate on: one class of options for every kind of data set, and what loads it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.augment import Augmentation
from ..data.batch_augmentation import AugmentingCollator, BatchAugmentation
from ..data.dns import hold_out, load_dns, source_of, speaker_chances, validation_mixer
from ..data.dns import mixtures as mixed
from ..data.matching import files_below
from ..data.mixing import Mixer, MixingOptions
from ..data.pairs import first_rows, load_columns, load_pairs, read_columns
from ..data.reverb import Rooms, simulate_rooms
from ..data.row_stream import RowStream
from ..data.segments import hop_segments
from ..data.streaming import MixtureStream
from ..data.valentini import load_valentini
from .data_options import (
    DnsArguments,
    HubArguments,
    MixedArguments,
    MixingArguments,
    PairsArguments,
    SegmentArguments,
    SourceArguments,
    StreamArguments,
    ValentiniArguments,
    ValidationShareArguments,
)
from .model_arguments import RecipeError


@dataclass
class DataArguments:
    """All options of data, by their kind."""

    source: SourceArguments = field(default_factory=SourceArguments)
    pairs: PairsArguments = field(default_factory=PairsArguments)
    share: ValidationShareArguments = field(default_factory=ValidationShareArguments)
    hub: HubArguments = field(default_factory=HubArguments)
    folders: MixedArguments = field(default_factory=MixedArguments)
    segmenting: SegmentArguments = field(default_factory=SegmentArguments)
    valentini: ValentiniArguments = field(default_factory=ValentiniArguments)
    dns: DnsArguments = field(default_factory=DnsArguments)
    mixing: MixingArguments = field(default_factory=MixingArguments)
    stream: StreamArguments = field(default_factory=StreamArguments)
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
        of_rows = self.source.dataset == "hub" and self.stream.streaming
        for name, needs in NOT_STREAMED.items():
            if of_rows and name in given:
                raise RecipeError(f"{name} cannot be with streaming: {needs}")
        if "shuffle_buffer" in given and not of_rows:
            raise RecipeError("shuffle_buffer is for a stream: expected --streaming true beside it")

    def load(self, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
        """(training, validation) data sets; `mixtures` is the size of an epoch of mixed data."""
        name, count = self.source.dataset, self.source.validation_files
        if name not in LOADERS:
            raise RecipeError(f'dataset must be one of {", ".join(LOADERS)}, got "{name}"')
        if count is not None and count < 1:
            raise RecipeError(f"validation_files must be at least 1, got {count}")
        train, validation = LOADERS[name](self, seed, mixtures, sampling_rate)
        if count is None or len(validation) <= count:
            return train, validation
        # spread over the speakers, whose files stand together
        return train, validation.select([index * len(validation) // count for index in range(count)])

    def collator(self, sampling_rate: int, seed: int) -> AugmentingCollator:
        """The collator of training batches."""
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


def mixing_of(data: DataArguments) -> MixingOptions:
    """How training mixtures are made."""
    mixing = data.mixing
    return MixingOptions(
        data.source.segment_seconds,
        (mixing.snr_low, mixing.snr_high),
        (mixing.level_low, mixing.level_high),
        silence_seconds=mixing.silence_seconds,
        active_snr=mixing.active_snr,
        speaker_power=mixing.speaker_power,
        augmentation=data.augmentation,
    )


def dns_splits(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
    """DNS: mixtures made on the fly, or pairs that are synthesised already."""
    root, streaming, source = root_of(data), data.stream.streaming, data.dns.dns_source
    options: dict[str, Any] = {"source": source, "sampling_rate": sampling_rate, "mixing": mixing_of(data)}
    size = None if streaming or source_of(root, source) != "mixed" else mixtures
    train = load_dns(root, "train", seed=seed, size=size, streaming=streaming, rooms=data.rooms, **options)
    return train, load_dns(root, "validation", **options)


def mixed_splits(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
    """Folders of speech and noise, a tenth of whose speakers and kinds are held out, mixed as for DNS."""
    parts = {}
    for name in ("speech", "noise"):
        folder = getattr(data.folders, name)
        if not folder:
            raise RecipeError(f"{name} is not set, expected a folder (--speech DIR --noise DIR)")
        parts[name] = hold_out(files_below(Path(folder)), Path(folder))
    (speech, held_speech), (noise, held_noise) = parts["speech"], parts["noise"]
    options = replace(mixing_of(data), sampling_rate=sampling_rate)
    reverberates = data.augmentation.reverb_probability > 0
    responses = simulate_rooms(data.rooms, sampling_rate, seed) if reverberates else ()
    chances = speaker_chances(speech, Path(data.folders.speech), options.speaker_power)
    mixer = Mixer(speech, noise, options, seed, responses, chances)
    whole = validation_mixer(held_speech, held_noise, options)
    train = MixtureStream(mixer) if data.stream.streaming else mixed(mixer, mixtures or 10 * len(speech))
    return train, mixed(whole, len(held_speech))


def hub_splits(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
    """A data set of the Hub, or a folder that `datasets.load_dataset` takes."""
    root, hub = data.source.data_root, data.hub
    if not root:
        raise RecipeError("data_root is not set, expected the id of a data set on the Hub, or a folder of one")
    if data.stream.streaming:
        return stream_hub(data, seed, sampling_rate)
    every = load_columns(root, hub.train_split, hub.clean_column, hub.noisy_column, sampling_rate)
    if hub.validation_split is None:
        train, validation = held_out(every, data.share.validation_share, root)
        return data.segmented(train), validation
    validation = load_columns(root, hub.validation_split, hub.clean_column, hub.noisy_column, sampling_rate)
    return data.segmented(every), validation


def stream_hub(data: DataArguments, seed: int, sampling_rate: int) -> tuple[Any, Any]:
    """Such a data set without downloading it: the training split as a stream; of another split, or else before what is
    trained on, the first `validation_files` rows."""
    root, hub, count = data.source.data_root, data.hub, data.source.validation_files
    columns = (hub.clean_column, hub.noisy_column)
    if hub.shuffle_buffer < 0:
        raise RecipeError(f"shuffle_buffer must be at least 0, got {hub.shuffle_buffer}")
    if count is None:
        raise RecipeError("a stream has no length to validate on a share of: expected --validation_files N")
    rows = read_columns(root, hub.train_split, *columns, streaming=True)
    if hub.validation_split is None:
        held, rows = rows, rows.skip(count)
    else:
        held = read_columns(root, hub.validation_split, *columns, streaming=True)
    validation = first_rows(held, count, sampling_rate)
    rows = rows.shuffle(seed=seed, buffer_size=hub.shuffle_buffer) if hub.shuffle_buffer else rows
    return RowStream(rows, sampling_rate), validation


def valentini_splits(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
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


def pairs_splits(data: DataArguments, seed: int, mixtures: int | None, sampling_rate: int) -> tuple[Any, Any]:
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
    "dns": dns_splits,
    "valentini": valentini_splits,
    "pairs": pairs_splits,
    "mixed": mixed_splits,
    "hub": hub_splits,
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
    "stream": ("dns", "mixed", "hub"),
    "augmentation": ("dns", "mixed"),
    "rooms": ("dns", "mixed"),
}
# options that a stream of rows cannot have, and why
NOT_STREAMED = {
    "validation_share": "a stream has no length; expected validation_files",
    "segments": "segments of a grid need all recordings at hand",
    "hop_seconds": "segments of a grid need all recordings at hand",
}
