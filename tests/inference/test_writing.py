"""What is written: kinds, limits, containers and pictures, and files that are not left half written."""

import os
import resource
import signal
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from fake_model import Fake, noise
from mvat_hf.data.audio import AudioError, open_audio
from mvat_hf.inference import writing
from mvat_hf.inference.enhancing import enhance_file
from mvat_hf.inference.writing import EXACT, Kind, check_written, frames_of, open_output

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


def read(path: Path) -> np.ndarray:
    """(channels, time) of any file."""
    with open_audio(path) as file:
        return file.read(always_2d=True).T


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


def kind_of(suffix: str) -> Kind:
    """What a wav becomes with this suffix."""
    if suffix in writing.CONTAINERS:
        codecs = {".mka": "flac", ".webm": "libopus"}
        return Kind(writing.CONTAINERS[suffix], codecs.get(suffix, "aac"))
    format = writing.FORMATS[suffix]
    return Kind(format, "OPUS" if suffix == ".opus" else soundfile.default_subtype(format))


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


# --- kinds and limits ---


@pytest.mark.parametrize(
    ("name", "subtype", "frames"),
    [
        ("a.wav", "IMA_ADPCM", 30001),
        ("a.wav", "MS_ADPCM", 30001),
        ("a.wav", "G721_32", 30001),
        ("a.wav", "GSM610", 30001),
        ("a.w64", "IMA_ADPCM", 30001),
        ("a.aiff", "PCM_S8", 3001),
        ("a.aiff", "ULAW", 3001),
        ("a.caf", "ALAC_24", 5001),
    ],
)
def test_what_cannot_be_written_with_as_many_frames_is_pcm_and_said(tmp_path, name, subtype, frames):
    soundfile.write(tmp_path / name, noise(frames), 16000, subtype=subtype)
    with pytest.warns(UserWarning, match=rf"{name} is [A-Z0-9]+ \w+, which cannot be .*; .*out_{name} is .* PCM_"):
        enhance_file(Fake(), tmp_path / name, tmp_path / f"out_{name}", dry=1)
    before, after = read(tmp_path / name), read(tmp_path / f"out_{name}")
    assert before.shape == after.shape
    np.testing.assert_allclose(after, before, atol=2**-15)
    assert soundfile.info(tmp_path / f"out_{name}").subtype == ("PCM_24" if subtype == "ALAC_24" else "PCM_16")


@pytest.mark.parametrize(
    ("name", "frames"), [("ms_adpcm_sox.wav", 32000), ("ima_adpcm_ffmpeg.wav", 65312), ("gsm610.wav", 16000)]
)
def test_the_output_of_reported_files_does_not_grow(shared, tmp_path, name, frames):
    with pytest.warns(UserWarning, match="cannot be written with as many frames"):
        enhance_file(Fake(), shared / "faults" / name, tmp_path / name)
    assert soundfile.info(tmp_path / name).frames == frames


def test_an_mp3_inside_a_wav_becomes_pcm(shared, tmp_path):
    with pytest.warns(UserWarning, match="which cannot be written with as many frames; .*out.wav is WAV PCM_16"):
        enhance_file(Fake(), shared / "faults" / "mp3_in.wav", tmp_path / "out.wav")
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.subtype, info.frames) == ("PCM_16", read(shared / "faults" / "mp3_in.wav").shape[1])


