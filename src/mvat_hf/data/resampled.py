"""Copies of audio files at another sampling rate, made once and kept in a folder."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import soundfile
import soxr

from ..utils.errors import extra
from ..utils.files import disk_reason, lack_of_room, remove_stale, replaced_at_end
from .audio import AudioError, open_audio, read_mono
from .parallel import map_in_threads

with extra("data"):
    from filelock import FileLock


def resampled_copies(files: Sequence[Path], sampling_rate: int, folder: str | Path) -> list[Path]:
    """
    The files at `sampling_rate` Hz, in their order: a file that has this rate itself, else its copy below `folder`,
    which is made if it is missing. A file that is given twice comes twice.

    A copy is mono float32 wav, equal to `read_mono` of the file to the bit, so training is the same. It belongs to the
    file's path, size and time of modification: a changed file gets a new copy, and the old one stays until someone
    empties the folder. Copies appear whole or not at all. One process at a time makes them; a killed
    one leaves whole copies behind. While less than 2 GiB of the disk are free, none is made, and a warning says so.

    A file without a copy is returned as it is; if it cannot be read, its error names it when it is used.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    copies = {path: copy_of(path, sampling_rate, folder) for path in files}
    if not all(copy.exists() for copy in copies.values()):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            missing = [path for path, copy in copies.items() if not copy.exists()]
            remove_stale(folder, 0)  # whoever has the lock is the only one that writes
            map_in_threads(lambda path: make_copy(path, copies[path], sampling_rate), missing, "resampling")
            if fault := lack_of_room(folder):
                warnings.warn(
                    f"not all files have copies in {folder}: {fault}. The others are resampled each time.", stacklevel=2
                )
    found = {path: copy if copy.exists() else path for path, copy in copies.items()}
    return [found[path] for path in files]


def copy_of(path: Path, sampling_rate: int, folder: Path) -> Path:
    """Where the copy of a file is, for its present size and time of modification and this version of the resampler."""
    state = path.stat()
    origin = (path.absolute(), state.st_size, state.st_mtime_ns, sampling_rate, soxr.__libsoxr_version__)
    digest = hashlib.sha256(repr(origin).encode()).hexdigest()[:16]
    return folder / path.parent.name / f"{path.stem}.{digest}.wav"


def make_copy(path: Path, copy: Path, sampling_rate: int) -> None:
    """Write `copy`; nothing for a file of that rate or one that is no audio, or where there is no room."""
    if lack_of_room(copy.parents[1]):
        return
    try:
        with open_audio(path) as file:
            if file.samplerate == sampling_rate:
                return
        mono = read_mono(path, sampling_rate)
    except AudioError:
        return
    try:
        with replaced_at_end(copy) as partial:
            soundfile.write(partial, mono, sampling_rate, subtype="FLOAT", format="WAV")
    except soundfile.LibsndfileError as error:
        reason = disk_reason(copy.parent, error.error_string)
        raise OSError(f"{copy} cannot be written: {reason}") from error
