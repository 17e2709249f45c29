"""Reading, checking and resampling audio. Audio here is float32 (channels, time) in [-1, 1]."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".w64", ".caf", ".au")


class AudioError(ValueError):
    """An audio file or array that cannot be used; the message names what was got and what was expected."""


def open_audio(path: str | Path) -> soundfile.SoundFile:
    """Open a file for reading.

    Raises:
        FileNotFoundError: no such file. AudioError: empty, not audio, or without a single sample.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such audio file: {path}")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes), expected audio")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path} cannot be read as audio: {error.error_string}") from error
    if file.frames == 0:
        file.close()
        raise AudioError(f"{path} has no samples, expected at least one")
    return file


def check_finite(audio: np.ndarray, name: str) -> np.ndarray:
    """`audio` itself; AudioError if it holds NaN or infinity, with their number."""
    wrong = int(audio.size - np.isfinite(audio).sum())
    if wrong:
        raise AudioError(f"{name} holds {wrong} NaN or infinite samples, expected finite numbers")
    return audio


def read_audio(path: str | Path, start: int = 0, frames: int = -1) -> tuple[np.ndarray, int]:
    """Read a file, or `frames` samples of it from `start`: ((channels, time) float32, sampling rate in Hz).

    Raises:
        FileNotFoundError, AudioError: see `open_audio` and `check_finite`.
    """
    with open_audio(path) as file:
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
    """Band-limited resampling by soxr: (channels, T) at `rate` Hz to (channels, round(T target / rate))."""
    if rate == target_rate:
        return audio
    return np.ascontiguousarray(soxr.resample(audio.T, rate, target_rate).T)


def read_mono(path: str | Path, sampling_rate: int) -> np.ndarray:
    """A whole file as (time,) float32 at `sampling_rate` Hz; several channels are averaged."""
    audio, rate = read_audio(path)
    return resample(audio.mean(axis=0, keepdims=True), rate, sampling_rate)[0]


def find_audio(folder: str | Path) -> list[Path]:
    """Audio files anywhere below `folder`, sorted; told by their suffix. Names that begin with a dot are none."""
    return sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def describe_files(files: Sequence[Path]) -> dict:
    """How many files, their length in hours, and in how many folders (speakers, noise types) they lie."""
    seconds = 0.0
    for path in files:
        with open_audio(path) as file:
            seconds += file.frames / file.samplerate
    return {"files": len(files), "hours": seconds / 3600, "folders": len({path.parent for path in files})}
