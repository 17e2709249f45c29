"""Pairs of clean and noisy recordings, matched by name, as a `datasets.Dataset` that decodes on access."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import need
from .audio import (
    AudioError,
    AudioSource,
    EncodedAudio,
    describe_files,
    find_audio,
    open_whole,
    read_mono,
    resampled_length,
)

if TYPE_CHECKING:
    from datasets import Dataset


class DataError(ValueError):
    """A data set on disk that is not as its users have it; the message names the folder and what was expected."""


class PartialDataWarning(UserWarning):
    """A copy of a corpus that is not whole: it can be used, but its scores stand beside no published ones."""


@dataclass(frozen=True)
class Pair:
    """One recording: its id, and the files of its clean and noisy versions."""

    id: str
    clean: Path
    noisy: Path


def require_folder(folder: Path) -> Path:
    """`folder` itself; DataError if it is not there."""
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    return folder


def index_folder(folder: Path, key: Callable[[Path], str]) -> dict[str, Path]:
    """Audio files below `folder` by their key; DataError if there is none, or two share a key."""
    indexed: dict[str, Path] = {}
    for path in find_audio(require_folder(folder)):
        if key(path) in indexed:
            raise DataError(f"{folder}: {indexed[key(path)].name} and {path.name} are both {key(path)}")
        indexed[key(path)] = path
    if not indexed:
        raise DataError(f"{folder} holds no audio files")
    return indexed


def match_files(clean: Path, noisy: Path, key: Callable[[Path], str] | None = None) -> tuple[list[Pair], list[str]]:
    """(pairs of two folders, ids of the files without a partner), both sorted.

    Args:
        clean, noisy: folders with one file a recording.
        key: what both files of a pair share, its id; by default the path below the folder without its suffix.

    Raises:
        DataError: a folder is missing or empty, or two of its files share a key.
    """
    cleans = index_folder(clean, key or (lambda path: path.relative_to(clean).with_suffix("").as_posix()))
    noisies = index_folder(noisy, key or (lambda path: path.relative_to(noisy).with_suffix("").as_posix()))
    pairs = [Pair(name, cleans[name], noisies[name]) for name in sorted(cleans.keys() & noisies.keys())]
    return pairs, sorted(cleans.keys() ^ noisies.keys())


def match_pairs(clean: Path, noisy: Path, key: Callable[[Path], str] | None = None) -> list[Pair]:
    """The pairs of `match_files`; DataError too if a file has no partner."""
    pairs, alone = match_files(clean, noisy, key)
    if alone:
        raise DataError(
            f"{len(alone)} files of {clean} and {noisy} have no partner, expected pairs of the same name: {few(alone)}"
        )
    return pairs


def few(names: Sequence[str]) -> str:
    """The first three of `names`, for a message."""
    return f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}"


def encode_pairs(pairs: Sequence[Pair]) -> "Dataset":
    """Rows {"id", "clean", "noisy"} of encoded audio, {"bytes", "path"} as `datasets.Audio` has it; bytes are None."""
    from datasets import Dataset, Features, Value

    audio = {"bytes": Value("binary"), "path": Value("string")}
    columns = {
        "id": [pair.id for pair in pairs],
        "clean": [{"bytes": None, "path": str(pair.clean)} for pair in pairs],
        "noisy": [{"bytes": None, "path": str(pair.noisy)} for pair in pairs],
    }
    return Dataset.from_dict(columns, Features({"id": Value("string"), "clean": audio, "noisy": audio}))


def source_of(row: Mapping[str, Any], side: str) -> AudioSource:
    """What to open for the "clean" or "noisy" side of an encoded row: its path, or its bytes where it has them;
    AudioError where it has neither."""
    encoded = row[side] or {"bytes": None, "path": None}
    if encoded["bytes"] is not None:
        return EncodedAudio(encoded["bytes"], f"{side} {row['id']}")
    if encoded["path"] is None:
        raise AudioError(f"{side} {row['id']} has neither bytes nor a path, expected an audio file")
    return encoded["path"]


def decode_pair(
    row: Mapping[str, Any], sampling_rate: int, start: int = 0, length: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """(clean, noisy) of an encoded row, or `length` samples from `start`: (time,) float32 at `sampling_rate` Hz.

    Raises:
        FileNotFoundError, AudioError: a file that cannot be read. DataError: lengths that differ.
    """
    clean, noisy = (read_mono(source_of(row, side), sampling_rate, start, length) for side in ("clean", "noisy"))
    check_lengths(row["id"], len(clean), len(noisy))
    return clean, noisy


def pair_length(row: Mapping[str, Any], sampling_rate: int) -> int:
    """Length of what `decode_pair` gives of a row, from the headers of its files; the same errors."""
    lengths = []
    for side in ("clean", "noisy"):
        with open_whole(source_of(row, side)) as file:
            lengths.append(resampled_length(file.frames, file.samplerate, sampling_rate))
    check_lengths(row["id"], *lengths)
    return lengths[0]


def check_lengths(name: str, clean: int, noisy: int) -> None:
    """DataError unless both sides of a pair have as many samples."""
    if clean != noisy:
        raise DataError(f"pair {name}: clean has {clean} samples, noisy {noisy}, expected the same")


@dataclass(frozen=True)
class DecodePairs:
    """Batch transform of encoded rows: {"id", "clean", "noisy"}, arrays (time,) float32 at `sampling_rate` Hz.

    Args:
        encoded: all rows of the data set, to describe it.
        sampling_rate: in Hz.
    """

    encoded: "Dataset"
    sampling_rate: int

    def describe(self) -> dict[str, dict]:
        """Files, hours and folders of the clean speech, for the record of a run."""
        return {"pairs": describe_files(source_of(row, "clean") for row in self.encoded)}

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        rows = (dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True))
        pairs = [decode_pair(row, self.sampling_rate) for row in rows]
        return {"id": batch["id"], "clean": [clean for clean, _ in pairs], "noisy": [noisy for _, noisy in pairs]}


def decoded(encoded: "Dataset", sampling_rate: int) -> "Dataset":
    """Encoded rows as a data set whose items are decoded on access."""
    return encoded.with_transform(DecodePairs(encoded, sampling_rate))


def pairs_dataset(pairs: Sequence[Pair], sampling_rate: int) -> "Dataset":
    """`pairs` as a `datasets.Dataset` whose items are {"id", "clean", "noisy"}, decoded on access."""
    return decoded(encode_pairs(pairs), sampling_rate)


def load_pairs(clean: str | Path, noisy: str | Path, *, sampling_rate: int = 16000) -> "Dataset":
    """Two folders with files of the same names (suffixes may differ) as a data set of pairs; see `match_pairs`."""
    need("data", "datasets", "filelock")
    return pairs_dataset(match_pairs(Path(clean), Path(noisy)), sampling_rate)
