"""Writing audio: what a file is written as, and files of libsndfile and of FFmpeg behind one face.

choose_kind     format and coding of a target, by its suffix, its source and what both can hold
open_output     a file that takes blocks (channels, n)
check_written   that all of them are in it
"""

import os
import sys
import warnings
from collections.abc import Container, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import soundfile

from ..data.audio import AudioError, AudioFile
from ..data.containers import library, open_container
from ..data.decoding import channel_order
from ..data.opening import SAMPLE_BYTES
from ..utils.files import disk_reason
from .picture import Picture, ffmpeg_errors, has_picture

WAV_BYTES = 2**32 - 2**16  # that a wav file can hold; RF64 is the same without the limit
# by suffix, what libsndfile writes
FORMATS = {
    ".wav": "WAV", ".wave": "WAV", ".bwf": "WAV", ".rf64": "RF64", ".w64": "W64", ".flac": "FLAC", ".ogg": "OGG",
    ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3", ".aiff": "AIFF", ".aif": "AIFF", ".aifc": "AIFF", ".au": "AU",
    ".snd": "AU", ".caf": "CAF", ".sph": "NIST",
}  # fmt: skip
# and what FFmpeg does; the first ones hold sound only, the others a picture too
SOUND_CONTAINERS = {".m4a": "ipod", ".m4b": "ipod", ".mka": "matroska"}
VIDEO_CONTAINERS = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".3gp": "3gp", ".mkv": "matroska", ".webm": "webm",
}  # fmt: skip
CONTAINERS = SOUND_CONTAINERS | VIDEO_CONTAINERS
WRITTEN_SUFFIXES = (*FORMATS, *CONTAINERS)
# in place of a suffix that cannot be written; raw AAC cannot say where its sound begins and ends, M4A holds the same
SUBSTITUTES = {
    **dict.fromkeys((".aac", ".3ga"), ".m4a"), ".mpga": ".mp3", ".weba": ".webm",
    **dict.fromkeys((".wma", ".amr", ".awb", ".ac3", ".eac3", ".mp2", ".sd2", ".voc", ".spx"), ".wav"),
    **dict.fromkeys((".ape", ".wv", ".tta"), ".flac"),
    **dict.fromkeys((".3g2", ".avi", ".wmv", ".flv", ".ts", ".mts", ".mpg", ".mpeg", ".ogv"), ".mkv"),
}  # fmt: skip
# what libsndfile writes with as many frames as it was given. Not among them: coding in blocks (ADPCM, GSM), 8 bits in
# AIFF, which are padded to an even number, and ALAC, which overruns its frames
PCM = {"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32"}
PLAIN = PCM | {"FLOAT", "DOUBLE", "ULAW", "ALAW"}
EXACT = {
    "WAV": PLAIN, "WAVEX": PLAIN, "RF64": PLAIN, "W64": PLAIN, "AU": PLAIN, "CAF": PLAIN, "NIST": PLAIN, "FLAC": PCM,
    "AIFF": PLAIN - {"PCM_U8", "PCM_S8", "ULAW", "ALAW"}, "OGG": {"VORBIS", "OPUS"}, "MP3": {"MPEG_LAYER_III"},
}  # fmt: skip
WIDE = {"ALAC_20": "PCM_24", "ALAC_24": "PCM_24", "ALAC_32": "PCM_32", "DWVW_24": "PCM_24"}  # what is more than 16 bits
# codings that hold samples beyond [-1, 1]; of others libsndfile clips some and wraps the rest (ULAW, ADPCM)
UNBOUNDED_CODINGS = {"FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III", "aac", "libopus"}
# what libsndfile takes for lossy codings, from 0 (best) to 1: about 128 kb/s a channel for Opus. By its defaults clean
# speech loses 0.1 to 0.4 PESQ
COMPRESSION = {"MPEG_LAYER_III": 0.0, "OPUS": 0.5, "VORBIS": 0.2}
# FFmpeg's names; of 3 channels and more the orders that all encoders here take
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1"}
AAC_FRAME = 1024
SHORT_FRAMES = 1152  # an mp3 or Opus file below this plays longer


@dataclass(frozen=True)
class Kind:
    """A format and its coding: of libsndfile, or a container of FFmpeg and a codec."""

    format: str
    coding: str

    @property
    def of_ffmpeg(self) -> bool:
        return self.format in CONTAINERS.values()

    def __str__(self) -> str:
        return f"{self.format} {self.coding}"


