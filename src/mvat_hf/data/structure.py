"""Faults in the bytes of a file, found before it is decoded: recordings joined into one, holes, a missing end.

Decoders step over these in silence. They are found by marks that each format has for this: checksums and numbers of Ogg
pages, tags at the head of an mp3, "fLaC", sizes of mp4 boxes.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

BLOCK = 2**20  # bytes that a search has in memory
PAGE = struct.Struct("<4sBBqIIIB")  # an Ogg page's head: mark, version, flags, granule, serial, number, checksum, rows
FIRST, LAST = 2, 4  # flags of an Ogg page
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
LARGEST_FRAME = 1441  # bytes of an mp3 frame
SIDE_INFORMATION = (9, 17, 32)  # bytes between an mp3 frame's head and its tag
KBPS = (  # of mp3 frames, by the index in their head: of MPEG 1, and of MPEG 2 and 2.5
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
KBPS_OF_LAYER_2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
HZ = (44100, 48000, 32000)  # of MPEG 1


@dataclass(frozen=True)
class Part:
    """
    One recording of those that a file holds: its bytes from `start` to before `end`, and those to put in their place.

    patch: (place, bytes); None if there are none.
    seconds: length that a tag at its head says, None if there is none.
    """

    start: int
    end: int
    patch: tuple[int, bytes] | None = None
    seconds: float | None = None

    def mended(self, data: bytes, place: int) -> bytes:
        """The file's bytes from `place` on with the patch."""
        if self.patch is None:
            return data
        first, patch = self.patch
        start, end = max(first, place), min(first + len(patch), place + len(data))
        if start >= end:
            return data
        return data[: start - place] + patch[start - first : end - first] + data[end - place :]


@dataclass(frozen=True)
class Parts:
    """
    parts: the recordings that a file holds.
    fault: what of it is missing, to stand after the file's name; None if nothing.
    doubt: what might be.
    plain: whether every part is one stream, and nothing else, that begins at its beginning.
    """

    parts: list[Part]
    fault: str | None = None
    doubt: str | None = None
    plain: bool = True


def find_all(file: BinaryIO, pattern: bytes) -> Iterator[int]:
    """Every place of a few bytes in a file."""
    place, rest = 0, b""
    file.seek(0)
    while block := file.read(BLOCK):
        block = rest + block
        for found in re.finditer(re.escape(pattern), block):
            yield place + found.start()
        rest = block[-(len(pattern) - 1) :]
        place += len(block) - len(rest)


