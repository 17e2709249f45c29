"""The moving picture of a video file, copied beside the sound that is written."""

import sys
import warnings
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..data.audio import AudioError
from ..data.containers import default_sound, library, open_container, packets_of


def ffmpeg_errors() -> tuple[type[Exception], ...]:
    """Errors of FFmpeg; none if PyAV, which loads it, was not imported."""
    return (sys.modules["av"].FFmpegError,) if "av" in sys.modules else ()


def has_picture(path: Path) -> bool:
    """Whether a file holds a moving picture; covers are none."""
    try:
        with path.open("rb") as file, open_container(file) as container:
            return any(moves(stream) for stream in container.streams.video)
    except ffmpeg_errors():  # of a format that libsndfile alone reads
        return False


def moves(stream: Any) -> bool:
    """Whether a stream of pictures is no cover."""
    return not stream.disposition & library().stream.Disposition.attached_pic


class Picture:
    """
    The picture of a video file, copied packet by packet beside a sound that is written.

    Times count from where the file begins, by its own clock: that of a broadcast stands at some hour.
    """

    def __init__(self, path: Path):
        self.path = path
        self.file = path.open("rb")
        self.container = open_container(self.file)
        # s; before 0 is what encoders add
        self.begin = Fraction(max(self.container.start_time or 0, 0), library().time_base)
        self.source = next(stream for stream in self.container.streams.video if moves(stream))
        left = [stream.type for stream in self.container.streams if stream.type in ("audio", "subtitle")]
        left.remove("audio")
        if left:
            warnings.warn(f"{path} has other tracks that are left out: {', '.join(left)}", stacklevel=4)
        self.packets = (self.from_begin(one) for one in packets_of(self.container, self.source) if one.size)
        self.held = next(self.packets, None)

    def from_begin(self, packet: Any) -> Any:
        """A packet with its times counted from there."""
        begin = round(self.begin / packet.time_base)
        packet.pts, packet.dts = (time if time is None else time - begin for time in (packet.pts, packet.dts))
        return packet

    def sound_start(self, rate: int) -> int:
        """When the file's sound begins, in samples at `rate` Hz."""
        with self.path.open("rb") as file, open_container(file) as container:
            first = first_frame(container, default_sound(container))
            if first is None or first.pts is None:
                return 0
            return max(round((first.pts * first.time_base - self.begin) * rate), 0)

    def add_stream(self, output: Any, target: Path) -> None:
        """A stream in the file that is written; AudioError if it cannot hold this kind of picture."""
        try:
            self.stream = output.add_stream_from_template(self.source, opaque=True)
        except ValueError as error:
            codec = self.source.codec_context.name
            raise AudioError(f"{target} cannot hold the picture of {self.path} ({codec}): choose .mkv") from error
        if {self.container.format.name.partition(",")[0], output.format.name} <= {"mov", "mp4"}:
            self.stream.codec_context.codec_tag = self.source.codec_context.codec_tag  # some players know only this

    def copy(self, output: Any, until: Fraction | None) -> None:
        """What there is of it up to a time in seconds, or to its end."""
        while self.held is not None:
            time = self.held.pts if self.held.dts is None else self.held.dts
            if until is not None and time is not None and time * self.held.time_base > until:
                return
            self.held.stream = self.stream
            output.mux(self.held)
            self.held = next(self.packets, None)

    def close(self) -> None:
        self.container.close()
        self.file.close()


def first_frame(container: Any, stream: Any) -> Any:
    """The first frame of a stream that can be decoded; None if there is none."""
    for packet in packets_of(container, stream):
        with suppress(*ffmpeg_errors()):
            for frame in stream.codec_context.decode(packet):
                return frame
    return None


__all__ = ["Picture", "ffmpeg_errors", "has_picture"]
