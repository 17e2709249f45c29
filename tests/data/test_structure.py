"""What the bytes of a file tell: recordings joined into one are read to the end, holes and missing ends are told."""

import io

import numpy as np
import pytest
import soundfile

from encoded_audio import delay, encode, voice
from fake_model import noise
from mvat_hf.data.audio import AudioError, DamagedAudioWarning, EncodedAudio, read_audio, read_mono
from mvat_hf.data.structure import mp3_frame_bytes
from written_files import read


def test_joined_mp3_files_are_read_to_the_end(tmp_path):
    """Each without its encoder's delay and padding; another rate and channels are made those of the first."""
    parts = [
        encode(tmp_path / f"{number}.mp3", "mp3", audio, rate=rate).read_bytes()
        for number, (audio, rate) in enumerate(
            [(voice(2), 48000), (voice(1, 16000), 16000), (voice(1, channels=2), 48000)]
        )
    ]
    (tmp_path / "a.mp3").write_bytes(parts[0] + parts[0])
    np.testing.assert_array_equal(read_audio(tmp_path / "a.mp3")[0], np.tile(read_audio(tmp_path / "0.mp3")[0], 2))
    (tmp_path / "b.mp3").write_bytes(parts[0] + parts[1])
    audio, rate = read_audio(tmp_path / "b.mp3")
    assert rate == 48000 and audio.shape[0] == 1 and abs(audio.shape[1] - 3 * 48000) <= 3
    assert abs(delay(audio[:, 2 * 48000 :], np.repeat(voice(1, 16000), 3, axis=1))) <= 3
    (tmp_path / "c.mp3").write_bytes(parts[0] + parts[2])
    with pytest.warns(DamagedAudioWarning, match=r"c\.mp3 goes on with 2 channels after 1"):
        assert read_audio(tmp_path / "c.mp3")[0].shape == (1, 3 * 48000)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_streams_are_read_to_the_end(subtype, tmp_path):
    for name, rate, channels in (("a", 16000, 1), ("b", 48000, 2)):
        audio = voice(2, rate, channels)
        soundfile.write(tmp_path / f"{name}.ogg", audio.T, rate, format="OGG", subtype=subtype)
    one, other = ((tmp_path / f"{name}.ogg").read_bytes() for name in "ab")
    alone, _ = read_audio(tmp_path / "a.ogg")
    (tmp_path / "c.ogg").write_bytes(one + one + one)
    np.testing.assert_array_equal(read_audio(tmp_path / "c.ogg")[0], np.tile(alone, 3))
    (tmp_path / "d.ogg").write_bytes(other + one)
    audio, rate = read_audio(tmp_path / "d.ogg")
    assert rate == 48000 and audio.shape[0] == 2 and abs(audio.shape[1] - 4 * 48000) <= 3


def test_joined_flac_files_are_read_to_the_end(tmp_path):
    soundfile.write(tmp_path / "a.flac", voice(2, 16000).T, 16000)
    (tmp_path / "b.flac").write_bytes(2 * (tmp_path / "a.flac").read_bytes())
    np.testing.assert_array_equal(read_audio(tmp_path / "b.flac")[0], np.tile(read_audio(tmp_path / "a.flac")[0], 2))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_pages_that_are_missing_are_told(subtype, tmp_path):
    soundfile.write(tmp_path / "a.ogg", voice(5, 16000).T, 16000, format="OGG", subtype=subtype)
    whole, (expected, _) = (tmp_path / "a.ogg").read_bytes(), read_audio(tmp_path / "a.ogg")
    pages = [place for place in range(len(whole)) if whole[place : place + 4] == b"OggS"]
    middle, last = pages[len(pages) // 2], pages[-1]
    broken = bytearray(whole)
    broken[middle + 500] ^= 255
    unmarked = bytearray(whole)
    unmarked[last + 5] &= ~4
    unmarked[last + 22 : last + 26] = checksum(bytes(unmarked[last:])).to_bytes(4, "little")
    cases = {
        "broken": (bytes(broken), "is damaged: at least 1 of its"),
        "missing": (whole[:middle] + whole[pages[len(pages) // 2 + 1] :], "is damaged: at least 1 of its"),
        "cut": (whole[: middle + 500], "is truncated"),
        "unmarked": (bytes(unmarked), "has no mark of its end"),
    }
    for name, (content, said) in cases.items():
        with pytest.warns(DamagedAudioWarning, match=f"^{name} {said}"):
            audio, rate = read_audio(EncodedAudio(content, name))
        assert rate == 16000 and 0 < audio.shape[1] <= expected.shape[1]
        if name == "unmarked":
            np.testing.assert_array_equal(audio, expected)
        else:
            with pytest.raises(AudioError, match=f"^{name} {said}"):
                read_mono(EncodedAudio(content, name), 16000)


def checksum(page: bytes) -> int:
    """CRC-32 of an Ogg page, bit by bit."""
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def mp3_and_tag() -> tuple[bytes, bytes, int]:
    """A second of mp3 with a head of its length, an ID3v2 tag, and where a frame in its middle begins."""
    file = io.BytesIO()
    soundfile.write(file, noise(44100), 44100, format="MP3")
    content, frames = file.getvalue(), [0]
    while frames[-1] < len(content) // 2:
        frames.append(frames[-1] + mp3_frame_bytes(content[frames[-1] : frames[-1] + 4]))
    frame = b"TIT2\0\0\0\6\0\0\3title"
    return content, b"ID3\4\0\0\0\0\0" + bytes([len(frame)]) + frame, frames[-1]


def test_tags_behind_and_inside_an_mp3_are_no_recordings(tmp_path, recwarn):
    content, tag, middle = mp3_and_tag()
    (tmp_path / "behind.mp3").write_bytes(content + tag)
    (tmp_path / "inside.mp3").write_bytes(content[:middle] + tag + content[middle:])
    assert read(tmp_path / "behind.mp3").shape == (1, 44100)
    assert 44100 <= read(tmp_path / "inside.mp3").shape[1] < 44100 + 1152
    assert not recwarn.list


def test_an_mp3_that_lacks_its_end_is_told_though_a_tag_is_inside(tmp_path):
    content, tag, middle = mp3_and_tag()
    (tmp_path / "cut.mp3").write_bytes(content[:middle] + tag + content[middle : middle + 2000])
    with pytest.warns(DamagedAudioWarning, match=r"cut\.mp3 is truncated"):
        read(tmp_path / "cut.mp3")