@dataclass(frozen=True)
class Limit:
    """What a coding can hold. Beyond it encoders refuse, and libvorbis ends the process."""

    channels: Container[int]
    rates: tuple[Container[int], ...]
    said: str


OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
FLAC_RATES = (range(1, 65536), range(65540, 655351, 10))
FLAC_LIMIT = Limit(range(1, 9), FLAC_RATES, "at most 8 channels and 655350 Hz, in tens of Hz")
LIMITS = {
    "VORBIS": Limit(range(1, 256), (range(1, 200001),), "at most 255 channels and 200000 Hz"),
    "OPUS": Limit(range(1, 256), (OPUS_RATES,), "at most 255 channels at 8000, 12000, 16000, 24000 or 48000 Hz"),
    "MPEG_LAYER_III": Limit((1, 2), (MP3_RATES,), f"at most 2 channels at {', '.join(map(str, MP3_RATES))} Hz"),
    "aac": Limit(range(1, 7), (AAC_RATES,), f"at most 6 channels at {', '.join(map(str, AAC_RATES))} Hz"),
    # 5 channels FFmpeg's encoder mixes up
    "libopus": Limit((1, 2, 3, 4, 6), ((48000,),), "1 to 4 or 6 channels at 48000 Hz"),
    "flac": Limit(range(1, 7), FLAC_RATES, "at most 6 channels and 655350 Hz, in tens of Hz"),
    "alac": Limit((1, 2), (range(1, 384001),), "at most 2 channels and 384000 Hz"),
}
PLAIN_LIMIT = Limit(range(1, 1025), (range(1, 2**31),), "at most 1024 channels and 2147483647 Hz")


class ClippedAudioWarning(UserWarning):
    """Samples beyond full scale were clipped, as the coding of the file holds none."""


class Output(Protocol):
    """A file that takes audio."""

    frames: int  # that were written
    lead: int  # silent ones that play before them

    def write(self, block: np.ndarray) -> None:
        """Append (channels, n) in [-1, 1]. What is beyond is clipped where the coding holds no more, with a warning at
        the end."""


def written_name(path: Path) -> str:
    """The file's name, with another suffix if files of its own cannot be written."""
    return path.with_suffix(SUBSTITUTES.get(path.suffix.lower(), path.suffix)).name


def choose_kind(target: Path, path: Path, source: AudioFile) -> Kind:
    """
    The format and subtype to write `target` in: those of `source` (an open file, at `path`) if the suffixes name one
    format, else the target suffix's format with its default subtype. If that would not keep the number of frames, a
    subtype that does.

    In a container it is Opus at 48 kHz, or else AAC in MP4 and its kin, FLAC in Matroska. Lossless audio stays lossless
    in Matroska, and ALAC stays ALAC.

    Raises:
        ValueError: the target's suffix names no format. AudioError: its format cannot hold the rate or the channels.
    """
    suffix = target.suffix.lower()
    kept = Kind(source.format, source.subtype)
    same = family(target) == family(path)
    if suffix in CONTAINERS:
        kind = Kind(CONTAINERS[suffix], choose_codec(CONTAINERS[suffix], source))
    elif same and kept.coding in EXACT.get(kept.format, ()):
        kind = kept
    elif suffix not in FORMATS:
        raise ValueError(f"target must end in one of {', '.join(WRITTEN_SUFFIXES)}, got {target}")
    elif same and kept.format in EXACT and FORMATS[suffix] not in ("OGG", "MP3"):
        kind = Kind(kept.format, WIDE.get(kept.coding, "PCM_16"))
    else:
        coding = "OPUS" if suffix == ".opus" else soundfile.default_subtype(FORMATS[suffix])
        kind = Kind(FORMATS[suffix], coding)
    if kind.format in ("WAV", "WAVEX"):
        size = SAMPLE_BYTES[kind.coding] * source.channels * source.frames
        kind = Kind("RF64", kind.coding) if size > WAV_BYTES else kind
    limit = LIMITS.get(kind.coding, FLAC_LIMIT if kind.format == "FLAC" else PLAIN_LIMIT)
    if source.channels not in limit.channels or not any(source.samplerate in rates for rates in limit.rates):
        raise AudioError(
            f"{target} cannot be {kind} with {source.channels} channels at {source.samplerate} Hz: "
            f"expected {limit.said}"
        )
    return kind


