"""Scores kept on disk as they come, so that a killed evaluation goes on where it stopped."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from .metrics.scoring import FileScore
from .records import write_text


class Journal:
    """
    The scores of one evaluation by (row, index of the file), in memory and in a file of JSON lines; a context manager.

    The first line names the evaluation; a journal of another one, or a line that a kill cut short, is dropped. The file
    goes when the block ends, and stays when an error ends it.

    Args:
        path: of the file; None keeps the scores in memory only.
        evaluation: all that the scores depend on, as JSON can hold it.
    """

    def __init__(self, path: str | Path | None, evaluation: Mapping[str, Any]):
        self.path = None if path is None else Path(path)
        digest = hashlib.sha256(json.dumps(evaluation, sort_keys=True, default=str).encode()).hexdigest()
        self.header = json.dumps({"evaluation": digest})
        self.scores: dict[tuple[str, int], FileScore] = {}
        self.file: IO[str] | None = None

    def __enter__(self) -> "Journal":
        if self.path is not None:
            lines = self.path.read_text().splitlines() if self.path.is_file() else []
            for line in lines[1:] if lines and lines[0] == self.header else []:
                self.restore(line)
            write_text(self.path, "".join(f"{line}\n" for line in [self.header, *self.lines()]))
            self.file = self.path.open("a")
        return self

    def __exit__(self, error, *_):
        if self.path is not None and self.file is not None:
            self.file.close()
            if error is None:
                self.path.unlink()

    def add(self, row: str, index: int, score: FileScore) -> None:
        """Keep a score."""
        self.scores[row, index] = score
        if self.file is not None:
            self.file.write(f"{as_line(row, index, score)}\n")
            self.file.flush()

    def restore(self, line: str) -> None:
        """Take a line of the file; one that was not written to its end is no JSON."""
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            return
        self.scores[entry["row"], entry["index"]] = FileScore(**entry["score"])

    def lines(self) -> list[str]:
        """All scores as lines of the file."""
        return [as_line(row, index, score) for (row, index), score in self.scores.items()]


def as_line(row: str, index: int, score: FileScore) -> str:
    """One score as a line of JSON."""
    return json.dumps({"row": row, "index": index, "score": asdict(score)})
