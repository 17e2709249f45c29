"""Audio that can only be read from its beginning on, with the face of `soundfile.SoundFile`."""

from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
import soxr

from .structure import Part

KEPT_SAMPLES = 2**23  # of all channels that a file may have to be kept in memory once decoded: 32 MB
READ_FRAMES = 2**16
# Ogg has channels in an order of its own, and libsndfile leaves them so: where the channels of wav files, which are
# FFmpeg's, too, stand in it, by how many there are (Vorbis I specification, 4.3.9)
VORBIS_ORDER = {
    3: [0, 2, 1], 5: [0, 2, 1, 3, 4], 6: [0, 2, 1, 5, 3, 4], 7: [0, 2, 1, 6, 5, 3, 4], 8: [0, 2, 1, 7, 5, 6, 3, 4],
}  # fmt: skip

Tell = Callable[[str], None]

COUNTED: dict[Hashable, int] = {}  # samples of long recordings, by what names them as they are


class Pass(Protocol):
    """
    One pass through an encoded recording: (rate in Hz, block (channels, n)) after another.

    format, subtype: names, as libsndfile has them where it has them.
    seconds: length that the header tells, None where it does not.
    """

    format: str
    subtype: str
    seconds: float | None

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]: ...

    def close(self) -> None: ...


class SoundfilePass:
    """A pass through what libsndfile reads; see `Pass`."""

    def __init__(self, source: "Span | BinaryIO | str | int", tell: Tell):
        self.source, self.tell = source, tell
        self.file = soundfile.SoundFile(source)
        self.format, self.subtype = self.file.format, self.file.subtype
        self.seconds = self.file.frames / self.file.samplerate

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        dtype = "float64" if self.subtype in ("DOUBLE", "PCM_32") else "float32"
        read, order = 0, channel_order(self.file)
        while len(block := self.file.read(READ_FRAMES, dtype=dtype, always_2d=True)):
            read += len(block)
            yield self.file.samplerate, block[:, order].T
        if read < self.file.frames:
            self.tell(f"is damaged: {self.file.frames - read} of its {self.file.frames} samples are lost")

    def close(self) -> None:
        self.file.close()
        if isinstance(self.source, Span):
            self.source.close()


def channel_order(file: soundfile.SoundFile) -> list[int] | slice:
    """Which of its channels come first, second, … in the order of wav files."""
    every = slice(None)
    return VORBIS_ORDER.get(file.channels, every) if file.format == "OGG" else every


class ChainedPass:
    """A pass through recordings that were joined to one file, one after the other."""

    def __init__(self, parts: Sequence[Callable[[Tell], Pass]], tell: Tell):
        self.parts, self.tell, self.open = parts, tell, parts[0](tell)
        self.format, self.subtype = self.open.format, self.open.subtype
        self.seconds = self.open.seconds if len(parts) == 1 else None

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        yield from self.open
        for part in self.parts[1:]:
            self.open.close()
            self.open = part(self.tell)
            yield from self.open

    def close(self) -> None:
        self.open.close()


def unified(
    blocks: Iterator[tuple[int, np.ndarray]], rate: int, channels: int, tell: Tell
) -> Generator[np.ndarray, None, None]:
    """Blocks of changing rates and channels as blocks (channels, n) at `rate` Hz: resampled, each channel the mean of
    all where their number differs."""
    resampler, coming_at = None, rate
    for block_rate, block in blocks:
        if len(block) != channels:
            if len(block) > channels:
                tell(f"goes on with {len(block)} channels after {channels}, of which only the mean is read")
            block = np.repeat(block.mean(axis=0, keepdims=True, dtype=block.dtype), channels, axis=0)
        if block_rate != coming_at:
            if resampler is not None:
                yield resampler.resample_chunk(np.empty((0, channels), np.float32), last=True).T
            resampler = None if block_rate == rate else soxr.ResampleStream(block_rate, rate, channels, "float32")
            coming_at = block_rate
        if resampler is not None:
            block = resampler.resample_chunk(np.ascontiguousarray(block.T, np.float32)).T
        yield block
    if resampler is not None:
        yield resampler.resample_chunk(np.empty((0, channels), np.float32), last=True).T


