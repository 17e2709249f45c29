"""The DNS Challenge data of Interspeech 2020 as its users have it on disk: test sets, and training mixed on the fly."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..utils.errors import need
from .augment import Augmentation
from .matching import DataError, Pair, files_below, match_pairs, require_folder
from .mixing import Mixer, MixingOptions
from .pairs import pairs_dataset
from .reverb import ResponseFiles, Rooms, response_files, simulate_rooms
from .streaming import MixtureStream

if TYPE_CHECKING:
    from datasets import Dataset

Item = TypeVar("Item")

TEST_SETS = {"test": "no_reverb", "no_reverb": "no_reverb", "with_reverb": "with_reverb"}
DNS_SPLITS = ("train", "validation", *TEST_SETS)
SOURCES = ("mixed", "synthesised")
HELD_OUT_SHARE = 0.1  # of the noise types, and of the speakers where there is no clean_valid folder


def load_dns(
    root: str | Path,
    split: str,
    *,
    source: str | None = None,
    streaming: bool = False,
    batch_size: int = 1,
    size: int | None = None,
    seed: int = 0,
    mixing: MixingOptions | None = None,
    rooms: Rooms | None = None,
    sampling_rate: int = 16000,
) -> "Dataset | MixtureStream":
    """
    Pairs of one split; items are {"id", "clean", "noisy"}, arrays (time,) at `sampling_rate` Hz.

    Args:
        root: folder that holds `datasets/` (`clean`, `noise`, `test_set`; optionally `clean_valid` and
            `impulse_responses`) or that folder; the challenge's synthesiser puts `training/` beside `datasets/`.
        split: "train" and "validation": see `source`; "test" or "no_reverb", "with_reverb": the synthetic test sets.
        source: of training and validation. "mixed": training mixtures made on the fly from `clean` and `noise`; fixed
            validation mixtures, never augmented, of the whole files of `clean_valid` (else of a tenth of the speakers)
            with a tenth of the noise types, both held out of training, at SNRs and levels of the same ranges as in
            training: runs that differ in these validate on other mixtures. "synthesised": the pairs of
            `training/{clean,noisy}` by fileid, without a tenth of the readers (else of the pairs) for validation. By
            default "mixed" where there is a `clean` folder.
        streaming: an endless `MixtureStream` of the training mixtures; see there how it is split and resumed.
        batch_size: of the `DataLoader` that reads the stream, so that its batches do not depend on its workers.
        size: number of mixtures; by default 10 per speech file to train, one to validate. Of mixtures alone.
        seed: of the training mixtures and simulated rooms; validation does not depend on it.
        mixing: how to mix; the challenge's ranges by default.
        rooms: what to simulate where reverberation is asked for and there is no `impulse_responses` folder.

    Raises:
        DataError: unknown split or source, missing folder, no files, files without a partner of the same fileid, or an
            option that the split or the source has no use for.
    """
    need("data", "datasets", "filelock")
    if split not in DNS_SPLITS:
        raise DataError(f'unknown split "{split}" of DNS, expected one of: {", ".join(DNS_SPLITS)}')
    if source not in (None, *SOURCES):
        raise DataError(f'unknown source "{source}" of DNS, expected one of: {", ".join(SOURCES)}')
    if size is not None and size < 1:
        raise DataError(f"size must be at least one mixture, got {size}")
    data, training = folders_of(root)
    given = {"source": source, "size": size, "mixing": mixing, "rooms": rooms}
    source = source_of(root, source)
    check_stream(streaming, split, source, size, batch_size)
    if split in TEST_SETS:
        refuse(given, ("source", "size", "mixing", "rooms"), "a test set is taken whole and as it is")
        folder = data / "test_set" / "synthetic" / TEST_SETS[split]
        return pairs_dataset(match_pairs(folder / "clean", folder / "noisy", key=fileid), sampling_rate)
    if source == "synthesised":
        refuse(given, ("size", "mixing", "rooms"), f"{training} holds pairs that are synthesised already, taken whole")
        return pairs_dataset(split_synthesised(training)[split == "validation"], sampling_rate)
    if split == "validation":
        refuse(given, ("rooms",), "validation mixtures have no reverberation")
    options = options_at(sampling_rate, mixing)
    if split == "train":
        mixer = training_mixer(data, options, rooms, seed)
    else:
        mixer = validation_mixer(split_speech(data)[1], split_noise(data)[1], options)
    if streaming:
        return MixtureStream(mixer, batch_size)
    return mixtures(mixer, size or (10 if split == "train" else 1) * len(mixer.clean))


def check_stream(streaming: bool, split: str, source: str, size: int | None, batch_size: int) -> None:
    """DataError for a stream of what has an end, and for a `batch_size` without a stream."""
    if streaming and (split, source, size) != ("train", "mixed", None):
        raise DataError(
            "a stream is endless and mixes training data, expected split train, source mixed and no size, "
            f"got {split}, {source} and {size}"
        )
    if batch_size != 1 and not streaming:
        raise DataError(f"batch_size is that of a stream, expected streaming=True beside it, got {batch_size} alone")


def options_at(sampling_rate: int, mixing: MixingOptions | None) -> MixingOptions:
    """`mixing`, or the challenge's, at `sampling_rate` Hz; DataError if it is for another rate that was chosen."""
    if mixing is not None and mixing.sampling_rate not in (MixingOptions.sampling_rate, sampling_rate):
        raise DataError(f"mixing is for {mixing.sampling_rate} Hz, sampling_rate is {sampling_rate}: expected the same")
    return replace(mixing or MixingOptions(), sampling_rate=sampling_rate)


