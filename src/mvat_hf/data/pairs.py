"""Pairs of clean and noisy recordings as a `datasets.Dataset` that decodes on access."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
    need("data", "datasets", "filelock")
    from datasets import Audio, Value, load_dataset
    from datasets.exceptions import DatasetsError

    from .formatting import decoded

    try:
        rows = load_dataset(root, split=split)
    except (OSError, ValueError, DatasetsError) as error:
        raise DataError(f"the split {split} of {root} cannot be had: {' '.join(str(error).split())}") from error
    for name in (clean, noisy):
        if not isinstance(rows.features.get(name), Audio):
            audio = [column for column, kind in rows.features.items() if isinstance(kind, Audio)]
            raise DataError(f"{root} has no column {name} of audio, those it has: {', '.join(audio) or 'none'}")
    ids = [str(name) for name in (rows["id"] if "id" in rows.column_names else range(len(rows)))]
    rows = rows.select_columns([clean, noisy]).rename_columns({clean: "clean", noisy: "noisy"})
    return decoded(rows.add_column("id", ids).cast_column("id", Value("string")), sampling_rate)