class StreamFile:
    """
    A recording that is decoded from its beginning on, by `make_pass`; it is read and sought as a `SoundFile`.

    A short recording is kept in memory once it is read; of a long one only a block is, and going back decodes it again.

    Args:
        make_pass: begins a pass through the recording; it reports missing parts to the function that it is given.
        name: in errors.
        tell: that function, for reading the recording.
        key: names the file as it is, so that a long one is counted once in a process; None counts it each time.
    """

    def __init__(self, make_pass: Callable[[Tell], Pass], name: str, tell: Tell, key: Hashable = None):
        self.name, self.closed, self._key = name, False, key
        self._make_pass = make_pass
        self._open = make_pass(tell)
        self.format, self.subtype, self.seconds = self._open.format, self._open.subtype, self._open.seconds
        try:
            blocks = iter(self._open)
            first = next(blocks, None)
        except BaseException:
            self._open.close()
            raise
        if first is None:
            self._open.close()
            raise EOFError(f"{name} has no samples, expected at least one")
        self.samplerate, self.channels = first[0], len(first[1])
        self._blocks = unified(chain([first], blocks), self.samplerate, self.channels, tell)
        self._whole: np.ndarray | None = None
        self._head: np.ndarray | None = None  # (channels, n) decoded and not yet read
        self._place, self._wanted = 0, 0  # of the head, and of what is read next
        self._frames = COUNTED.get(key)

    @property
    def frames(self) -> int:
        """Number of samples of a channel. It takes a pass through the recording the first time."""
        if self._frames is not None:
            return self._frames
        self._fill()
        if self._whole is not None:
            return self._whole.shape[1]
        again = self._make_pass(lambda _: None)
        try:
            blocks = unified(iter(again), self.samplerate, self.channels, lambda _: None)
            self._frames = sum(block.shape[1] for block in blocks)
        finally:
            again.close()
        if self._key is not None:
            COUNTED[self._key] = self._frames
        return self._frames

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._wanted

    def seek(self, frames: int, whence: int = 0) -> int:
        """The next sample to read: from the beginning, from here (1) or from the end (2); returns it."""
        place = frames + (0, self._wanted, self.frames if whence == 2 else 0)[whence]
        if place < 0:
            raise ValueError(f"{self.name}: cannot seek to sample {place}")
        self._wanted = place
        return place

    def read(self, frames: int = -1, dtype: str = "float64", always_2d: bool = False) -> np.ndarray:
        """`frames` samples from here (-1: to the end), fewer at the end: (n, channels), or (n,) of one channel."""
        self._fill()
        if self._whole is not None:
            end = None if frames < 0 else self._wanted + frames
            audio = self._whole[:, self._wanted : end]
        else:
            audio = self._read_stream(frames)
        self._wanted += audio.shape[1]
        audio = audio.T.astype(dtype)
        return audio if always_2d or self.channels > 1 else audio[:, 0]

    def _fill(self) -> None:
        """Decode the recording, at its first use, until it ends or is too long to be kept."""
        if self.closed:
            raise ValueError(f"{self.name} is closed")
        if self._head is not None or self._whole is not None:
            return
        blocks, samples = [], 0
        for block in self._blocks:
            blocks.append(block)
            samples += block.size
            if samples > KEPT_SAMPLES:
                self._head = np.concatenate(blocks, axis=1)
                return
        self._whole = np.concatenate(blocks, axis=1)
        self._open.close()

    def _read_stream(self, frames: int) -> np.ndarray:
        if self._wanted < self._place:
            self._open.close()
            self._open = self._make_pass(lambda _: None)  # what is missing was told
            self._blocks = unified(iter(self._open), self.samplerate, self.channels, lambda _: None)
            self._head, self._place = np.empty((self.channels, 0), np.float32), 0
        assert self._head is not None
        skipped, blocks, missing = self._wanted - self._place, [], frames if frames >= 0 else 2**62
        for block in chain([self._head], self._blocks):
            self._place += block.shape[1]
            left = block[:, skipped:]
            skipped = max(skipped - block.shape[1], 0)
            blocks.append(left[:, :missing])
            missing -= blocks[-1].shape[1]
            if missing <= 0:
                self._head = left[:, blocks[-1].shape[1] :]
                self._place -= self._head.shape[1]
                break
        else:
            self._head = block[:, :0]
        return np.concatenate(blocks, axis=1)

    def close(self) -> None:
        self.closed = True
        self._blocks.close()
        self._open.close()
        self._whole = self._head = None

    def __enter__(self) -> "StreamFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Span:
    """Some bytes of a file as a file, which has no name: FFmpeg would go by its suffix. Closing it closes the file."""

    def __init__(self, file: BinaryIO, part: Part):
        self.file, self.part, self.size, self.place = file, part, part.end - part.start, 0

    def read(self, size: int = -1) -> bytes:
        left = max(self.size - self.place, 0)
        start = self.part.start + self.place
        self.file.seek(start)
        data = self.file.read(left if size < 0 else min(size, left))
        self.place += len(data)
        return self.part.mended(data, start)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def close(self) -> None:
        self.file.close()