def choose_codec(container: str, source: AudioFile) -> str:
    """FFmpeg's encoder for the sound of a container, see `choose_kind`."""
    lossless = source.subtype in PLAIN or source.subtype.upper().startswith(("ALAC", "FLAC", "PCM"))
    if container == "webm":
        return "libopus"
    if container == "matroska":
        fits = source.samplerate == 48000 and source.channels in LIMITS["libopus"].channels
        return "libopus" if fits and not lossless else "flac"
    return "alac" if source.subtype.upper().startswith("ALAC") else "aac"


def family(path: Path) -> str:
    """One name for suffixes of one format; Opus, which libsndfile calls OGG, has its own."""
    suffix = path.suffix.lower()
    return suffix if suffix == ".opus" else FORMATS.get(suffix, suffix)


@contextmanager
def open_output(path: Path, target: Path, kind: Kind, source: AudioFile, source_path: Path) -> Iterator[Output]:
    """
    Open `path` for writing what will be `target`, at the rate and with the channels of `source`. If `target` and
    the file at `source_path` both hold a picture, it is copied.

    Raises:
        AudioError: `path` cannot be written, when it is opened, as it is written or closed.
    """
    rate, channels = source.samplerate, source.channels
    with ExitStack() as stack:
        with writing(target):
            path.touch()  # libsndfile has no word for what the system refuses
            output: Any
            if kind.of_ffmpeg:
                file = path.open("w+b")  # of Python: a name need not be Unicode
                stack.callback(close_quietly, file)
                pictured = target.suffix.lower() in VIDEO_CONTAINERS and has_picture(source_path)
                picture = stack.enter_context(closing(Picture(source_path))) if pictured else None
                output = MediaOutput(file, target, kind, rate, channels, picture)
                if kind.coding == "flac" and has_more_than_16_bits(source.subtype):
                    output.sound.format = "s32"  # of which FLAC holds 24
            else:
                output = PlainOutput(path, target, kind, rate, channels)
        try:
            yield output
        except BaseException:
            with suppress(Exception):  # what there is of it is thrown away
                output.container.close()
            raise
        with writing(target):
            output.close()
        if output.clipped:
            warnings.warn(
                f"{target}: {output.clipped} samples beyond full scale were clipped, {kind} holds none; a wav of "
                "subtype FLOAT would",
                ClippedAudioWarning,
                stacklevel=2,
            )


def close_quietly(file: BinaryIO) -> None:
    """Close a file that was flushed, or failed: what is left to write fails again."""
    with suppress(OSError):
        file.close()


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """AudioError for what libsndfile, FFmpeg and the disk refuse."""
    try:
        yield
    except (soundfile.LibsndfileError, OSError, *ffmpeg_errors()) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, soundfile.LibsndfileError):
            reason = disk_reason(target.parent, error.error_string)
        raise AudioError(f"{target} cannot be written: {reason}") from error


def has_more_than_16_bits(subtype: str) -> bool:
    return subtype in ("FLOAT", "DOUBLE") or subtype.endswith(("_20", "_24", "_32"))


def name_for_soundfile(path: Path) -> str | bytes:
    """As bytes, since a name need not be Unicode; but on Windows, where it is."""
    return os.fspath(path) if sys.platform == "win32" else os.fsencode(path)


class ClippingOutput:
    """What files have in common: samples beyond full scale are clipped and counted, where their coding holds none."""

    def __init__(self, kind: Kind):
        self.bounded, self.clipped = kind.coding not in UNBOUNDED_CODINGS, 0

    def within_bounds(self, block: np.ndarray) -> np.ndarray:
        """(channels, n) as the coding holds it."""
        if not self.bounded:
            return block
        held = block.clip(-1, 1)
        self.clipped += int((held != block).sum())
        return held


