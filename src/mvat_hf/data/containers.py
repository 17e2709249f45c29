"""Compressed audio, and the sound track of a video, decoded by FFmpeg through PyAV."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import numpy as np

from .structure import frame_bytes, is_tag

# what libsndfile calls the same: the names of `SoundFile.format` and `.subtype`
FORMATS = {
    "ogg": "OGG",
    "mp3": "MP3",
    "wav": "WAV",
    "flac": "FLAC",
    "aiff": "AIFF",
    "au": "AU",
    "w64": "W64",
    "caf": "CAF",
}
SUBTYPES = {
    "mp3": "MPEG_LAYER_III", "mp3float": "MPEG_LAYER_III", "mp2": "MPEG_LAYER_II", "mp2float": "MPEG_LAYER_II",
    "gsm_ms": "GSM610", "adpcm_ms": "MS_ADPCM", "adpcm_ima_wav": "IMA_ADPCM", "pcm_mulaw": "ULAW", "pcm_alaw": "ALAW",
    "pcm_u8": "PCM_U8", "pcm_s8": "PCM_S8", "pcm_s16": "PCM_16", "pcm_s24": "PCM_24", "pcm_s32": "PCM_32",
    "pcm_f32": "FLOAT", "pcm_f64": "DOUBLE",
}  # fmt: skip
# containers whose header tells the length; others guess it from the rate of bytes
TOLD = {"mov", "matroska", "asf", "avi", "flv", "wav", "w64", "aiff", "caf", "au", "flac", "ape", "wv", "tta"}
SLACK = 0.15  # s by which the length in a header may be off
GAP = 0.5  # s by which times in a container may jump
JITTER = 0.015  # s by which the time of a packet may be off without a gap
FILLED = 0.04  # s of missing audio from which silence takes its place: less moves no lips
LONGEST_GAP = 60.0  # s that are filled where no header tells the length; a clock may also jump by hours
AHEAD = 64  # packets that are looked at before one is taken to be late: of a live recording whose times stall
DRIFT = 0.005  # s a second by which its clock may differ from that of the samples
PIPE_BYTES = 2**31 - 2**25  # a header that says more was written through a pipe, which cannot be gone back to
FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31, "s64": 2**63}
DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # of FFmpeg's samples

Tell = Callable[[str], None]


class ContainerError(ValueError):
    """A file that FFmpeg cannot open, or one without sound; the message says why."""


class ContainerPass:
    """
    One pass through the default (else the first) audio stream of a container: an iterator of (rate in Hz, block
    (channels, n) float32 or float64). Delay and padding of encoders are cut as FFmpeg does; pictures are ignored. Where
    packets are missing there is silence, so that what follows stays where its time puts it.

    Args:
        file: of `size` bytes, closed with the pass.
        seconds: length, where something else than the container tells it.
        tell: is called with what is found to be missing, to stand after the file's name.

    Raises:
        ContainerError: see there.
    """

    container: Any = None

    def __init__(self, file: Any, size: int, seconds: float | None, tell: Tell):
        self.file, self.size, self.teller, self.told = file, size, tell, False
        self.starts_at = 0.0  # s, of what the header tells the length of
        # s: the time of the first sample, of packets that are missing, and of silence in their place
        self.begins: float | None = None
        self.missing = self.filled = 0.0
        try:
            self.av = library()
            self.container = self.opened()
            self.stream = self.default_stream()
        except BaseException:
            self.close()
            raise
        self.kind = self.container.format.name.split(",")[0]
        self.codec = self.stream.codec_context.name
        pcm = self.codec[:-2] if self.codec.endswith(("le", "be")) else self.codec
        self.format = FORMATS.get(self.kind, "MP4" if self.kind == "mov" else self.kind.upper())
        self.subtype = SUBTYPES.get(pcm, self.codec.upper())
        if self.format == "FLAC":
            self.subtype = "PCM_24" if self.codec_format.startswith("s32") else "PCM_16"
        elif self.codec in ("flac", "alac") and self.codec_format.startswith("s32"):
            self.subtype += "_24"
        self.seconds = self.told_seconds() if seconds is None else seconds

    def tell(self, message: str) -> None:
        self.told = True
        self.teller(message)

    def opened(self) -> Any:
        try:
            return open_container(self.file)
        except (self.av.error.FFmpegError, ValueError) as error:
            raise ContainerError(
                "its format is none that FFmpeg or libsndfile know, or it is damaged at its beginning"
            ) from error

    def default_stream(self) -> Any:
        stream = default_sound(self.container)
        if stream is None:
            raise ContainerError("it has no sound, or FFmpeg finds none")
        if stream.codec_context is None:
            raise ContainerError("its sound is of a codec that FFmpeg does not decode")
        for other in self.container.streams:
            if other is not stream:  # is not even read, where the container allows that
                other.discard = self.av.stream.Discard.all
        return stream

    @property
    def codec_format(self) -> str:
        """FFmpeg's name of the samples, as "s16" or "fltp"."""
        return "" if self.stream.format is None else self.stream.format.name

    def told_seconds(self) -> float | None:
        """Length of the stream as the header tells it; None where it does not."""
        stream, told = self.stream, None
        if self.kind not in TOLD:
            return None
        if stream.duration is not None:
            told = float(stream.duration * stream.time_base)
        elif "DURATION" in stream.metadata:  # of Matroska: 00:01:02.345000000
            try:
                hours, minutes, seconds = (float(part) for part in stream.metadata["DURATION"].split(":"))
            except ValueError:
                return None
            told = 3600 * hours + 60 * minutes + seconds
        elif len(self.container.streams) == 1 and self.container.duration:
            told = self.container.duration / self.av.time_base
        piped = told and told * (stream.codec_context.bit_rate or 0) / 8 > PIPE_BYTES > self.size
        return None if not told or piped else told

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        samples, played, rate, limit = 0, 0.0, 0, None
        for index, frame in enumerate(self.frames()):
            rate = frame.sample_rate
            block = as_block(frame)
            for silence in self.silence_before(frame, block, played):
                played += silence.shape[1] / rate
                samples += silence.shape[1]
                yield rate, silence
            played += frame.samples / rate
            if index == 0 and self.trims_end:
                limit = round(float(self.stream.duration * self.stream.time_base) * rate)
            if limit is not None:
                block = block[:, : max(limit - samples, 0)]
            samples += block.shape[1]
            if block.shape[1]:
                yield rate, block
        seconds = self.starts_at + samples / rate if rate else 0.0
        if self.seconds is not None and seconds < self.seconds - SLACK and not self.told:
            self.tell(f"is truncated: it ends after {seconds:.2f} s, its header says {self.seconds:.2f} s")
        if self.filled > SLACK and not self.told:
            self.tell(f"has gaps without audio, {self.filled:.2f} s together: they are silent")
        lacking = 0.0 if self.first is None or self.reached is None else self.reached - self.first - played
        if lacking > GAP + DRIFT * played and not self.told:
            self.tell(f"has short gaps, {lacking:.2f} s together, without audio: what follows moves there")

    def silence_before(self, frame: Any, block: np.ndarray, played: float) -> Iterator[np.ndarray]:
        """Blocks of silence for what is missing before `frame`, of which `played` seconds stand before."""
        if frame.pts is None:
            return
        time = float(frame.pts * frame.time_base)
        if self.begins is None:
            self.begins = time - played
        missing = min(self.missing, time - self.begins - played)
        if missing < FILLED:
            return
        self.missing = 0.0
        self.filled += missing
        left = round(missing * frame.sample_rate)
        while left:
            count = min(left, frame.sample_rate)
            yield np.zeros_like(block, shape=(len(block), count))
            left -= count

    def frames(self) -> Iterator[Any]:
        """All frames that can be decoded; what cannot is told of."""
        context, failed, lost, first_lost = self.stream.codec_context, [], 0, None
        last, self.trims_end = None, False
        # s, where the first packet begins and the latest one ends, by the container's clock
        self.first: float | None = None
        self.reached: float | None = None
        for packet, late, length in chain(self.timed_packets(), [(None, 0.0, 0.0)]):
            if packet is not None:
                if last is None:
                    self.look_at_first(packet)
                last = bytes(packet) if self.checks_frames else b""
                self.check_time(packet, late, length)
            try:
                frames = context.decode(packet)
            except self.av.error.FFmpegError:
                if packet is not None:
                    failed.append(bytes(packet)[:8])
                    first_lost = self.reached if first_lost is None else first_lost
                    self.missing += 0.0 if self.reached is None else length
                continue
            if frames and packet is not None:
                lost, failed = lost + len(failed), []
            yield from frames
        if self.checks_frames:  # tags at the end are none that were lost
            failed = [head for head in failed if not is_tag(head) and frame_bytes(self.codec, head)]
        if lost:
            place = "" if first_lost is None else f" from {max(first_lost, 0):.2f} s on"
            instead = "left out" if self.reached is None else "silent"
            self.tell(f"is damaged: {lost + len(failed)} packets{place} cannot be decoded and are {instead}")
        elif failed or (last and frame_bytes(self.codec, last) > len(last)) or self.ends_unevenly:
            self.tell("is truncated: it ends within a packet")

    def look_at_first(self, packet: Any) -> None:
        if packet.pts is None:
            return
        if packet.pts < 0 and self.kind == "mov":
            # an edit list: before version 9 FFmpeg cuts the encoder's delay by it and not the padding
            self.trims_end = self.codec.startswith(("aac", "mp3")) and bool(self.stream.duration)
        if self.kind in ("matroska", "flv"):  # whose length is the time of the end
            self.starts_at = max(float(packet.pts * packet.time_base), 0.0)

    @property
    def checks_frames(self) -> bool:
        """Whether packets are whole frames that tell their length."""
        return self.codec.startswith(("mp3", "mp2", "aac"))

    @property
    def ends_unevenly(self) -> bool:
        """Whether a transport stream, whose packets have one size, ends within one."""
        return self.kind == "mpegts" and all(self.size % packet for packet in (188, 192, 204))

    def packets(self) -> Iterator[Any]:
        """The stream's packets; what ends them too early is told of."""
        end, failure = None, self.av.error.FFmpegError
        try:
            for packet in packets_of(self.container, self.stream):
                if packet.size:  # the last one is empty
                    if end is not None and packet.pos is not None and packet.pos > end:
                        self.tell(f"is damaged: {packet.pos - end} bytes are no audio and are left out")
                    end = packet.pos + packet.size if self.is_raw and packet.pos is not None else None
                    yield packet
        except failure:
            self.tell("is truncated or damaged: after its end is cut off, nothing can be read")

    @property
    def is_raw(self) -> bool:
        """Whether the file is nothing but frames, each of which begins where the one before ends."""
        return self.kind in ("mp3", "aac")

    def timed_packets(self) -> Iterator[tuple[Any, float, float]]:
        """The packets, each with the seconds by which it is later than the one before, and how long it is.

        A packet is as late as its time is after the end of all before it, or one of the next `AHEAD` is, if that is
        less: what they catch up was never missing.
        """
        held: deque[tuple[Any, float | None, float]] = deque()  # and how late by its own time, if it has one
        ends = usual = 0.0
        before: float | None = None
        for new in chain(self.packets(), repeat(None, AHEAD)):
            if new is not None:
                length = float((new.duration or 0) * new.time_base)
                if self.kind == "mov" and 0 < usual < length - JITTER:
                    length = usual  # there a packet is told to last until the next one begins, over a gap, too
                usual = length
                held.append((new, None if new.pts is None else float(new.pts * new.time_base) - ends, length))
                ends += length
            if held and (new is None or len(held) > AHEAD):
                lowest = min((late for _, late, _ in held if late is not None), default=before)
                packet, _, length = held.popleft()
                yield packet, 0.0 if before is None or lowest is None else lowest - before, length
                before = lowest

    def check_time(self, packet: Any, later: float, length: float) -> None:
        """Note where a packet ends, and what is missing before it; a gap that is too long to be filled is told of."""
        if packet.pts is None or self.kind in ("ogg", "mp3", "aac"):
            self.first = self.reached = None
            return
        start = float(packet.pts * packet.time_base)
        if self.reached is None:
            self.first = start
        elif later > max(GAP, self.longest_gap):
            self.tell(f"has no audio from {self.reached:.2f} to {start:.2f} s: what follows moves there")
            self.begins = None if self.begins is None else self.begins + later
        elif abs(later) > JITTER:
            self.missing = max(self.missing + later, 0.0)
        self.reached = start + length

    @property
    def longest_gap(self) -> float:
        """Seconds that are filled at most before the next packet: up to the length that a header tells."""
        if self.seconds is None or self.first is None or self.reached is None:
            return LONGEST_GAP
        return self.seconds - self.starts_at - (self.reached - self.first)

    def close(self) -> None:
        if self.container is not None:
            self.container.close()
        self.file.close()


