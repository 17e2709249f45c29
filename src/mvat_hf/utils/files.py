"""Files that appear whole or not at all, and the folders made for them."""

import os
import re
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STALE_SECONDS = 3600  # without a write for so long, a half-written file has no writer any more


@contextmanager
def replaced_at_end(target: Path) -> Iterator[Path]:
    """
    A temporary path beside `target` that takes its place at the end, with the mode of an earlier file. After an error
    it is removed. If `target` is a link, the file that it leads to is replaced. An OSError names the target.
    """
    real = Path(os.path.realpath(target))
    partial = real.parent / f".{uuid.uuid4().hex}.partial"
    with made_folders([real.parent]):
        try:
            yield partial
            if real.is_file():
                partial.chmod(stat.S_IMODE(real.stat().st_mode))
            os.replace(partial, real)
        except OSError as error:
            if error.errno is None or error.filename is None or os.fspath(error.filename) != str(partial):
                raise
            raise OSError(error.errno, error.strerror, str(target)) from error
        finally:
            with suppress(FileNotFoundError, NotADirectoryError):
                partial.unlink()


def remove_stale(folder: Path) -> None:
    """Remove the temporary files of `replaced_at_end` anywhere below `folder` that no one has written to of late."""
    for path in folder.rglob(".*.partial"):
        with suppress(FileNotFoundError):  # another process may remove them too
            ours = re.fullmatch(r"\.[0-9a-f]{32}\.partial", path.name)
            if ours and path.stat().st_mtime < time.time() - STALE_SECONDS:
                path.unlink()


@contextmanager
def made_folders(folders: Iterable[Path]) -> Iterator[None]:
    """The folders exist; of those that were made for it, what is empty at the end goes."""
    made = {path for folder in folders for path in (folder, *folder.parents) if not path.exists()}
    try:
        for folder in sorted(made):
            folder.mkdir(exist_ok=True)
        yield
    finally:
        for folder in sorted(made, reverse=True):
            with suppress(OSError):  # something is in it
                folder.rmdir()