def folders_of(root: str | Path) -> tuple[Path, Path]:
    """(folder of clean, noise and test_set, folder of synthesised pairs) of what `load_dns` takes as its root."""
    root = require_folder(Path(root))
    data = root / "datasets" if (root / "datasets").is_dir() else root
    return data, (root.parent if root.name == "datasets" else root) / "training"


def source_of(root: str | Path, source: str | None) -> str:
    """`source` itself, or where it is None what the folders have: "mixed" or "synthesised"."""
    data, training = folders_of(root)
    return source or ("synthesised" if training.is_dir() and not (data / "clean").is_dir() else "mixed")


def refuse(given: Mapping[str, Any], names: Sequence[str], reason: str) -> None:
    """DataError if an option of `names` differs from its default; of `mixing`, the length of a crop may differ."""
    for name in names:
        value = given[name]
        default = MixingOptions(value.seconds) if isinstance(value, MixingOptions) else Rooms()
        if value is not None and value != default:
            raise DataError(f"{reason}: expected no {name}, got {name}={value}")


def training_mixer(data: Path, options: MixingOptions, rooms: Rooms | None, seed: int) -> Mixer:
    """Mixes what is not held out; with responses of rooms where the options ask for reverberation."""
    clean, _ = split_speech(data)
    noise, _ = split_noise(data)
    reverberates = options.augmentation.reverb_probability > 0
    responses = room_responses(data, rooms or Rooms(), options.sampling_rate, seed) if reverberates else ()
    return Mixer(clean, noise, options, seed, responses, speaker_chances(clean, data / "clean", options.speaker_power))


def validation_mixer(clean: Sequence[Path], noise: Sequence[Path], options: MixingOptions) -> Mixer:
    """Mixes whole files of what is held out, without augmentation."""
    return Mixer(clean, noise, replace(options, seconds=None, augmentation=Augmentation()))


def mixtures(mixer: Mixer, size: int) -> "Dataset":
    """The first `size` mixtures of `mixer` as a `datasets.Dataset` that makes them on access."""
    import pyarrow
    import pyarrow.compute

    from .formatting import made_dataset

    keys = pyarrow.array(np.arange(size)).cast(pyarrow.string())
    ids = pyarrow.compute.binary_join_element_wise("mixture", keys, "_")
    return made_dataset(ids, keys, mixer)


