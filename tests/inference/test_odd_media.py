"""Media files as recorders of broadcasts and calls write them: clocks that do not begin at 0, late tracks, old tags."""

from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from fake_model import Fake, noise
from mvat_hf.data import containers
from mvat_hf.data.audio import AUDIO_SUFFIXES, AudioError, DamagedAudioWarning, read_audio
from mvat_hf.inference import writing
from mvat_hf.inference.enhancing import enhance_file
from mvat_hf.inference.folders import enhance_folder
from written_files import read

RATE = 48000


def add_sound(container, stream, start: float, seconds: float = 1.0):
    audio = noise(1, round(seconds * RATE), seed=round(start * 1000))
    frame = av.AudioFrame.from_ndarray(audio, format="flt", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), round(start * RATE)
    container.mux(stream.encode(frame))


def video(path, begin: float = 0.0, tags: dict[str, str] | None = None, **options: str):
    """A second of picture and of sound, both from `begin` s on; the path."""
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update(tags or {})
        picture = container.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("mp2" if path.suffix == ".ts" else "aac", rate=RATE, layout="mono")
        for number in range(25):
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * number, np.uint8), format="rgb24")
            image.time_base, image.pts = Fraction(1, 25), round(25 * begin) + number
            container.mux(picture.encode(image))
        add_sound(container, sound, begin)
        for stream in (picture, sound):
            container.mux(stream.encode(None))
    return path


def times_of(path) -> dict[str, float]:
    """Where the tracks of a file begin, and where it ends, s."""
    with av.open(str(path)) as container:
        ends = {"end": float(Fraction(container.duration, av.time_base))}
        for kind in ("audio", "video"):
            container.seek(0)
            ends[kind] = float(next(container.decode(**{kind: 0})).time)
    return ends


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_a_clock_that_stands_at_some_hour_begins_at_0(tmp_path, target):
    source = video(tmp_path / "broadcast.ts", output_ts_offset="20000")
    before = times_of(source)
    enhance_file(Fake(), source, tmp_path / target)
    after = times_of(tmp_path / target)
    assert before["video"] >= 20000 and min(after["audio"], after["video"]) < 0.1 and after["end"] < 1.5
    assert after["video"] - after["audio"] == pytest.approx(before["video"] - before["audio"], abs=0.025)


def test_a_picture_whose_tags_are_not_utf_8_is_copied(tmp_path):
    source = video(tmp_path / "old.avi", tags={"title": "caf# noir"})
    source.write_bytes(source.read_bytes().replace(b"caf#", b"caf\xe9"))
    enhance_file(Fake(), source, tmp_path / "new.mkv")
    with av.open(str(tmp_path / "new.mkv")) as container:
        assert len(container.streams.video) == 1 and sum(1 for _ in container.decode(video=0)) == 25


@pytest.mark.parametrize("live", ["0", "1"])  # the head of a live file tells no length
def test_what_follows_a_gap_stays_where_its_time_puts_it(tmp_path, live):
    with av.open(str(tmp_path / "call.mka"), "w", options={"live": live}) as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number in range(4):
            add_sound(container, stream, 1.4 * number)
    with pytest.warns(
        DamagedAudioWarning, match=r"call\.mka has gaps without audio, 1\.20 s together: they are silent"
    ):
        assert read_audio(tmp_path / "call.mka")[0].shape == (1, round(5.2 * RATE))


