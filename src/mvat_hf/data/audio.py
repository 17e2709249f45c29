"""Reading, checking and resampling audio. Audio here is float32 (channels, time) in [-1, 1].

Whatever is read goes through `open_audio`: wav, flac and their like by libsndfile, compressed audio and the sound of
videos by FFmpeg, Ogg by libsndfile where it is whole.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from .opening import (
    AudioError,
    AudioFile,
    AudioSource,
    DamagedAudioWarning,
    EncodedAudio,
    StreamFile,
    Teller,
    open_file,
    shown,
)

# of every file that is looked for in folders: what libsndfile or FFmpeg open, sound tracks of videos too
AUDIO_SUFFIXES = (
    ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".caf", ".au",
    ".wave", ".bwf", ".rf64", ".aifc", ".snd", ".sph", ".voc", ".sd2", ".oga", ".spx", ".mp2", ".mpga", ".m4a", ".m4b",
    ".aac", ".wma", ".amr", ".awb", ".3gp", ".3ga", ".3g2", ".ac3", ".eac3", ".ape", ".wv", ".tta", ".mka",
    ".webm", ".weba", ".mp4", ".m4v", ".mov", ".mkv", ".avi", ".wmv", ".flv", ".ts", ".mts", ".mpg", ".mpeg", ".ogv",
)  # fmt: skip


def open_audio(source: AudioSource, whole: bool = False) -> AudioFile:
    """Open a file, or the sound track of a video, for reading: the default audio stream, else the first.

    Recordings that were joined into one file are read one after the other, at the rate and with the channels of the
    first. A `DamagedAudioWarning` names a damaged file and its missing parts as soon as they are known; in some formats
    this is while it is read.

    Args:
        whole: raise AudioError in place of that warning.

    Raises:
        FileNotFoundError: no such file. AudioError: no regular file, one that cannot be opened, empty, not audio, or
            without a single sample.
    """
    return open_and_tell(source, Teller(shown(source), strict=whole))


def open_and_tell(source: AudioSource, tell: Teller) -> AudioFile:
    """`open_audio` for whoever hears what is missing."""
    size, changed = check_source(source)
    try:
        return open_file(source, size, changed, tell)
    except OSError as error:
        raise AudioError(f"{shown(source)} cannot be read: {error.strerror}") from error


def check_source(source: AudioSource) -> tuple[int, int]:
    """(size in bytes, time of its last change) of what may be opened; errors as `open_audio` has them."""
    if isinstance(source, EncodedAudio):
        size, changed = source.getbuffer().nbytes, 0
    else:
        try:
            status = os.stat(source)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(f"no such audio file: {shown(source)}") from error
        except (OSError, ValueError) as error:
            raise AudioError(f"{shown(source)} cannot be read: {getattr(error, 'strerror', error)}") from error
        check_kind(source, status.st_mode)
        size, changed = status.st_size, status.st_mtime_ns
    if size == 0:
        raise AudioError(f"{shown(source)} is empty (0 bytes), expected audio")
    return size, changed


def check_kind(source: str | Path, mode: int) -> None:
    """AudioError for what is no regular file."""
    name = shown(source)
    if stat.S_ISDIR(mode):
        closed = "" if os.access(source, os.R_OK | os.X_OK) else " that cannot be read: Permission denied"
        raise AudioError(f"{name} is a folder{closed}, expected an audio file")
    if stat.S_ISFIFO(mode):
        raise AudioError(
            f"{name} is a pipe, expected a file: write what comes through it to a file first, or feed it as raw "
            "samples to `mvat stream`"
        )
    if not stat.S_ISREG(mode):
        raise AudioError(f"{name} is a device or a socket, expected an audio file")


def open_whole(source: AudioSource) -> AudioFile:
    """`open_audio`, and AudioError for a file with missing parts: the rest would pass as whole."""
    return open_audio(source, whole=True)


def audio_seconds(source: AudioSource | AudioFile) -> float:
    """Length in s of a file, or of one that is open, by its header where that tells it, else by a pass through it;
    the errors of `open_audio`."""
    if not isinstance(source, AudioFile):
        with open_and_tell(source, Teller(shown(source), quiet=True)) as file:
            return audio_seconds(file)
    told = told_seconds(source)
    return source.frames / source.samplerate if told is None else told


def told_seconds(file: AudioFile) -> float | None:
    """Length in s of an open file by its header, where that tells it: what FFmpeg reads would have to be decoded."""
    return file.seconds if isinstance(file, StreamFile) else file.frames / file.samplerate


def check_finite(audio: np.ndarray, name: str) -> np.ndarray:
    """`audio` itself; AudioError if it holds NaN or infinity, with their number."""
    wrong = int(audio.size - np.isfinite(audio).sum())
    if wrong:
        raise AudioError(f"{name} holds {wrong} NaN or infinite samples, expected finite numbers")
    return audio


def read_audio(source: AudioSource, start: int = 0, frames: int = -1) -> tuple[np.ndarray, int]:
    """Read a file, or `frames` samples of it from `start`: ((channels, time) float32, sampling rate in Hz).

    Raises:
        FileNotFoundError, AudioError: see `open_audio` and `check_finite`.
    """
    with open_audio(source) as file:
        return read_frames(file, start, frames), file.samplerate


def read_frames(file: AudioFile, start: int, frames: int) -> np.ndarray:
    """`frames` samples of an open file from `start` (-1: to its end), (channels, time) float32; AudioError as above."""
    try:
        file.seek(start)
        audio = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{file.name} cannot be decoded, it is damaged or truncated: {error.error_string}") from error
    return check_finite(np.ascontiguousarray(audio.T), str(file.name))


def resample(audio: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Band-limited resampling by soxr: (channels, T) at `rate` Hz to (channels, `resampled_length` of T)."""
    if rate == target_rate:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, rate, target_rate).T)


