"""Digests that change with the recordings of a data set."""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .formatting import makers_of, reference_of


def stamp(dataset) -> str:
    """A digest that changes with the recordings of a data set: sizes and times of its files, checksums of audio that
    it holds itself; of recordings that are made also what of, and how."""
    rows = dataset.with_format(None)
    digest = hashlib.sha256()
    for maker in makers_of(dataset).values():
        digest.update(maker.stamp().encode())
    for row in rows:
        for name, value in row.items():
            if isinstance(value, Mapping) and value.get("bytes") is not None:
                told: Any = (len(value["bytes"]), zlib.crc32(value["bytes"]))
            elif reference := reference_of(value):
                told = reference[1:]
            elif isinstance(value, Mapping) and value.get("path") is not None:
                told = stamps([value["path"]])
            else:
                told = value
            digest.update(f"{name} {told}\n".encode())
    return digest.hexdigest()


def stamps(files: Iterable[str | Path]) -> list[tuple[str, int, int]]:
    """Name, size in bytes and time of change of every file; -1 where it is not there."""
    found = []
    for path in map(Path, files):
        try:
            status = path.stat()
        except OSError:
            found.append((str(path), -1, -1))
        else:
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return found