def read_at(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


@dataclass
class OggLink:
    """One of the recordings that an Ogg file chains, as its pages are met."""

    start: int
    end: int = 0
    last_page: int = 0
    streams: int = 0  # at once
    ended: set[int] = field(default_factory=set)  # streams whose last page was met
    reached: dict[int, tuple[int, int]] = field(default_factory=dict)  # of each stream: last number, largest granule


@dataclass
class OggPages:
    """The pages of an Ogg file as they are met."""

    links: list[OggLink] = field(default_factory=list)
    pages: int = 0
    lost: int = 0
    in_heads: bool = False  # only first pages of streams so far

    def add(self, place: int, end: int, flags: int, granule: int, serial: int, number: int) -> None:
        if not self.links or (flags & FIRST and not self.in_heads):
            self.links.append(OggLink(place))
        link = self.links[-1]
        self.in_heads = bool(flags & FIRST)
        link.streams += self.in_heads
        before, reached = link.reached.get(serial, (number - 1, 0))
        # what records from a radio stream has pages missing after those of the heads, whose granule is 0
        self.lost += max(number - before - 1, 0) if reached > 0 else 0
        link.reached[serial] = number, max(granule, reached)
        link.last_page, link.end = place, end
        self.pages += 1
        if flags & LAST:
            link.ended.add(serial)


def ogg_parts(file: BinaryIO, size: int) -> Parts:
    """The chained streams of an Ogg file, by all of its pages and their checksums. A last page without the mark of
    the end, which makes libsndfile fail, is given it."""
    met, place, damaged, cut = OggPages(), 0, False, False
    file.seek(0)
    while place < size:
        head = file.read(PAGE.size)
        if len(head) == PAGE.size and head[:4] == b"OggS":
            _, _, flags, granule, serial, number, checksum, rows = PAGE.unpack(head)
            table = file.read(rows)
            end = place + PAGE.size + rows + sum(table)
            cut = end > size
            if not cut and ogg_checksum(head + table + file.read(sum(table))) == checksum:
                met.add(place, end, flags, granule, serial, number)
                place = end
                continue
        else:
            cut = cut or head[:4] == b"OggS"[: len(head)]
        following = next_page(file, place + 1, size)
        damaged = damaged or following < size or not (cut or is_tag(read_at(file, place, 8)))
        place = following
        file.seek(place)
    plain = bool(met.links) and met.links[0].start == 0 and all(link.streams == 1 for link in met.links)
    fault = doubt = None
    if damaged or met.lost:
        lost = max(met.lost, 1)
        fault = f"is damaged: at least {lost} of its {met.pages + lost} Ogg pages are lost"
    elif cut:
        fault = "is truncated: it ends within an Ogg page"
    elif any(link.reached.keys() - link.ended for link in met.links):
        doubt = "has no mark of its end: it may have been cut off there"
    return Parts([ended_part(file, link) for link in met.links] if plain else [Part(0, size)], fault, doubt, plain)


def ended_part(file: BinaryIO, link: OggLink) -> Part:
    """The recording of one stream, its last page with the mark of the end."""
    if link.ended:
        return Part(link.start, link.end)
    page = bytearray(read_at(file, link.last_page, link.end - link.last_page))
    page[5] |= LAST
    page[22:26] = ogg_checksum(bytes(page)).to_bytes(4, "little")
    return Part(link.start, link.end, (link.last_page, bytes(page)))


def next_page(file: BinaryIO, place: int, size: int) -> int:
    """The first place from `place` on where an Ogg page may begin; `size` if there is none."""
    file.seek(place)
    rest = b""
    while block := file.read(BLOCK):
        block = rest + block
        found = block.find(b"OggS\0")
        if found >= 0:
            return place - len(rest) + found
        place += len(block) - len(rest)
        rest = block[-4:]
    return size


def ogg_checksum(page: bytes) -> int:
    """CRC-32 of an Ogg page, its own field left out: zlib's with the bits of all bytes turned and nothing inverted."""
    page = page[:22] + b"\0\0\0\0" + page[26:]
    reflected = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(REVERSED), "big")


def is_tag(head: bytes) -> bool:
    """Whether what stands after the last frame of a file is a tag or filling, and no audio."""
    return head[:3] in (b"TAG", b"ID3") or head[:8] == b"APETAGEX" or head[:6] == b"LYRICS" or not head.strip(b"\0")


def flac_parts(file: BinaryIO, size: int) -> Parts:
    """The recordings of flac files that were joined."""
    starts = [place for place in find_all(file, b"fLaC\0\0\0\x22") if place] if size else []
    return Parts(parts_from([0, *starts], size))