def fileid(path: Path) -> str:
    """ "fileid_133" of `clnsp104_…_fileid_133.flac`; DataError where there is none."""
    found = re.search(r"fileid_\d+", path.stem)
    if found is None:
        raise DataError(f"{path} has no fileid_N in its name, expected one as in the DNS test sets")
    return found[0]


def room_responses(data: Path, rooms: Rooms, sampling_rate: int, seed: int) -> Sequence[np.ndarray] | ResponseFiles:
    """Impulse responses of the folder `impulse_responses` where there is one, else of simulated rooms."""
    folder = data / "impulse_responses"
    if not folder.is_dir():
        return simulate_rooms(rooms, sampling_rate, seed)
    responses = response_files(folder, sampling_rate)
    if not len(responses):
        raise DataError(f"{folder} holds no impulse responses; without that folder rooms are simulated")
    return responses


def split_speech(data: Path) -> tuple[list[Path], list[Path]]:
    """(training, validation) speech files: `clean_valid` is validation where it exists, else speakers are held out."""
    clean = files_below(data / "clean")
    if (data / "clean_valid").is_dir():
        return clean, files_below(data / "clean_valid")
    return hold_out(clean, data / "clean")


def split_noise(data: Path) -> tuple[list[Path], list[Path]]:
    """(training, validation) noise files: types are held out."""
    return hold_out(files_below(data / "noise"), data / "noise")


def split_synthesised(training: Path) -> tuple[list[Pair], list[Pair]]:
    """(training, validation) pairs of the folders `clean` and `noisy`, held out by the readers that names tell."""
    pairs = match_pairs(training / "clean", training / "noisy", key=fileid)
    groups = [reader_of(pair.noisy) or reader_of(pair.clean) or pair.id for pair in pairs]
    return divided(pairs, groups, training)


def reader_of(path: Path) -> str | None:
    """ "reader_06709" of `book_00000_chp_0009_reader_06709_0.wav`, as the corpus names its speech."""
    found = re.search(r"reader_\d+", path.name)
    return found[0] if found else None


def group_of(path: Path) -> str:
    """The group that is held out together with a file, by its path below the data folder."""
    return path.parts[0] if len(path.parts) > 1 else reader_of(path) or path.parts[0]


def speaker_chances(files: Sequence[Path], folder: Path, power: float) -> np.ndarray | None:
    """(files,) for `mixing.drawn`, so that speakers are heard as `MixingOptions.speaker_power` says; None if alike."""
    if power == 1:
        return None
    speakers = [group_of(path.relative_to(folder)) for path in files]
    count = Counter(speakers)
    chances = np.array([count[speaker] ** (power - 1) for speaker in speakers])
    return np.cumsum(chances / np.sum(chances))


def hold_out(files: Sequence[Path], folder: Path) -> tuple[list[Path], list[Path]]:
    """(kept, held out): whole sub-folders (speakers, noise types), or the readers that the corpus' flat names tell
    ("…_reader_06709_0.wav"), else single files."""
    return divided(files, [group_of(path.relative_to(folder)) for path in files], folder)


def divided(items: Sequence[Item], groups: Sequence[str], folder: Path) -> tuple[list[Item], list[Item]]:
    """(kept, held out) of `items`, each of one of the `groups` of `folder`: a tenth of these is held out, chosen by the
    list of their names alone. Every run and machine holds out the same of the same corpus. With a group more or less,
    others are held out.

    Raises:
        DataError: fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(f"{folder} has {len(names)} group or file, expected at least 2 to hold some out for validation")
    chosen = np.random.default_rng(0).permutation(len(names))[: max(1, round(HELD_OUT_SHARE * len(names)))]
    held_out = {names[index] for index in chosen}
    kept = [item for item, group in zip(items, groups, strict=True) if group not in held_out]
    return kept, [item for item, group in zip(items, groups, strict=True) if group in held_out]
