"""Which library opens a file, and how: by what its bytes are, never by its suffix."""

import io
import os
import re
import warnings
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from .containers import ContainerError, ContainerPass
from .decoding import ChainedPass, Pass, SoundfilePass, Span, StreamFile, Tell, channel_order
from .structure import Part, Parts, caf_fault, flac_parts, mp3_frame_bytes, mp3_parts, mp4_fault, ogg_parts, read_at

# of formats of uncompressed audio that libsndfile reads
PCM_MARKS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"dns.", b"caff", b"NIST", b"2BIT", b" paf", b"fap ")
SAMPLE_BYTES = {
    "PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1,
}  # fmt: skip
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# sizes that programs write into a header where they cannot know it (SoX, arecord, FFmpeg, …), up to a block of samples
PIPE_SIZES = (0x7F000000, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)
MOST_FRAMES = 2**48  # a header that says more knows nothing
# what libsndfile's log says of samples that end early: bytes that the header says, bytes that are there
SHORT = re.compile(r"^\s*(?:data|SSND|BODY|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
DATA_SIZE = re.compile(r"^\s*(?:data|Data size)\s*: (\d+)$", re.MULTILINE)  # of RF64 and W64
W64_HEAD = 24  # bytes that the size of a W64 chunk counts too


class AudioError(ValueError):
    """An audio file or array that cannot be used; the message names what was got and what was expected."""


class DamagedAudioWarning(UserWarning):
    """A file is read that has missing parts."""


class EncodedAudio(io.BytesIO):
    """An audio file in memory, of any format; errors call it by its name."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name

    def __str__(self) -> str:
        return self.name


AudioSource = str | Path | EncodedAudio


class PcmFile(soundfile.SoundFile):
    """A `SoundFile` of any name, its channels in the order of wav files, that tells of samples that are missing when
    they are read."""

    def __init__(self, file: str | int | BinaryIO, teller: "Teller"):
        self.teller = teller  # first: the base asks for its name
        super().__init__(file)

    @property
    def name(self) -> str:
        return self.teller.name

    def read(self, frames: int = -1, dtype: str = "float64", always_2d: bool = False, **options) -> np.ndarray:
        left = self.frames - self.tell()
        audio = super().read(frames, dtype, always_2d, **options)
        missing = (left if frames < 0 else min(frames, left)) - len(audio)
        if missing > 0:
            self.teller(f"is damaged: {missing} of its {self.frames} samples are lost")
        return audio[:, channel_order(self)] if audio.ndim == 2 else audio


AudioFile = PcmFile | StreamFile


@dataclass(frozen=True)
class Layout:
    """
    kind: "ogg", "flac", "mp3", "mp4", "pcm" or "other".
    found: what it holds, see `Parts`.
    """

    kind: str
    found: Parts


def shown(source: AudioSource) -> str:
    """The name of a file for messages; bytes of it that are no UTF-8 are escaped."""
    return str(source).encode(errors="backslashreplace").decode()


class Teller:
    """What a reader calls with what it finds to be missing of the file `name`.

    Args:
        strict: raise AudioError; else a `DamagedAudioWarning` says it.
        quiet: without that warning.
    """

    def __init__(self, name: str, strict: bool = False, quiet: bool = False):
        self.name, self.strict, self.quiet, self.truncated = name, strict, quiet, False

    def __call__(self, message: str) -> None:
        if self.strict:
            raise AudioError(f"{self.name} {message}")
        if message.startswith("is truncated"):  # which shows in several ways
            if self.truncated:
                return
            self.truncated = True
        self.doubt(f"{message}; what there is of it is used")

    def doubt(self, message: str) -> None:
        """Say what may be missing, or not."""
        if not self.quiet:
            warnings.warn(f"{self.name} {message}", DamagedAudioWarning, stacklevel=2)


def open_file(source: AudioSource, size: int, changed: int, tell: Teller) -> AudioFile:
    """Open a file that is there, see `audio.open_audio`; OSError where it cannot be read."""
    layout = examined(source, size, changed)
    key = None if isinstance(source, EncodedAudio) else (os.fspath(source), size, changed)
    file, found = open_layout(source, layout, tell, key), layout.found
    try:
        if found.fault:
            tell(found.fault)
        elif found.doubt:
            tell.doubt(found.doubt)
    except AudioError:
        file.close()
        raise
    return file


def open_layout(source: AudioSource, layout: Layout, tell: Teller, key: Hashable) -> AudioFile:
    """Open a file whose parts are known; its faults are still to be told."""
    found = layout.found
    by_soundfile = layout.kind in ("ogg", "flac", "pcm") and found.plain
    if by_soundfile and len(found.parts) == 1 and not (found.fault or found.doubt):
        file = open_pcm(source, layout.kind, tell)
        if file is not None:
            return file
        by_soundfile = False
    parts = [partial(open_part, source, part, by_soundfile) for part in found.parts]
    try:
        return open_stream(source, partial(ChainedPass, parts), tell, key)
    except ContainerError as error:
        raise AudioError(f"{tell.name} {found.fault or f'cannot be read as audio: {error}'}") from error


def examined(source: AudioSource, size: int, changed: int) -> Layout:
    """The layout of a file; that of a file on disk is remembered until it changes."""
    if isinstance(source, EncodedAudio):
        return examine(open_bytes(source), size)
    return examined_file(os.fspath(source), size, changed)


@lru_cache(maxsize=2**16)
def examined_file(path: str, size: int, changed: int) -> Layout:
    with open(path, "rb") as file:
        return examine(file, size)


def examine(file: BinaryIO, size: int) -> Layout:
    """The layout of an open file by its bytes."""
    head = read_at(file, 0, 16)
    if head[:4] == b"OggS":
        return Layout("ogg", ogg_parts(file, size))
    if head[:4] == b"fLaC":
        return Layout("flac", flac_parts(file, size))
    if head[:3] == b"ID3" or mp3_frame_bytes(head[:4]):
        return Layout("mp3", mp3_parts(file, size))
    whole = [Part(0, size)]
    if head[:4] == b"caff":
        return Layout("pcm", Parts(whole, caf_fault(file, size)))
    if head[4:8] in MP4_BOXES:
        return Layout("mp4", Parts(whole, mp4_fault(file, size)))
    return Layout("pcm" if head[:4] in PCM_MARKS else "other", Parts(whole))


def open_bytes(source: AudioSource) -> BinaryIO:
    return io.BytesIO(source.getvalue()) if isinstance(source, EncodedAudio) else open(source, "rb")


def open_part(source: AudioSource, part: Part, by_soundfile: bool, tell: Tell) -> Pass:
    """A pass through one of the recordings of a file."""
    if by_soundfile:
        span = Span(open_bytes(source), part)
        try:
            return SoundfilePass(span, tell)
        except soundfile.LibsndfileError:
            span.close()
    return ContainerPass(Span(open_bytes(source), part), part.end - part.start, part.seconds, tell)


def open_stream(source: AudioSource, make_pass: Callable[[Tell], Pass], tell: Teller, key: Hashable) -> AudioFile:
    """The file, read by FFmpeg or else by libsndfile; ContainerError if neither can."""
    try:
        return StreamFile(make_pass, tell.name, tell, key)
    except EOFError as error:
        raise AudioError(str(error)) from error
    except ContainerError as error:
        try:
            file = PcmFile(source_for_soundfile(source), tell)
        except soundfile.LibsndfileError:
            raise error from None
    if not file.seekable():
        file.close()
        return StreamFile(lambda told: SoundfilePass(source_for_soundfile(source), told), tell.name, tell)
    return checked(file)


def source_for_soundfile(source: AudioSource) -> str | int | BinaryIO:
    """What libsndfile is given: the path, or an open file where it would not take the bytes of its name, or take
    ".raw" in it to mean that there is no header."""
    if isinstance(source, EncodedAudio):
        return open_bytes(source)
    name = os.fspath(source)
    if Path(name).suffix.lower() != ".raw":
        with suppress(UnicodeEncodeError):
            name.encode()
            return name
    return os.open(name, os.O_RDONLY)


def open_pcm(source: AudioSource, kind: str, tell: Teller) -> PcmFile | None:
    """A file that libsndfile reads whole, at any place; None if FFmpeg must have a look at it."""
    try:
        file = PcmFile(source_for_soundfile(source), tell)
    except soundfile.LibsndfileError:
        return None
    try:
        if file.format == "MP3" or file.subtype.startswith("MPEG") or not file.seekable() or file.frames > MOST_FRAMES:
            file.close()
            return None
        if file.frames == 0 and was_not_finished(source):
            file.close()
            return None
        if kind == "pcm" and (fault := short_fault(file, source)):
            tell(fault)
        return checked(file)
    except BaseException:
        file.close()
        raise


def checked(file: PcmFile) -> PcmFile:
    """`file` itself; AudioError if it has no sample."""
    if file.frames == 0:
        file.close()
        raise AudioError(f"{file.name} has no samples by its header, expected at least one")
    return file


def was_not_finished(source: AudioSource) -> bool:
    """Whether the header of a wav or aiff without samples was never completed: its size is not that of the file."""
    with open_bytes(source) as file:
        head = read_at(file, 0, 8)
        size = file.seek(0, 2)
    said = int.from_bytes(head[4:], "little" if head[:4] == b"RIFF" else "big")
    return head[:4] in (b"FORM", b"RIFX", b"RIFF") and said + 8 < size


def short_fault(file: PcmFile, source: AudioSource) -> str | None:
    """A fault if a file has fewer bytes of samples than its header says; none if that was written through a pipe."""
    log, there, promised = file.extra_info, 0, 0
    if sizes := SHORT.search(log):
        promised, there = int(sizes[1]), int(sizes[2])
    elif file.format in ("RF64", "W64") and (size := DATA_SIZE.search(log)) and file.subtype in SAMPLE_BYTES:
        promised = int(size[1]) - (W64_HEAD if file.format == "W64" else 0)
        there = file.frames * file.channels * SAMPLE_BYTES[file.subtype]
    elif file.format == "NIST":
        with open_bytes(source) as opened:
            count = re.search(rb"sample_count -i (\d+)", read_at(opened, 0, 1024))
        there = file.frames * file.channels * SAMPLE_BYTES.get(file.subtype, 1)
        promised = there // file.frames * int(count[1]) if count and file.frames else 0
    if file.format == "W64":  # whose chunks are filled up to a multiple of 8 bytes
        there += min(promised - there, 7) if promised > there else 0
    # of a file that ends within a sample, libsndfile reads as many samples as there are
    if promised <= there or promised > MOST_FRAMES or any(abs(promised - size) < 2**16 for size in PIPE_SIZES):
        return None
    return f"is truncated: it has {there} bytes, its header says {promised}"
