"""Reading, checking and resampling audio. Audio here is float32 (channels, time) in [-1, 1]."""

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".caf", ".au")
UNREAD_SUFFIXES = (".m4a", ".aac", ".wma", ".amr")  # audio that libsndfile does not read
UNKNOWN_SIZE = 0x7FFFF000  # bytes of samples: a wav header with so many is of a file written through a pipe
# what libsndfile's log says of a wav, aiff, au, w64 or rf64 file that ends early
SHORT = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


class AudioError(ValueError):
    """An audio file or array that cannot be used; the message names what was got and what was expected."""


class EncodedAudio(io.BytesIO):
    """An audio file in memory, of any format; errors call it by its name."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name

    def __str__(self) -> str:
        return self.name


AudioSource = str | Path | EncodedAudio


def open_audio(source: AudioSource) -> soundfile.SoundFile:
    """Open a file for reading.

    Raises:
        FileNotFoundError: no such file. AudioError: empty, not audio, or without a single sample.
    """
    if isinstance(source, EncodedAudio):
        size = source.getbuffer().nbytes
    else:
        if not Path(source).is_file():
            raise FileNotFoundError(f"no such audio file: {source}")
        size = Path(source).stat().st_size
    if size == 0:
        raise AudioError(f"{source} is empty (0 bytes), expected audio")
    try:
        file = soundfile.SoundFile(source)
    except soundfile.LibsndfileError as error:
        unread = Path(str(source)).suffix.lower() in UNREAD_SUFFIXES
        advice = " Convert it first, for example: ffmpeg -i IN OUT.wav" if unread else ""
        raise AudioError(f"{source} cannot be read as audio: {error.error_string}{advice}") from error
    if file.frames == 0:
        file.close()
        raise AudioError(f"{source} has no samples, expected at least one")
    return file


def open_whole(source: AudioSource) -> soundfile.SoundFile:
    """`open_audio`, and AudioError for a file that ends before its header says: what there is would pass as whole.

    So of uncompressed formats; most others fail when they are decoded, mp3 does not.
    """
    file = open_audio(source)
    sizes = SHORT.search(file.extra_info)
    if sizes and int(sizes[2]) < int(sizes[1]) < UNKNOWN_SIZE:
        file.close()
        raise AudioError(f"{source} is truncated: it has {sizes[2]} bytes, its header says {sizes[1]}")
    return file


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


def read_frames(file: soundfile.SoundFile, start: int, frames: int) -> np.ndarray:
    """`frames` samples of an open file from `start` (-1: to its end), (channels, time) float32; AudioError as above."""
    try:
        file.seek(start)
        audio = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{file.name} cannot be decoded: {error.error_string}") from error
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

    Among them are files of formats that `open_audio` cannot read (m4a): they fail by name, and are not overlooked.
    Linked folders are entered, but for one that holds the link or was entered on the way there; a link to nothing
    counts as a file, which cannot be opened.
    """
    found = []
    here = Path(folder).resolve()
    above = {os.fspath(folder): {here, *here.parents}}  # of a folder: it, what holds it, and the way that led there
    for parent, folders, names in os.walk(folder, followlinks=True):
        passed = above.pop(parent)
        resolved = {name: Path(parent, name).resolve() for name in folders if name[0] != "."}
        folders[:] = [name for name, path in resolved.items() if path not in passed]
        above |= {os.path.join(parent, name): passed | {resolved[name], *resolved[name].parents} for name in folders}
        paths = (Path(parent, name) for name in names if name[0] != ".")
        audio = (path for path in paths if path.suffix.lower() in (*AUDIO_SUFFIXES, *UNREAD_SUFFIXES))
        found += [path for path in audio if path.is_file() or path.is_symlink()]
    return sorted(found)


def describe_files(files: Iterable[AudioSource]) -> dict:
    """How many files, their length in hours, and in how many folders (speakers, noise types) they lie.

    Those that cannot be opened are counted apart, as "unreadable", where there are any.
    """
    count, unreadable, seconds, folders = 0, 0, 0.0, set()
    for source in files:
        try:
            with open_audio(source) as file:
                seconds += file.frames / file.samplerate
        except (OSError, AudioError):
            unreadable += 1
            continue
        count += 1
        folders.add(Path(str(source)).parent)
    description = {"files": count, "hours": seconds / 3600, "folders": len(folders)}
    return {**description, "unreadable": unreadable} if unreadable else description