def tone(path, codec: str, seconds: float, later, **options: str):
    """A tone whose packets come as many seconds `later` as that function says of their time; the path."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        audio = (0.2 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            packet.pts += round(later(float(packet.pts * packet.time_base)) / packet.time_base)
            packet.dts = packet.pts
            container.mux(packet)
    return path


def quiet_seconds(path) -> tuple[float, float]:
    """(Length, how much of it is silent after the encoder's delay) in seconds."""
    audio = read_audio(path)[0][0]
    loud = np.abs(audio[: len(audio) // 480 * 480]).reshape(-1, 480).max(axis=1) > 0.005
    return len(audio) / RATE, (~loud[5:]).sum() / 100


@pytest.mark.parametrize("name", ["a.mp4", "a.m4a", "live.mp4", "a.mov"])
def test_a_gap_in_mp4_is_silent_where_the_packet_before_lasts_over_it(tmp_path, name):
    live = {"movflags": "empty_moov+default_base_moof", "frag_duration": "500000"} if name == "live.mp4" else {}
    path = tone(tmp_path / name, "aac", 4, lambda time: 0.5 * (time > 1), **live)
    with pytest.warns(DamagedAudioWarning, match=r"has gaps without audio, 0\.50 s together: they are silent"):
        assert quiet_seconds(path) == pytest.approx((4.5, 0.5), abs=0.04)
    assert quiet_seconds(tone(tmp_path / f"whole.{name}", "aac", 4, lambda time: 0, **live))[1] == 0


@pytest.mark.parametrize(("name", "codec"), [("a.mka", "libopus"), ("a.flv", "aac"), ("a.ts", "aac")])
def test_packets_that_come_late_and_are_caught_up_leave_no_hole(tmp_path, recwarn, name, codec):
    def stalled(time):  # 0.3 s in which nothing comes, then all that was held back at once
        return 1.3 + (time - 1) / 10 - time if 1 <= time < 1.3 else max(0.035 - 0.8 * (time - 1.3), 0) * (time >= 1.3)

    assert quiet_seconds(tone(tmp_path / name, codec, 4, stalled)) == pytest.approx((4, 0), abs=0.04)
    assert not [warning for warning in recwarn if warning.category is DamagedAudioWarning]


def test_after_a_jump_of_the_clock_late_packets_leave_no_holes(tmp_path):
    def later(time):
        return max(0.08 - time % 1 / 2, 0) * (time % 1 < 0.16) + 70 * (time > 2.005)

    with pytest.warns(DamagedAudioWarning, match="has no audio from 2"):
        assert quiet_seconds(tone(tmp_path / "a.mka", "libopus", 12, later, live="1")) == pytest.approx(
            (12, 0), abs=0.02
        )


def spoilt(path, first: float, last: float):
    """The file with sound packets that no one can decode between two times, s."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            if packet.size and first <= packet.pts * packet.time_base < last:
                place = content.index(bytes(packet))
                content[place : place + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_packets_that_cannot_be_decoded_move_nothing(tmp_path, suffix):
    path = spoilt(tone(tmp_path / f"a{suffix}", "aac", 4, lambda time: 0), 1, 1.7)
    with pytest.warns(DamagedAudioWarning, match=r"packets from 1\.0\d s on cannot be decoded and are silent"):
        assert quiet_seconds(path) == pytest.approx((4, 0.7), abs=0.05)


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4"])
def test_a_video_whose_first_sound_cannot_be_decoded_is_enhanced(tmp_path, target):
    path = spoilt(video(tmp_path / "a.mkv"), -1, 0.05)
    with pytest.warns(DamagedAudioWarning, match=r"packets from 0\.00 s on cannot be decoded and are silent"):
        enhance_file(Fake(), path, tmp_path / target)
    times = times_of(tmp_path / target)
    assert times["end"] == pytest.approx(1, abs=0.06) and times["audio"] == pytest.approx(0.06, abs=0.05)


def test_single_packets_that_are_missing_move_nothing_by_more_than_a_picture(tmp_path):
    """Each packet of 20 ms holds its number; every twelfth was lost."""
    size, kept = RATE // 50, [number for number in range(1, 200) if number % 12]
    with av.open(str(tmp_path / "call.mka"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number in kept:
            frame = av.AudioFrame.from_ndarray(np.full((1, size), number, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, (number - 1) * size, Fraction(1, RATE)
            container.mux(stream.encode(frame))
    with pytest.warns(DamagedAudioWarning, match="has gaps without audio"):
        numbers = np.rint(read_audio(tmp_path / "call.mka")[0][0] * 2**15).astype(int)
    assert [number for number in kept if (numbers == number).sum() != size] == []  # none is lost
    assert max(abs(int(np.argmax(numbers == number)) - (number - 1) * size) for number in kept) <= 0.04 * RATE


def test_a_clock_that_jumps_by_an_hour_makes_no_hour_of_silence(tmp_path):
    with av.open(str(tmp_path / "call.mka"), "w", options={"live": "1"}) as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start in (0, 3600):
            add_sound(container, stream, start)
    with pytest.warns(DamagedAudioWarning, match=r"has no audio from 1\.00 to 3600\.00 s: what follows moves there"):
        assert read_audio(tmp_path / "call.mka")[0].shape == (1, 2 * RATE)


class LateStream:
    """What PyAV does at the end of a file that has a stream more than its head tells."""

    def __init__(self, container):
        self.container = container

    def __getattr__(self, name):
        return getattr(self.container, name)

    def demux(self, *streams):
        yield from (packet for packet in self.container.demux(*streams) if packet.size)
        raise IndexError("list index out of range")


def test_a_stream_that_appears_late_ends_nothing(tmp_path, monkeypatch):
    source = video(tmp_path / "live.mkv")
    expected, opened = read_audio(source)[0], containers.open_container
    monkeypatch.setattr(containers, "open_container", lambda file: LateStream(opened(file)))
    np.testing.assert_array_equal(read_audio(source)[0], expected)


def test_whatever_fails_in_a_folder_the_rest_goes_on(tmp_path, monkeypatch):
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, noise(RATE), RATE)

    def fails(path, *_):
        if path.name == "a.wav":
            raise IndexError("list index out of range")

    monkeypatch.setattr("mvat_hf.inference.enhancing.choose_kind", lambda *args: fails(args[1]) or choose(*args))
    choose = writing.choose_kind
    report = enhance_folder(Fake(), tmp_path, tmp_path / "out")
    assert [path.name for path in report.done] == ["b.wav"]
    assert report.failed == [(tmp_path / "a.wav", "list index out of range")]


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_every_suffix_that_is_read_is_written_or_has_another(tmp_path, suffix):
    assert writing.written_name(tmp_path / f"a{suffix}").endswith(writing.WRITTEN_SUFFIXES)


@pytest.mark.parametrize("target", ["out.mka", "out.flac", "out.wav"])
def test_24_bits_stay_24(tmp_path, target):
    source = tmp_path / ("in.wav" if target == "out.wav" else "in.flac")
    soundfile.write(source, noise(RATE), RATE, subtype="PCM_24")
    enhance_file(Fake(), source, tmp_path / target, dry=1.0)
    enhance_file(Fake(), tmp_path / target, tmp_path / "again.mka", dry=1.0)
    for path in (tmp_path / target, tmp_path / "again.mka"):
        np.testing.assert_allclose(read(path), read(source), rtol=0, atol=1e-7)


def test_a_wav_may_be_called_raw(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1000), RATE)
    (tmp_path / "a.wav").rename(tmp_path / "a.raw")
    assert read(tmp_path / "a.raw").shape == (1, 1000)
    (tmp_path / "b.raw").write_bytes(bytes(range(256)))
    with pytest.raises(AudioError, match=r"b\.raw cannot be read as audio"):
        read(tmp_path / "b.raw")


@pytest.mark.parametrize(("platform", "name"), [("linux", b"\xc3\xbc.wav"), ("win32", "\u00fc.wav")])
def test_a_name_of_other_letters_is_given_as_the_system_takes_it(monkeypatch, platform, name):
    monkeypatch.setattr("sys.platform", platform)
    assert writing.name_for_soundfile("\u00fc.wav") == name
