"""Pairs as the Hub keeps them: `data/SPLIT-*.parquet` with columns id, clean and noisy, the audio as encoded files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .matching import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def parquet_files(root: str | Path, split: str) -> list[str]:
    """The parquet files of a split in a folder or its `data/`; downloaded where `root` is no folder but a Hub id.

    Empty where `root` is a folder without such files, or neither folder nor id.

    Raises:
        DataError: the Hub does not have them, or cannot be reached and they are not in the cache.
    """
    if Path(root).exists():
        return find_parquet(Path(root), split)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(root), re.ASCII):
        return []
    files = find_parquet(download(str(root), split), split)
    if not files:
        raise DataError(f"the data set {root} of the Hub has no data/{split}-*.parquet, or the cache has not")
    return files


def find_parquet(folder: Path, split: str) -> list[str]:
    """Paths of the parquet files of a split in `folder` and its `data/`, sorted."""
    return [str(path) for place in (folder, folder / "data") for path in sorted(place.glob(f"{split}-*.parquet"))]


def download(name: str, split: str) -> Path:
    """The folder in huggingface_hub's cache with the parquet files of a split of a data set on the Hub."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=f"data/{split}-*.parquet"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"no such folder: {name}, and no such data set can be had from the Hub: {reason}") from error


def load_parquet(files: Sequence[str]) -> "Dataset":
    """Encoded rows {"id", "clean", "noisy"} of parquet files, in their order.

    Raises:
        DataError: a file is damaged or holds something else.
    """
    from datasets import Audio, Value, load_dataset
    from datasets.exceptions import DatasetsError

    folder = Path(files[0]).parent
    try:
        rows = load_dataset("parquet", data_files={"rows": list(files)}, split="rows")
    except (OSError, ValueError, DatasetsError) as error:
        raise DataError(f"the parquet files of {folder} cannot be read: {error}") from error
    missing = sorted({"id", "clean", "noisy"} - set(rows.column_names))
    if missing:
        raise DataError(f"the parquet files of {folder} have no column {', '.join(missing)}: expected id, clean, noisy")
    rows = rows.select_columns(["id", "clean", "noisy"])
    for name, kind in (("id", Value("string")), ("clean", Audio(decode=False)), ("noisy", Audio(decode=False))):
        was = rows.features[name]
        try:
            rows = rows.cast_column(name, kind)
        except (TypeError, ValueError, NotImplementedError, DatasetsError) as error:
            expected = "names" if name == "id" else "encoded audio"
            raise DataError(f"column {name} of the parquet files of {folder} is {was}, expected {expected}") from error
    nameless = rows["id"][:].count(None)
    if nameless:
        raise DataError(f"{nameless} rows of the parquet files of {folder} have no id, expected one each")
    return rows
