"""Files that appear whole or not at all, the folders made for them, and what there is no room for."""

import errno
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

STALE_SECONDS = 3600  # without a write for so long, a half-written file has no writer any more
# of a write to a file that is named nowhere else: no room, too much for one user or one file, only to be read
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
SPARE_BYTES = 2**31  # that caches leave to checkpoints and what else is written
FULL_BYTES = 2**20  # with less a disk counts as full


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
            unnamed = error.filename is None and error.errno in DISK_ERRORS
            if error.errno is None or not (unnamed or str(error.filename) == str(partial)):
                raise
            raise OSError(error.errno, error.strerror, str(target)) from error
        finally:
            with suppress(FileNotFoundError, NotADirectoryError):
                partial.unlink()


def lack_of_room(folder: Path) -> str | None:
    """Why a cache in `folder` may not grow: its disk is to keep 2 GiB, and takes no more files; None if it may."""
    if shutil.disk_usage(folder).free < SPARE_BYTES:
        return f"less than {SPARE_BYTES / 2**30:g} GiB of its disk are free"
    names = os.statvfs(folder) if hasattr(os, "statvfs") else None  # Windows has none
    return "its disk takes no more files" if names and names.f_files and not names.f_favail else None


def disk_reason(folder: Path, otherwise: str) -> str:
    """Why nothing more can be written to `folder`, where a library does not say: its disk is full, or `otherwise`."""
    full = folder.is_dir() and shutil.disk_usage(folder).free < FULL_BYTES
    return os.strerror(errno.ENOSPC) if full else otherwise


def remove_stale(folder: Path, seconds: float = STALE_SECONDS) -> None:
    """Remove the temporary files of `replaced_at_end` below `folder` that no one has written to for so many seconds."""
    for path in folder.rglob(".*.partial"):
        with suppress(OSError):  # another process may remove them too; another user's stay
            ours = re.fullmatch(r"\.[0-9a-f]{32}\.partial", path.name)
            if ours and path.stat().st_mtime <= time.time() - seconds:
                path.unlink()


@contextmanager
def made_folders(folders: Iterable[Path], lenient: bool = False) -> Iterator[None]:
    """The folders exist; of those that were made for it, what is empty at the end goes.

    Args:
        lenient: where one cannot be made, leave the error to whoever writes there.
    """
    made = {path for folder in folders for path in (folder, *folder.parents) if not os.path.exists(path)}
    try:
        for folder in sorted(made):
            with suppress(OSError) if lenient else nullcontext():
                folder.mkdir(exist_ok=True)
        yield
    finally:
        for folder in sorted(made, reverse=True):
            with suppress(OSError):  # something is in it
                folder.rmdir()
