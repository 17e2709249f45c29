"""Pairs of clean and noisy recordings: files matched by name, and one row of a data set decoded."""

import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.pcm import FULL_SCALE
from .audio import (
    AudioError,
    AudioSource,
    EncodedAudio,
    find_audio,
    open_whole,
    read_mono,
    resampled_length,
    shown,
)

SIDES = ("clean", "noisy")


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


def files_below(folder: Path) -> list[Path]:
    """Audio files below `folder`; DataError if there are none."""
    files = find_audio(require_folder(folder))
    if not files:
        raise DataError(f"{folder} holds no audio files")
    return files


def index_folder(folder: Path, key: Callable[[Path], str]) -> dict[str, Path]:
    """Audio files below `folder` by their key; DataError if there is none, or two share a key."""
    indexed: dict[str, Path] = {}
    for path in files_below(folder):
        name = normalised(path, key)
        if name in indexed:
            raise DataError(f"{folder}: {indexed[name].name} and {path.name} are both {name}")
        indexed[name] = path
    return indexed


def normalised(path: Path, key: Callable[[Path], str]) -> str:
    """The key of a file in Unicode's form NFC: systems write letters such as é differently.

    Raises:
        DataError: see `check_name`.
    """
    check_name(path)
    return unicodedata.normalize("NFC", key(path))


def check_name(path: Path) -> None:
    """DataError if a file's path is no UTF-8: `datasets` holds text only."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the name of {shown(path)} is no UTF-8, which a data set cannot hold: rename it") from error


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
            f"{len(alone)} files of {clean} and {noisy} have no partner, expected pairs of the same name (rename them, "
            f"or take them away): {few(alone)}"
        )
    return pairs


def few(names: Sequence[str]) -> str:
    """The first three of `names`, for a message."""
    return f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}"


def source_of(value: Mapping[str, Any] | None, side: str, row: str | None = None) -> AudioSource:
    """What to open for encoded audio {"bytes", "path"}: its path, or its bytes where it has them; AudioError where it
    has neither. Errors call it by column and id, or by its name where the id is not known."""
    encoded = value or {"bytes": None, "path": None}
    name = f"{side} {row or encoded['path'] or ''}".rstrip()
    if encoded["bytes"] is not None:
        return EncodedAudio(encoded["bytes"], name)
    if encoded["path"] is None:
        raise AudioError(f"{name} has neither bytes nor a path, expected an audio file")
    return encoded["path"]


def decode_pair(
    row: Mapping[str, Any], sampling_rate: int, start: int = 0, length: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """(clean, noisy) of an encoded row, or `length` samples from `start`: (time,) float32 at `sampling_rate` Hz.

    A side that is an array or list of samples is taken as it is.

    Raises:
        FileNotFoundError, AudioError: a file that cannot be read. DataError: lengths that differ.
    """
    sides = []
    for side in SIDES:
        if is_encoded(row[side]):
            sides.append(read_mono(source_of(row[side], side, row["id"]), sampling_rate, start, length))
        else:
            audio = as_samples(row[side], side)[start:]
            sides.append(audio if length < 0 else audio[:length])
    check_lengths(row["id"], *map(len, sides))
    return sides[0], sides[1]


def pair_length(row: Mapping[str, Any], sampling_rate: int) -> int:
    """Length of what `decode_pair` gives of a row, from the headers of its files; the same errors."""
    lengths = []
    for side in SIDES:
        if not is_encoded(row[side]):
            lengths.append(len(row[side]))
            continue
        with open_whole(source_of(row[side], side, row["id"])) as file:
            lengths.append(resampled_length(file.frames, file.samplerate, sampling_rate))
    check_lengths(row["id"], *lengths)
    return lengths[0]


def as_samples(value: Any, side: str) -> np.ndarray:
    """Samples as float32, int16 and int32 divided by their full scale; DataError for other kinds of numbers."""
    audio = np.asarray(value)
    if audio.dtype.kind != "f" and audio.dtype.name not in FULL_SCALE:
        raise DataError(
            f"{side} has samples of {audio.dtype}, expected floating, {' or '.join(FULL_SCALE)}: divide them by their "
            "full scale, 32768 where they are of 16 bits"
        )
    samples = audio.astype(np.float32, copy=False)
    return samples / np.float32(FULL_SCALE[audio.dtype.name]) if audio.dtype.name in FULL_SCALE else samples


def is_encoded(value: Any) -> bool:
    """Whether a cell holds encoded audio, or none where it should, rather than samples."""
    return value is None or isinstance(value, Mapping)


def check_lengths(name: str, clean: int, noisy: int) -> None:
    """DataError unless both sides of a pair have as many samples."""
    if clean != noisy:
        raise DataError(f"pair {name}: clean has {clean} samples, noisy {noisy}, expected the same: cut the longer one")