def parts_from(starts: list[int], size: int) -> list[Part]:
    return [Part(start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]


def mp3_parts(file: BinaryIO, size: int) -> Parts:
    """The recordings of mp3 files that were joined, by the tags at their heads; a fault if one has fewer bytes than its
    head says."""
    found = [(place, id3_end(file, place)) for place in find_all(file, b"ID3")]
    tagged = [
        frame for name in (b"Xing", b"Info") for place in find_all(file, name) for frame in tag_frames(file, place)
    ]
    found += [(frame, frame + 4) for frame in tagged]
    starts, head_end = [0], 0
    for start, end in sorted(found):
        if end <= start or end >= size:  # no tag after all, or one that closes the file
            continue
        if start > head_end + LARGEST_FRAME:
            starts.append(start)
            head_end = end
        head_end = max(head_end, end)
    parts: list[Part] = []
    fault, known_end = None, size
    for part in reversed(parts_from(starts, size)):
        frame = next((frame for frame in sorted(tagged) if part.start <= frame < part.end), None)
        if frame is not None:
            promised, seconds = read_tag(file, frame)
            there, inside = part.end - frame, sum(end - start for start, end in found if frame < start < known_end)
            if promised > there + 2 * LARGEST_FRAME:
                if abs(known_end - frame - inside - promised) <= 2 * LARGEST_FRAME:
                    seconds = None  # it goes on after a tag inside
                else:
                    fault = f"is truncated: it has {there} bytes of audio, its header says {promised}"
            part, known_end = replace(part, seconds=seconds), part.start
        parts.insert(0, part)
    return Parts(parts, fault)


def id3_end(file: BinaryIO, place: int) -> int:
    """Where the ID3v2 tag at `place` ends, or `place` if it is none: after it comes an mp3 frame or another tag."""
    head = read_at(file, place, 10)
    if len(head) < 10 or head[3] not in (2, 3, 4) or head[4] or head[5] & 15 or max(head[6:]) > 127:
        return place
    length = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    end = place + 10 + length + (10 if head[5] & 16 else 0)
    following = read_at(file, end, 4)
    return end if following[:3] == b"ID3" or mp3_frame_bytes(following) or not following.strip(b"\0") else place


def tag_frames(file: BinaryIO, place: int) -> list[int]:
    """Where the mp3 frame with the tag at `place` begins; empty if there is none."""
    for distance in SIDE_INFORMATION:
        frame = read_at(file, place - 4 - distance, 4 + distance) if place >= 4 + distance else b""
        if mp3_frame_bytes(frame[:4]) and not frame[4:].strip(b"\0"):
            return [place - 4 - distance]
    return []


def read_tag(file: BinaryIO, frame: int) -> tuple[int, float | None]:
    """(bytes, s) of audio that the tag in an mp3 frame says, without what the encoder added; 0 or None if it does
    not."""
    head = read_at(file, frame, 200)
    _, samples, hz = mp3_frame(head[:4])
    place = min(place for name in (b"Xing", b"Info") if (place := head.find(name)) > 0)
    flags, place = int.from_bytes(head[place + 4 : place + 8], "big"), place + 8
    frames = int.from_bytes(head[place : place + 4], "big") if flags & 1 else 0
    place += 4 if flags & 1 else 0
    size = int.from_bytes(head[place : place + 4], "big") if flags & 2 else 0
    place += (4 if flags & 2 else 0) + (100 if flags & 4 else 0) + (4 if flags & 8 else 0) + 21
    added = int.from_bytes(head[place : place + 3], "big") if head[place - 21 : place - 20] == b"L" else 0  # LAME, Lavc
    return size, max(frames * samples - (added >> 12) - (added & 0xFFF), 0) / hz if frames else None


def mp3_frame_bytes(head: bytes) -> int:
    """Length of the mp3 or mp2 frame that begins with these four bytes; 0 if none does."""
    return mp3_frame(head)[0]


def mp3_frame(head: bytes) -> tuple[int, int, int]:
    """(bytes, samples, rate in Hz) of the mp3 or mp2 frame that begins with these four bytes; zeros if none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0, 0, 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)  # version 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer not in (2, 3) or bitrate in (0, 15) or rate == 3:
        return 0, 0, 0
    kbps = (KBPS_OF_LAYER_2 if layer == 2 and version == 3 else KBPS[version != 3])[bitrate]
    hz = HZ[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * kbps * 1000 // hz + (head[2] >> 1 & 1), samples, hz


def frame_bytes(codec: str, packet: bytes) -> int:
    """Length of the frame of a raw stream that begins a packet, by its own head; 0 if it tells none."""
    if codec.startswith(("mp3", "mp2")):
        return mp3_frame_bytes(packet[:4])
    if codec == "aac" and len(packet) > 6 and packet[0] == 0xFF and packet[1] & 0xF6 == 0xF0:
        return (packet[3] & 3) << 11 | packet[4] << 3 | packet[5] >> 5
    return 0


def mp4_fault(file: BinaryIO, size: int) -> str | None:
    """A fault if a box of an mp4 ends after the file."""
    place = 0
    while place + 8 <= size:
        head = read_at(file, place, 16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if not head[4:8].strip(b"\0") or length < 8:  # filling, or a last box that goes to the end
            return None
        place += length
    return f"is truncated: it has {size} bytes, its headers say {place}" if place > size else None


def caf_fault(file: BinaryIO, size: int) -> str | None:
    """A fault if a chunk of a CAF ends after the file."""
    place = 8
    while place + 12 <= size:
        length = int.from_bytes(read_at(file, place + 4, 8), "big", signed=True)
        if length < 0:  # goes to the end
            return None
        place += 12 + length
    return f"is truncated: it has {size} bytes, its headers say {place}" if place > size else None
