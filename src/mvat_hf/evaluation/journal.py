"""Scores kept on disk as they come, so that a killed evaluation goes on where it stopped."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

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
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines() if self.path.is_file() else []
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
