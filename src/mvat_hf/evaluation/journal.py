"""Scores kept on disk as they come, so that a killed evaluation goes on where it stopped."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ..data.formatting import makers_of, reference_of
from ..data.mixing import Mixer
from ..data.segments import SegmentReader
from ..metrics.scoring import FileScore
from ..utils.records import write_text

UNREADABLE = "cannot be read"  # beginning of the reasons of failures that may not happen again


class Journal:
    """
    The scores of one evaluation by (row, index of the file), in memory and in a file of JSON lines; a context manager.

    The first line names the evaluation; a journal of another one, or a line that a kill cut short, is dropped. The
    caller removes the file after writing the record.

    Args:
        path: of the file; None keeps the scores in memory only.
        evaluation: everything that the scores depend on, in JSON types.
    """

    def __init__(self, path: str | Path | None, evaluation: Mapping[str, Any]):
        self.path = None if path is None else Path(path)
        digest = hashlib.sha256(json.dumps(evaluation, sort_keys=True, default=str).encode()).hexdigest()
        self.header = json.dumps({"evaluation": digest})
        self.scores: dict[tuple[str, int], FileScore] = {}
        self.file: IO[str] | None = None

    def __enter__(self) -> "Journal":
        if self.path is not None:
            lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
            for line in lines[1:] if lines and lines[0] == self.header else []:
                self.restore(line)
            write_text(self.path, "".join(f"{line}\n" for line in [self.header, *self.lines()]))
            self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_):
        if self.file is not None:
            self.file.close()

    def add(self, row: str, index: int, score: FileScore) -> None:
        """Keep a score."""
        self.scores[row, index] = score
        if self.file is not None:
            self.file.write(f"{as_line(row, index, score)}\n")
            self.file.flush()

    def restore(self, line: str) -> None:
        """Take a line of the file, unless its recording could not be read or the line is cut short (no JSON)."""
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            return
        score = FileScore(**entry["score"])
        if score.failure is None or not score.failure.startswith(UNREADABLE):
            self.scores[entry["row"], entry["index"]] = score

    def lines(self) -> list[str]:
        """All scores as lines of the file."""
        return [as_line(row, index, score) for (row, index), score in self.scores.items()]


def as_line(row: str, index: int, score: FileScore) -> str:
    """One score as a line of JSON."""
    return json.dumps({"row": row, "index": index, "score": asdict(score)})


def stamp(dataset) -> str:
    """A digest that changes with the recordings of a data set: sizes and times of its files, checksums of audio that
    it holds itself; of mixtures also how they are made."""
    rows = dataset.with_format(None)
    digest = hashlib.sha256()
    for maker in makers_of(dataset).values():
        if isinstance(maker, Mixer):
            files = [*maker.clean, *maker.noise]
            digest.update(f"{maker.seed} {maker.options} {stamps(files)}".encode())
        elif isinstance(maker, SegmentReader):
            digest.update(f"{maker.length} {stamp(maker.encoded)}".encode())
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