def resampled_length(frames: int, rate: int, target_rate: int) -> int:
    """How many samples `resample` makes of `frames`: frames target / rate, halves rounded up."""
    return (2 * frames * target_rate + rate) // (2 * rate)


def read_mono(source: AudioSource, sampling_rate: int, start: int = 0, length: int = -1) -> np.ndarray:
    """A file, or `length` samples of it from `start`, as (time,) float32 at `sampling_rate` Hz; channels are averaged.

    A part equals the same part of the whole to the bit. It alone is decoded where the file has the sampling rate.

    Raises:
        FileNotFoundError, AudioError: see `open_whole` and `check_finite`.
    """
    with open_whole(source) as file:
        if file.samplerate == sampling_rate:
            return read_frames(file, start, length).mean(axis=0)
        whole = resample(read_frames(file, 0, -1).mean(axis=0, keepdims=True), file.samplerate, sampling_rate)[0]
    return whole[start:] if length < 0 else whole[start : start + length]


def find_audio(folder: str | Path) -> list[Path]:
    """Audio files anywhere below `folder`, sorted; told by their suffix. Names that begin with a dot are none.

    Linked folders are entered, but for one that holds the link or was entered on the way there; a link to nothing
    counts as a file, which cannot be opened. So does a folder that cannot be read: it fails by name, and what it holds
    is not overlooked.
    """
    found = []
    here = Path(folder).resolve()
    above = {os.fspath(folder): {here, *here.parents}}  # of a folder: it, what holds it, and the way that led there

    def closed(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            found.append(Path(error.filename))

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=closed):
        passed = above.pop(parent)
        resolved = {name: Path(parent, name).resolve() for name in folders if name[0] != "."}
        folders[:] = [name for name, path in resolved.items() if path not in passed]
        above |= {os.path.join(parent, name): passed | {resolved[name], *resolved[name].parents} for name in folders}
        paths = (Path(parent, name) for name in names if name[0] != ".")
        audio = (path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES)
        found += [path for path in audio if is_file(path)]
    return sorted(found)


def is_file(path: Path) -> bool:
    """Whether a file is one, or a link to nothing, or in a folder that does not let it be looked at."""
    try:
        return path.is_file() or path.is_symlink()
    except PermissionError:
        return True


def describe_files(files: Iterable[AudioSource]) -> dict:
    """How many files, their length in hours, and in how many folders (speakers, noise types) they lie.

    Those that cannot be opened are counted apart, as "unreadable", where there are any.
    """
    count, unreadable, seconds, folders = 0, 0, 0.0, set()
    for source in files:
        try:
            seconds += audio_seconds(source)
        except (OSError, AudioError):
            unreadable += 1
            continue
        count += 1
        folders.add(Path(str(source)).parent)
    description = {"files": count, "hours": seconds / 3600, "folders": len(folders)}
    return {**description, "unreadable": unreadable} if unreadable else description


__all__ = [
    "AUDIO_SUFFIXES",
    "AudioError",
    "AudioFile",
    "AudioSource",
    "DamagedAudioWarning",
    "EncodedAudio",
    "audio_seconds",
    "check_finite",
    "describe_files",
    "find_audio",
    "open_audio",
    "open_whole",
    "read_audio",
    "read_frames",
    "read_mono",
    "resample",
    "resampled_length",
    "shown",
    "told_seconds",
]
