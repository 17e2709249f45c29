"""Pairs of clean and noisy recordings as a `datasets.Dataset` that decodes on access."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.errors import need
from .matching import SIDES, DataError, Pair, check_name, match_pairs

if TYPE_CHECKING:
    from datasets import Dataset


def pairs_dataset(pairs: Sequence[Pair], sampling_rate: int) -> "Dataset":
    """`pairs` as a `datasets.Dataset` whose items are {"id", "clean", "noisy"}, decoded on access.

    Its rows are encoded audio as `datasets.Audio` has it: the paths of the files, from the root of the disk.
    """
    import pyarrow

    from .formatting import audio_rows, decoded, encoded_paths

    for pair in pairs:
        check_name(pair.clean)
        check_name(pair.noisy)
    sides = {side: pyarrow.array([str(getattr(pair, side).absolute()) for pair in pairs]) for side in SIDES}
    ids = pyarrow.array([pair.id for pair in pairs])
    return decoded(audio_rows(ids, {side: encoded_paths(paths) for side, paths in sides.items()}, sampling_rate))


def load_pairs(clean: str | Path, noisy: str | Path, *, sampling_rate: int = 16000) -> "Dataset":
    """Two folders with files of the same names (suffixes may differ) as a data set of pairs; see `match_pairs`."""
    need("data", "datasets", "filelock")
    return pairs_dataset(match_pairs(Path(clean), Path(noisy)), sampling_rate)


def load_columns(root: str, split: str, clean: str, noisy: str, sampling_rate: int = 16000) -> "Dataset":
    """
    Two columns of audio of any data set that `datasets.load_dataset` takes, as a data set of pairs.

    Args:
        root: an id on the Hub, or a folder.
        split: of it.
        clean, noisy: names of its columns; a column "id" is kept, else the number of the row is the id.

    Raises:
        DataError: it cannot be had, or has no such column of audio.
    """
    from datasets import Value

    from .formatting import decoded

    rows = read_columns(root, split, clean, noisy)
    ids = [str(name) for name in (rows["id"] if "id" in rows.column_names else range(len(rows)))]
    rows = rows.select_columns([*SIDES]).add_column("id", ids).cast_column("id", Value("string"))
    return decoded(rows, sampling_rate)


def read_columns(root: str, split: str, clean: str, noisy: str, streaming: bool = False) -> Any:
    """The rows of `load_columns` with the columns clean, noisy and, where there is one, id; nothing is decoded.

    Args:
        streaming: an `IterableDataset`, which is read as it is asked for, in place of a `Dataset`.
    """
    need("data", "datasets", "filelock")
    from datasets import Audio, load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(root, split=split, streaming=streaming)
    except (OSError, ValueError, DatasetsError) as error:
        told = " ".join(str(error.__cause__ or error).split())
        raise DataError(f"the split {split} of {root} cannot be had: {told}") from error
    features = rows.features or {}
    for name in (clean, noisy):
        if not isinstance(features.get(name), Audio):
            audio = [column for column, kind in features.items() if isinstance(kind, Audio)]
            raise DataError(f"{root} has no column {name} of audio, those it has: {', '.join(audio) or 'none'}")
    rows = rows.select_columns([clean, noisy, *(["id"] if "id" in features else [])])
    names = {old: new for old, new in ((clean, "clean"), (noisy, "noisy")) if old != new}
    rows = rows.rename_columns(names) if names else rows
    for side in SIDES:
        rows = rows.cast_column(side, Audio(decode=False))
    return rows


def first_rows(rows: Any, count: int, sampling_rate: int) -> "Dataset":
    """The first `count` rows of an `IterableDataset` of pairs as a data set that is held in memory."""
    import pyarrow

    from .formatting import audio_rows, decoded

    taken = list(rows.take(count))
    if not taken:
        raise DataError("the data set has no rows, expected at least one pair")
    ids = pyarrow.array([str(row.get("id", number)) for number, row in enumerate(taken)])
    encoded = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    sides = {side: pyarrow.array([row[side] for row in taken], encoded) for side in SIDES}
    return decoded(audio_rows(ids, sides, sampling_rate))
