"""Pairs of clean and noisy recordings, matched by name, as a `datasets.Dataset` that decodes on access."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .audio import describe_files, find_audio, read_mono

if TYPE_CHECKING:
    from datasets import Dataset


class DataError(ValueError):
    """A data set on disk that is not as its users have it; the message names the folder and what was expected."""


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


def match_pairs(clean: Path, noisy: Path, key: Callable[[Path], str] | None = None) -> list[Pair]:
    """The pairs of two folders, sorted by id.

    Args:
        clean, noisy: folders with one file a recording.
        key: what both files of a pair share; by default the path below the folder without its suffix.

    Raises:
        DataError: a folder is missing or empty, or a file has no partner.
    """
    cleans = index_folder(clean, key or (lambda path: path.relative_to(clean).with_suffix("").as_posix()))
    noisies = index_folder(noisy, key or (lambda path: path.relative_to(noisy).with_suffix("").as_posix()))
    alone = sorted(cleans.keys() ^ noisies.keys())
    if alone:
        raise DataError(
            f"{len(alone)} files of {clean} and {noisy} have no partner, expected pairs of the same name: "
            f"{', '.join(alone[:3])}{' …' if len(alone) > 3 else ''}"
        )
    return [Pair(name, cleans[name], noisies[name]) for name in sorted(cleans)]


@dataclass(frozen=True)
class DecodePairs:
    """Batch transform: paths to float32 arrays "clean" and "noisy", each (time,), at `sampling_rate` Hz."""

    pairs: Sequence[Pair]
    sampling_rate: int

    def describe(self) -> dict[str, dict]:
        """Files, hours and folders of the clean speech, for the record of a run."""
        return {"pairs": describe_files([pair.clean for pair in self.pairs])}

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        clean = [read_mono(path, self.sampling_rate) for path in batch["clean_path"]]
        noisy = [read_mono(path, self.sampling_rate) for path in batch["noisy_path"]]
        for name, one, other in zip(batch["id"], clean, noisy, strict=True):
            if len(one) != len(other):
                raise DataError(f"pair {name}: clean has {len(one)} samples, noisy {len(other)}, expected the same")
        return {"id": batch["id"], "clean": clean, "noisy": noisy}


def pairs_dataset(pairs: Iterable[Pair], sampling_rate: int) -> "Dataset":
    """`pairs` as a `datasets.Dataset` whose items are {"id", "clean", "noisy"}, decoded on access."""
    from datasets import Dataset

    pairs = list(pairs)
    columns = {
        "id": [pair.id for pair in pairs],
        "clean_path": [str(pair.clean) for pair in pairs],
        "noisy_path": [str(pair.noisy) for pair in pairs],
    }
    return Dataset.from_dict(columns).with_transform(DecodePairs(pairs, sampling_rate))


def load_pairs(clean: str | Path, noisy: str | Path, *, sampling_rate: int = 16000) -> "Dataset":
    """Two folders with files of the same names (suffixes may differ) as a data set of pairs; see `match_pairs`."""
    return pairs_dataset(match_pairs(Path(clean), Path(noisy)), sampling_rate)