class PlainOutput(ClippingOutput):
    """A file of libsndfile."""

    def __init__(self, path: Path, target: Path, kind: Kind, rate: int, channels: int):
        super().__init__(kind)
        self.container = soundfile.SoundFile(
            name_for_soundfile(path), "w", rate, channels, subtype=kind.coding, format=kind.format,
            compression_level=COMPRESSION.get(kind.coding),
        )  # fmt: skip
        self.target, self.frames, self.lead = target, 0, 0
        # libsndfile rounds PCM down, which shifts all of it by half a step
        self.steps = 2.0 ** (8 * SAMPLE_BYTES[kind.coding] - 1) if kind.coding in PCM else None
        self.order = np.argsort(np.arange(channels)[channel_order(self.container)])  # of libsndfile's channels

    def write(self, block: np.ndarray) -> None:
        block = self.within_bounds(block)
        if self.steps is not None:
            block = np.rint(block.astype(np.float64) * self.steps) / self.steps
        with writing(self.target):
            self.container.write(block[self.order].T)
        self.frames += block.shape[1]

    def close(self) -> None:
        self.container.close()


class MediaOutput(ClippingOutput):
    """
    A file of FFmpeg: the sound that is written, and a picture.

    The encoder's delay is told to players (edit list, CodecDelay), so that the sound begins where that of the
    picture's file does, and is as long as what was written. Where that is later than the picture, MP4 plays the
    silence of the delay before it.
    """

    def __init__(self, file: BinaryIO, target: Path, kind: Kind, rate: int, channels: int, picture: Picture | None):
        super().__init__(kind)
        self.target, self.rate, self.layout, self.picture, self.frames = target, rate, LAYOUTS[channels], picture, 0
        self.file = file
        # MP4's times are in ms unless told, which cuts the end
        options = {} if kind.format in ("matroska", "webm") else {"movie_timescale": str(rate)}
        self.container = cast(Any, library().open(file, "w", format=kind.format, options=options))
        self.start = picture.sound_start(rate) if picture else 0
        self.lead = AAC_FRAME if self.start and kind.coding == "aac" else 0
        if picture:
            picture.add_stream(self.container, target)
        self.sound = self.container.add_stream(kind.coding, rate=rate, layout=self.layout)
        if kind.coding in ("aac", "libopus"):
            self.sound.bit_rate = channels * min(128_000, 5 * rate)

    def write(self, block: np.ndarray) -> None:
        # (channels, n) -> (1, n * channels)
        packed = np.ascontiguousarray(self.within_bounds(block).T, dtype=np.float32).reshape(1, -1)
        frame = library().AudioFrame.from_ndarray(packed, format="flt", layout=self.layout)
        frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
        frame.pts = self.start + self.frames
        with writing(self.target):
            self.container.mux(self.sound.encode(frame))
            self.frames += block.shape[1]
            if self.picture:
                self.picture.copy(self.container, Fraction(self.start + self.frames, self.rate))

    def close(self) -> None:
        self.container.mux(self.sound.encode(None))
        if self.picture:
            self.picture.copy(self.container, None)
        self.container.close()
        self.file.flush()


def check_written(path: Path, target: Path, kind: Kind, frames: int, lead: int = 0) -> None:
    """
    AudioError if `path` does not hold exactly `frames`, after at most `lead` others: libsndfile reports no errors when
    it closes a file.
    """
    try:
        found, spare = frames_of(path, kind), 0
    except (soundfile.LibsndfileError, OSError, *ffmpeg_errors()):
        found, spare = 0, 0
    if kind.coding == "aac":
        spare = lead + AAC_FRAME - 1  # the container says how much of its last frame is sound
    elif kind.coding in ("libopus", "MPEG_LAYER_III") and frames < SHORT_FRAMES:
        spare = SHORT_FRAMES
    if not frames <= found <= frames + spare:
        raise AudioError(f"{target} cannot be written: it holds {found} of {frames} samples, the disk may be full")


def frames_of(path: Path, kind: Kind) -> int:
    """The number of frames in a written file. Files of FFmpeg and LAME are decoded: headers come first there, and
    libmpg123 prints its guesses to the terminal."""
    if not kind.of_ffmpeg and kind.format != "MP3":
        with soundfile.SoundFile(name_for_soundfile(path)) as written:
            frames = written.frames
            if 0 < frames < 2**62:  # a broken flac says 2^63
                written.seek(frames - 1)
                frames -= 1 - len(written.read(1))
            return frames
    with path.open("rb") as file, open_container(file) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


__all__ = [
    "WRITTEN_SUFFIXES",
    "ClippedAudioWarning",
    "Kind",
    "check_written",
    "choose_kind",
    "open_output",
    "written_name",
]
