"""Containers are written as long as their source and not late, with the picture of a video as it was."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from fake_model import Fake, noise
from mvat_hf.data.audio import AudioError
from mvat_hf.inference import writing
from mvat_hf.inference.enhancing import enhance_file
from written_files import read

SECOND = 48000  # samples


def low_noise(*shape: int) -> np.ndarray:
    """Noise below a third of the highest frequency, which every coding keeps."""
    spectrum = np.fft.rfft(noise(*shape))
    spectrum[..., spectrum.shape[-1] // 3 :] = 0
    return np.fft.irfft(spectrum, shape[-1]).astype(np.float32)


def delay_of(late: np.ndarray, audio: np.ndarray) -> int:
    """By how many samples (time,) is late, by cross-correlation."""
    size = 2 * max(len(late), len(audio))
    correlation = np.fft.irfft(np.fft.rfft(late, size) * np.fft.rfft(audio, size).conj(), size)
    lag = int(correlation.argmax())
    return lag - size if lag > size // 2 else lag


def make_media(path: Path, audio: np.ndarray, rate: int, codec: str, picture: str | None = None, start: float = 0.0):
    """A file of FFmpeg with mono sound that begins at `start` seconds, and two seconds of a picture with B-frames."""
    container = av.open(str(path), "w", format=writing.CONTAINERS[path.suffix])
    if picture:
        video = container.add_stream(picture, rate=25, options={"bf": "2"} if picture != "libvpx-vp9" else {})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        if path.suffix == ".mov":
            video.codec_context.codec_tag = "hvc1"
    sound = container.add_stream(codec, rate=rate, layout="mono")
    for number in range(50 if picture else 0):
        image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * number, np.uint8), format="rgb24")
        image.pts, image.time_base = number, Fraction(1, 25)
        container.mux(video.encode(image))
    if picture:
        container.mux(video.encode(None))
    frame = av.AudioFrame.from_ndarray(np.float32(audio.reshape(1, -1)), format="flt", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate)
    container.mux(sound.encode(frame))
    container.mux(sound.encode(None))
    container.close()


def pictures_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def lead_of(path: Path) -> float:
    """By how many seconds the picture begins before the sound."""
    times = []
    for kind in ({"audio": 0}, {"video": 0}):
        with av.open(str(path)) as container:
            times.append(float(next(container.decode(**kind)).time))
    return times[0] - times[1]


@pytest.mark.parametrize("frames", [1, 1000, 1024, 5000, 44101])
@pytest.mark.parametrize(
    ("suffix", "rate", "codec"),
    [
        (".m4a", 44100, "aac"),
        (".m4a", 16000, "aac"),
        (".m4b", 22050, "aac"),
        (".mp4", 48000, "aac"),
        (".mov", 48000, "aac"),
        (".3gp", 8000, "aac"),
        (".mka", 44100, "flac"),
        (".mkv", 16000, "flac"),
        (".webm", 48000, "opus"),
    ],
)
def test_a_container_is_as_long_as_the_source_and_not_late(tmp_path, suffix, rate, codec, frames):
    audio = low_noise(frames)
    soundfile.write(tmp_path / "a.wav", audio, rate)
    target = tmp_path / f"a{suffix}"
    enhance_file(Fake(), tmp_path / "a.wav", target, dry=1)
    with av.open(str(target)) as container:
        sound = container.streams.audio[0]
        assert (sound.codec_context.name, sound.rate, sound.channels) == (codec, rate, 1)
        if suffix not in (".mka", ".mkv", ".webm"):  # whose times are in ms
            assert sound.duration * sound.time_base * rate == frames
    found = read(target)[0]
    assert len(found) == frames or (codec == "opus" and frames == 1)
    if frames > 4000:
        assert delay_of(found, audio) == 0
        assert np.square(found[:frames] - audio).mean() < 0.03 * np.square(audio).mean()


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [(".m4a", "aac", 44100), (".m4a", "alac", 44100), (".webm", "libopus", 48000), (".mka", "libopus", 48000)],
)
def test_a_recording_in_a_container_keeps_its_length_place_and_codec(tmp_path, suffix, codec, rate):
    audio = low_noise(50001)
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    make_media(source, audio, rate, codec)
    enhance_file(Fake(), source, target, dry=1)
    before, after = read(source)[0], read(target)[0]
    assert len(before) == len(after) and delay_of(after, before) == 0
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name == codec.removeprefix("lib")
        assert not container.streams.video


def test_what_is_too_loud_for_16_bits_is_clipped_in_a_container(tmp_path):
    tone = 0.5 * np.sin(np.arange(9000) / 10)
    soundfile.write(tmp_path / "a.wav", tone, 16000)
    enhance_file(Fake(lambda values: 3 * values), tmp_path / "a.wav", tmp_path / "a.mka")
    np.testing.assert_allclose(read(tmp_path / "a.mka")[0, 2000:7000], (3 * tone[2000:7000]).clip(-1, 1), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "picture", "codec", "rate", "start"),
    [
        ("a.mp4", "libx264", "aac", 44100, 0.0),
        ("a.mp4", "mpeg4", "aac", 48000, 0.5),
        ("a.mov", "libx265", "aac", 48000, 0.0),
        ("a.mkv", "libx264", "libopus", 48000, 0.25),
        ("a.webm", "libvpx-vp9", "libopus", 48000, 0.0),
    ],
)
@pytest.mark.parametrize("other", [None, ".mkv", ".mp4"])
def test_the_picture_of_a_video_is_copied_and_stays_in_sync(tmp_path, capfd, name, picture, codec, rate, start, other):
    source = tmp_path / name
    target = tmp_path / ("b" + (other or source.suffix))
    make_media(source, low_noise(3 * rate // 2), rate, codec, picture, start)
    capfd.readouterr()
    enhance_file(Fake(), source, target, dry=1)
    assert pictures_of(target) == pictures_of(source)
    before, after = read(source)[0], read(target)[0]
    late = delay_of(after, before)
    assert late == (1024 if start and target.suffix == ".mp4" else 0)
    assert 0 <= len(after) - len(before) - late <= (1023 if late else 0)
    assert abs(lead_of(target) + late / rate - lead_of(source)) < 0.0021  # Matroska's times are in ms
    assert capfd.readouterr() == ("", "")
    with av.open(str(source)) as old, av.open(str(target)) as new:
        assert old.streams.video[0].average_rate == new.streams.video[0].average_rate
        if target.suffix == source.suffix:
            assert old.streams.video[0].codec_context.codec_tag == new.streams.video[0].codec_context.codec_tag


def test_a_picture_that_was_turned_stays_turned(tmp_path):
    """As phones hold it: a matrix in the header turns the picture by 90 degrees."""
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    make_media(source, low_noise(44100), 44100, "aac", "libx264")
    content = bytearray(source.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 4 + 5 * 4 + 2 * 8
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 2**16, 0, -(2**16), 0, 0, 48 * 2**16, 0, 2**30)
    source.write_bytes(content)
    enhance_file(Fake(), source, target)
    turned = []
    for path in (source, target):
        with av.open(str(path)) as container:
            turned.append(next(container.decode(video=0)).rotation)
    assert turned == [-90, -90]


def test_other_tracks_of_a_video_are_told(tmp_path):
    make_media(tmp_path / "one.mkv", low_noise(SECOND), SECOND, "flac", "libx264")
    with av.open(str(tmp_path / "one.mkv")) as one, av.open(str(tmp_path / "two.mkv"), "w") as two:
        streams = {stream: two.add_stream_from_template(stream, opaque=True) for stream in one.streams}
        second = two.add_stream_from_template(one.streams.audio[0])
        for packet in one.demux():
            if packet.size:
                copies = [streams[packet.stream], second] if packet.stream.type == "audio" else [streams[packet.stream]]
                for stream in copies:
                    packet.stream = stream
                    two.mux(packet)
    with pytest.warns(UserWarning, match="two.mkv has other tracks that are left out: audio"):
        enhance_file(Fake(), tmp_path / "two.mkv", tmp_path / "out.mkv")


def test_a_picture_that_the_target_cannot_hold_is_named(tmp_path):
    make_media(tmp_path / "a.mp4", low_noise(SECOND), SECOND, "aac", "libx264")
    with pytest.raises(AudioError, match=r"b.webm cannot hold the picture of .*a.mp4 \(h264\): choose .mkv"):
        enhance_file(Fake(), tmp_path / "a.mp4", tmp_path / "b.webm")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_sound_file_of_a_video_has_no_picture(tmp_path):
    make_media(tmp_path / "a.mp4", low_noise(SECOND), SECOND, "aac", "libx264")
    for name in ("b.m4a", "b.wav"):
        enhance_file(Fake(), tmp_path / "a.mp4", tmp_path / name)
        with av.open(str(tmp_path / name)) as container:
            assert not container.streams.video
        assert read(tmp_path / name).shape == read(tmp_path / "a.mp4").shape