@pytest.mark.parametrize("frames", [1, 7, 1001])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", EXACT)
def test_what_counts_as_exact_is(recwarn, tmp_path, format, channels, frames):
    for subtype in EXACT[format] & set(soundfile.available_subtypes(format)):
        soundfile.write(tmp_path / "a", noise(frames, channels), 16000, format=format, subtype=subtype)
        assert soundfile.read(tmp_path / "a")[0].reshape(-1, channels).shape == (frames, channels), subtype
        with open_audio(tmp_path / "a") as file:
            assert file.frames == frames or format == "MP3", subtype
    assert not recwarn.list


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "expected"),
    [
        (".ogg", 384000, 1, "OGG VORBIS with 1 channels at 384000 Hz: expected at most 255 channels and 200000 Hz"),
        (".ogg", 16000, 256, "OGG VORBIS with 256 channels at 16000 Hz"),
        (".opus", 44100, 1, "OGG OPUS with 1 channels at 44100 Hz: expected .* 24000 or 48000 Hz"),
        (".mp3", 96000, 1, "MP3 MPEG_LAYER_III with 1 channels at 96000 Hz"),
        (".mp3", 16000, 3, "expected at most 2 channels"),
        (".flac", 16000, 9, "FLAC PCM_16 with 9 channels at 16000 Hz: expected at most 8 channels"),
        (".flac", 200001, 1, "FLAC PCM_16 with 1 channels at 200001 Hz"),
        (".m4a", 192000, 1, "ipod aac with 1 channels at 192000 Hz"),
        (".mp4", 16000, 7, "mp4 aac with 7 channels at 16000 Hz"),
        (".webm", 44100, 1, "webm libopus with 1 channels at 44100 Hz: expected at most 6 channels at 48000 Hz"),
    ],
)
def test_beyond_what_a_coding_holds_is_an_error_and_leaves_nothing(tmp_path, suffix, rate, channels, expected):
    soundfile.write(tmp_path / "a.wav", noise(300, channels), rate)
    with pytest.raises(AudioError, match=f"b{suffix} cannot be .*{expected}"):
        enhance_file(Fake(), tmp_path / "a.wav", tmp_path / "sub" / f"b{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [
        (".ogg", 200000, 1),
        (".ogg", 8000, 255),
        (".ogg", 1, 2),
        (".opus", 8000, 255),
        (".mp3", 8000, 2),
        (".flac", 655350, 8),
        (".m4a", 96000, 6),
        (".m4a", 7350, 5),
        (".m4a", 44100, 4),
        (".m4a", 44100, 3),
        (".webm", 48000, 6),
        (".mka", 655350, 6),
    ],
)
def test_the_most_that_a_coding_holds_is_written(tmp_path, suffix, rate, channels):
    target = tmp_path / f"a{suffix}"
    kind = kind_of(suffix)
    soundfile.write(tmp_path / "in.wav", noise(5000), rate)
    with open_output(target, target, kind, Source(rate, channels), tmp_path / "in.wav") as output:
        output.write(noise(channels, 5000))
    check_written(target, target, kind, 5000)
    with open_audio(target) as file:
        assert file.channels == channels


class Source:
    """What is known of an open file."""

    frames, format, subtype = 5000, "WAV", "PCM_16"

    def __init__(self, samplerate: int, channels: int):
        self.samplerate, self.channels = samplerate, channels


@pytest.mark.parametrize("name", ["b.sd2", "b.aac", "b.wma", "b.txt", "b"])
def test_a_suffix_that_cannot_be_written_is_refused(tmp_path, name):
    soundfile.write(tmp_path / "a.wav", noise(300), 44100)
    with pytest.raises(ValueError, match=f"target must end in one of .wav, .*, got .*{name}$"):
        enhance_file(Fake(), tmp_path / "a.wav", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_sound_designer_is_no_format_to_keep(shared, tmp_path):
    with pytest.raises(ValueError, match="target must end in one of .wav"):
        enhance_file(Fake(), shared / "faults" / "x.sd2", tmp_path / "x.sd2")
    assert not list(tmp_path.iterdir())


# --- containers ---


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


# --- what may go wrong with a file ---


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_an_mp3_is_checked_in_silence(tmp_path, capfd, rate):
    soundfile.write(tmp_path / "a.wav", noise(3 * rate), rate)
    for _ in range(3):
        enhance_file(Fake(), tmp_path / "a.wav", tmp_path / "b.mp3")
    assert capfd.readouterr() == ("", "")
    assert frames_of(tmp_path / "b.mp3", Kind("MP3", "MPEG_LAYER_III")) == 3 * rate


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.mka"])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_wrong_length_is_found_after_writing(tmp_path, name, off):
    soundfile.write(tmp_path / "in.wav", noise(40960), 16000)
    target = tmp_path / name
    enhance_file(Fake(), tmp_path / "in.wav", target)
    kind = kind_of(target.suffix)
    check_written(target, target, kind, 40960)
    with pytest.raises(AudioError, match=f"{name} cannot be written: it holds 40960 of {40960 + off * 1024} samples"):
        check_written(target, target, kind, 40960 + off * 1024)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(300), 16000)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.wav").write_bytes(b"old")
    for link, goal in (("link.wav", "there/real.wav"), ("new.wav", "there/made.wav")):
        (tmp_path / link).symlink_to(goal)
        enhance_file(Fake(), tmp_path / "in.wav", tmp_path / link)
        assert os.readlink(tmp_path / link) == goal and soundfile.info(tmp_path / goal).frames == 300
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"real.wav", "made.wav"}