def open_container(file: Any) -> Any:
    """A file that FFmpeg reads through Python; its own errors where it cannot."""
    av = library()
    # tags that are no UTF-8: PyAV raises before version 19, which takes no such argument
    tags = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    # what a play list names is not opened: it may come from a stranger
    return av.open(file, "r", options={"protocol_whitelist": ""}, **tags)


def default_sound(container: Any) -> Any:
    """The default audio stream of a container, else the first; None where it has none."""
    streams = container.streams.audio
    default = library().stream.Disposition.default
    return next((stream for stream in streams if stream.disposition & default), streams[0] if streams else None)


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, the last one empty where PyAV comes that far."""
    try:
        yield from container.demux(stream)
    except IndexError:  # at its end, if the file had a stream more than its head tells
        return


def library() -> Any:
    """PyAV; ContainerError that says how to install it."""
    try:
        import av
        import av.stream
    except ImportError as error:
        raise ContainerError("that takes PyAV: pip install av") from error
    return av


def as_block(frame: Any) -> np.ndarray:
    """A frame as (channels, n) in [-1, 1]: float64 if float32 cannot hold its samples, else float32."""
    name, channels = frame.format.name.removesuffix("p"), frame.layout.nb_channels
    if frame.format.is_planar:
        # not `to_ndarray`: of 8 channels and more PyAV (18.1) finds more planes than there are
        planes = [np.frombuffer(plane, DTYPES[name], frame.samples) for plane in frame.planes[:channels]]
        array: Any = np.stack(planes)
    else:
        array = np.frombuffer(frame.planes[0], DTYPES[name], frame.samples * channels).reshape(-1, channels).T.copy()
    if name not in FULL_SCALE:
        return array
    if name == "u8":
        array = array.astype(np.int16) - 2**7
    wide = np.float64 if name in ("s32", "s64") else np.float32
    return array.astype(wide) / wide(FULL_SCALE[name])