@pytest.mark.parametrize("name", ["b.wav", "b.m4a"])
def test_an_old_file_keeps_its_mode_and_a_new_one_has_what_the_umask_leaves(tmp_path, name):
    soundfile.write(tmp_path / "in.wav", noise(300), 16000)
    umask = os.umask(0o002)
    try:
        enhance_file(Fake(), tmp_path / "in.wav", tmp_path / name)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o664
        (tmp_path / name).chmod(0o640)
        enhance_file(Fake(), tmp_path / "in.wav", tmp_path / name)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(umask)


def test_errors_name_the_target_and_nothing_else(tmp_path, monkeypatch):
    def refuse(path, goal):
        raise PermissionError(13, "Permission denied", str(path), None, str(goal))

    soundfile.write(tmp_path / "in.wav", noise(300), 16000)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match=r"out.wav'$") as error:
        enhance_file(Fake(), tmp_path / "in.wav", tmp_path / "out.wav")
    assert "partial" not in str(error.value) and str(error.value).count("out.wav") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_target_that_is_no_file_is_refused_and_stays(tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(300), 16000)
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    for name, kind in (("pipe.wav", "device"), ("folder.wav", "folder")):
        with pytest.raises(ValueError, match=f"{name} is a {kind}, expected a file"):
            enhance_file(Fake(), tmp_path / "in.wav", tmp_path / name)
    assert (tmp_path / "pipe.wav").is_fifo()


@pytest.mark.parametrize("name", ["", Path("a.wav")])
def test_an_empty_string_is_no_path(tmp_path, name):
    soundfile.write(tmp_path / "in.wav", noise(300), 16000)
    source, target = (name, "a.wav") if name == "" else (tmp_path / "in.wav", "")
    with pytest.raises(ValueError, match="is an empty string, expected a path"):
        enhance_file(Fake(), source, target)


@pytest.mark.parametrize("suffix", [b".wav", b".mp3", b".m4a"])
def test_a_name_that_is_not_unicode_is_written(tmp_path, suffix):
    soundfile.write(tmp_path / "in.wav", noise(2000), 16000)
    target = tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(b"caf\xe9" + suffix)
    try:
        target.parent.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    enhance_file(Fake(), tmp_path / "in.wav", target)
    assert read(target).shape == (1, 2000)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".wav", ".mp3", ".m4a", ".mka"])
def test_a_disk_that_is_full_when_the_file_is_closed_leaves_the_target_as_it_was(suffix, tmp_path):
    target = tmp_path / f"a{suffix}"
    soundfile.write(tmp_path / "in.wav", noise(3000), 16000)
    enhance_file(Fake(), tmp_path / "in.wav", target)
    before = target.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signals = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(AudioError, match=f"a{suffix} cannot be written"):
            enhance_file(Fake(), tmp_path / "in.wav", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signals)
    assert target.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_a_wav_beyond_4_gib_is_rf64(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "in.flac", noise(3000), 16000)
    monkeypatch.setattr(writing, "WAV_BYTES", 6000)
    enhance_file(Fake(), tmp_path / "in.flac", tmp_path / "small.wav")
    monkeypatch.setattr(writing, "WAV_BYTES", 5999)
    enhance_file(Fake(), tmp_path / "in.flac", tmp_path / "large.wav")
    assert [soundfile.info(tmp_path / f"{name}.wav").format for name in ("small", "large")] == ["WAV", "RF64"]
    np.testing.assert_array_equal(*(soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("small", "large")))


def test_a_folder_that_takes_no_files_is_told_from_a_format(tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(300), 16000)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o500)
    target = tmp_path / "closed" / "a.wav"
    if os.access(target.parent, os.W_OK):  # as root
        target = Path("/proc/a.wav")
    with pytest.raises(AudioError, match="a.wav cannot be written: (Permission denied|No such file)"):
        enhance_file(Fake(), tmp_path / "in.wav", target)
    with pytest.raises(AudioError, match="in.wav/b.wav cannot be written: Not a directory$"):
        enhance_file(Fake(), tmp_path / "in.wav", tmp_path / "in.wav" / "b.wav")
