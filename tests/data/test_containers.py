"""Compressed audio and sound tracks: every sample at its place, and nothing that is missing goes without a word."""

import sys
import threading
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mvat_hf.data import decoding
from mvat_hf.data.audio import (
    AudioError,
    DamagedAudioWarning,
    EncodedAudio,
    audio_seconds,
    describe_files,
    open_audio,
    read_audio,
    read_mono,
    resampled_length,
)

RATE, SECONDS = 48000, 3.125  # in whole ms, as the edit lists of mp4 are written
# suffix, codec, and whether the container tells how much the encoder added: FFmpeg's players do not cut it otherwise
COMPRESSED = [
    ("m4a", "aac", True), ("mp4", "aac", True), ("mov", "aac", True), ("m4a", "alac", True), ("mp4", "mp3", True),
    ("mp3", "libmp3lame", True), ("webm", "libopus", True), ("mka", "flac", True), ("mkv", "libmp3lame", True),
    ("opus", "libopus", True), ("aac", "aac", False), ("wma", "wmav2", False), ("mp2", "mp2", False),
    ("ac3", "ac3", False), ("ts", "mp2", False), ("avi", "libmp3lame", False), ("mkv", "aac", False),
]  # fmt: skip


def voice(seconds: float = SECONDS, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(channels, time) float32: noise below 3 kHz whose loudness changes, so that each place is like no other."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((channels, round(seconds * rate))))
    spectrum[:, round(3000 * seconds) :] = 0
    noise = np.fft.irfft(spectrum, round(seconds * rate))
    places = np.linspace(0, noise.shape[1], 50)
    loudness = np.interp(np.arange(noise.shape[1]), places, rng.uniform(0.2, 1, 50))
    return (0.3 * noise / np.abs(noise).max() * loudness).astype(np.float32)


def encode(
    path: Path, codec: str, *tracks: np.ndarray, rate: int = RATE, picture: bool = False, **options: str
) -> Path:
    """Write each of `tracks` (channels, time) as a stream of its own, by FFmpeg."""
    codec = "libmp3lame" if codec == "mp3" else codec
    with av.open(str(path), "w", options=options) as container:
        if picture:
            video = container.add_stream("mpeg4", rate=5)
            video.width = video.height = 64
        layouts = ["mono" if len(track) == 1 else "stereo" for track in tracks]
        added = [container.add_stream(codec, rate=rate, layout=layout) for layout in layouts]
        for stream, track, layout in zip(added, tracks, layouts, strict=True):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(track), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            stream.bit_rate = 128000
            resampler = av.AudioResampler(stream.format, layout, rate)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
        if picture:
            for _ in range(5):
                container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(video.encode(None))
    return path


def delay(audio: np.ndarray, original: np.ndarray) -> int:
    """By how many samples the first channel of `audio` comes after that of `original`."""
    size = 2 ** int(np.ceil(np.log2(2 * max(audio.shape[1], original.shape[1]))))
    product = np.fft.irfft(np.fft.rfft(audio[0], size) * np.conj(np.fft.rfft(original[0], size)))
    shift = int(product.argmax())
    return shift if shift < size // 2 else shift - size


@pytest.mark.parametrize(("suffix", "codec", "exact"), COMPRESSED)
def test_compressed_audio_stands_where_it_stood(suffix, codec, exact, tmp_path):
    original = voice(channels=2)
    path = encode(tmp_path / f"a.{suffix}", codec, original)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio, rate = read_audio(path)
        with open_audio(path) as file:
            assert (file.samplerate, file.channels, file.frames) == (RATE, 2, audio.shape[1])
        assert len(read_mono(path, 16000)) == resampled_length(audio.shape[1], RATE, 16000)
    assert rate == RATE and audio.dtype == np.float32
    assert abs(audio_seconds(path) - SECONDS) < 0.1
    if exact:
        assert audio.shape == original.shape and delay(audio, original) == 0
        assert np.corrcoef(audio[0], original[0])[0, 1] > 0.95
    else:
        assert -2048 < audio.shape[1] - original.shape[1] <= 4 * 2048


@pytest.mark.parametrize("kept", [0, 2**23])
@pytest.mark.parametrize("suffix", ["m4a", "mp3"])
def test_a_part_is_that_part_of_the_whole_in_any_order(suffix, kept, tmp_path, monkeypatch):
    """Also of a recording that is too long to be kept in memory."""
    monkeypatch.setattr(decoding, "KEPT_SAMPLES", kept)
    path = encode(tmp_path / f"a.{suffix}", "aac" if suffix == "m4a" else "mp3", voice(channels=2))
    whole, _ = read_audio(path)
    with open_audio(path) as file:
        for start, frames in ((70000, 500), (100, 60000), (60100, 10), (149000, 5000), (0, 1), (20000, -1), (0, 0)):
            file.seek(start)
            part = file.read(frames, dtype="float32")
            np.testing.assert_array_equal(part, whole.T[start : None if frames < 0 else start + frames])
            assert file.tell() == start + len(part)
        assert file.frames == whole.shape[1]
        file.seek(0)
        blocks = [file.read(7000, dtype="float32", always_2d=True) for _ in range(25)]
        np.testing.assert_array_equal(np.concatenate(blocks), whole.T)


def test_the_sound_of_a_video_is_read_and_its_picture_is_not(tmp_path):
    path = encode(tmp_path / "a.mp4", "aac", voice(), picture=True)
    audio, _ = read_audio(path)
    assert audio.shape == voice().shape and delay(audio, voice()) == 0


def test_a_video_without_sound(tmp_path):
    path = encode(tmp_path / "a.mp4", "aac", picture=True)
    with pytest.raises(AudioError, match=r"a\.mp4 cannot be read as audio: it has no sound"):
        open_audio(path)


def test_of_several_streams_the_first_is_read(tmp_path):
    path = encode(tmp_path / "a.mka", "flac", voice(), voice(1, seed=1))
    assert read_audio(path)[0].shape == voice().shape


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


@pytest.mark.parametrize(("suffix", "codec", "_"), [case for case in COMPRESSED if case[0] != "ac3"])
def test_a_truncated_file_is_told_by_name(suffix, codec, _, tmp_path):
    whole = encode(tmp_path / f"a.{suffix}", codec, voice(5)).read_bytes()
    content = whole[: len(whole) * 6 // 10 + 7]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            audio, rate = read_audio(EncodedAudio(content, "cut"))
            assert 0 < audio.shape[1] / rate < 4
        except AudioError as error:
            told.append(warnings.WarningMessage(error, AudioError, "", 0))
    assert len(told) == 1 and str(told[0].message).startswith("cut is truncated")
    with pytest.raises(AudioError, match="^cut is truncated"):
        read_mono(EncodedAudio(content, "cut"), 16000)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp3", "mp3"), ("m4a", "aac"), ("aac", "aac"), ("mka", "libmp3lame"), ("webm", "libopus")]
)
def test_damage_in_the_middle_is_told_by_name(suffix, codec, tmp_path, capfd):
    content = bytearray(encode(tmp_path / f"a.{suffix}", codec, voice(20)).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    with pytest.warns(DamagedAudioWarning, match="^hurt (is|has)"):
        audio, rate = read_audio(EncodedAudio(bytes(content), "hurt"))
    assert audio.shape[1] / rate > 10
    with pytest.raises(AudioError, match="^hurt (is|has)"):
        read_mono(EncodedAudio(bytes(content), "hurt"), 16000)
    assert capfd.readouterr() == ("", "")  # FFmpeg says nothing


def test_an_mp3_without_a_header_of_its_length(tmp_path):
    """Its bit rate changes: by that of its beginning, its length would be guessed wrong."""
    audio = np.concatenate([0.001 * voice(3), voice(9), 0.001 * voice(3)], axis=1)
    path = encode(tmp_path / "a.mp3", "mp3", audio, write_xing="0", q="4")
    with open_audio(path) as file:
        assert 0 <= file.frames - audio.shape[1] < 4 * 1152
    assert describe_files([path])["hours"] * 3600 == pytest.approx(audio.shape[1] / RATE, abs=0.1)


def test_a_flac_that_came_through_a_pipe_is_whole(tmp_path):
    """Its header says 0 samples."""
    soundfile.write(tmp_path / "a.flac", voice(1, 16000).T, 16000)
    expected, _ = read_audio(tmp_path / "a.flac")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "b.flac").write_bytes(content)
    np.testing.assert_array_equal(read_audio(tmp_path / "b.flac")[0], expected)
    np.testing.assert_array_equal(read_mono(tmp_path / "b.flac", 16000, 700, 90), expected[0, 700:790])
    with open_audio(tmp_path / "b.flac") as file:
        assert file.frames == 16000 and file.subtype == "PCM_16"
    assert describe_files([tmp_path / "b.flac"])["hours"] == pytest.approx(1 / 3600)


def test_a_format_that_libsndfile_cannot_seek_in(tmp_path):
    soundfile.write(tmp_path / "a.wav", voice(2, 8000).T, 8000, subtype="GSM610")
    whole = read_mono(tmp_path / "a.wav", 8000)
    assert 0 <= len(whole) - 16000 < 320
    np.testing.assert_array_equal(read_mono(tmp_path / "a.wav", 8000, 5000, 70), whole[5000:5070])


def test_tags_in_latin_1_are_no_matter(tmp_path):
    soundfile.write(tmp_path / "a.wav", voice(2, 8000).T, 8000, subtype="GSM610")
    tags = b"INFOINAM" + (4).to_bytes(4, "little") + b"caf\xe9"
    content = bytearray((tmp_path / "a.wav").read_bytes() + b"LIST" + len(tags).to_bytes(4, "little") + tags)
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    (tmp_path / "b.wav").write_bytes(content)
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav")[0], read_audio(tmp_path / "a.wav")[0])


def test_what_a_play_list_names_is_not_opened(tmp_path, monkeypatch):
    encode(tmp_path / "a.ts", "mp2", voice())
    (tmp_path / "a.wav").write_text("ffconcat version 1.0\nfile a.ts\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match=r"a\.wav cannot be read as audio"):
        open_audio("a.wav")


def test_a_gap_between_packets_is_silent_and_told(tmp_path):
    with av.open(str(tmp_path / "a.mka"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start in (0, 48000):
            frame = av.AudioFrame.from_ndarray(np.ones((1, 16000), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            container.mux(stream.encode(frame))
    with pytest.warns(DamagedAudioWarning, match=r"a\.mka has gaps without audio, 2\.00 s together: they are silent"):
        audio = read_audio(tmp_path / "a.mka")[0][0]
    assert len(audio) == 64000 and not audio[16000:48000].any() and audio[:16000].all() and audio[48000:].all()


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.m4a", "aac", voice())
    soundfile.write(tmp_path / "a.wav", voice().T, RATE)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"a\.m4a cannot be read as audio: that takes PyAV: pip install av"):
        open_audio(path)
    assert read_audio(tmp_path / "a.wav")[0].shape == voice().shape


def test_threads_read_each_for_itself(tmp_path):
    path = encode(tmp_path / "a.m4a", "aac", voice())
    expected, results = read_audio(path)[0], []
    threads = [threading.Thread(target=lambda: results.append(read_audio(path)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(np.array_equal(result, expected) for result in results)


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("vbr_without_xing.mp3", range(671031, 672769)), ("concat.mp3", 793800), ("chain_v.ogg", 96000),
        ("noeos_o.opus", 64000), ("unknown_total.flac", 32000), ("gsm610.wav", 16000), ("soxpipe_24bit.wav", 32000),
        ("soxpipe.aiff", 32000), ("rf64_riffsizeoff.wav", 32000), ("data0.wav", 32000), ("ms_adpcm_sox.wav", 32000),
        ("ima_adpcm_ffmpeg.wav", 65312), ("mp3_in.wav", range(176400, 178561)), ("trunc_v.ogg", 28800),
    ],
)  # fmt: skip
def test_files_that_went_wrong_have_their_length(name, samples, shared):
    folder = shared / "faults"
    if not folder.is_dir():
        pytest.skip(f"needs the files of {folder}")
    samples = samples if isinstance(samples, range) else [samples]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        audio, rate = read_audio(folder / name)
    assert audio.shape[1] in samples and describe_files([folder / name])["hours"] * 3600 * rate == pytest.approx(
        audio.shape[1], rel=0.01
    )
    said = {"trunc_v.ogg": "trunc_v.ogg is truncated", "noeos_o.opus": "noeos_o.opus has no mark of its end"}.get(name)
    assert [said in str(warning.message) for warning in told] == ([True] if said else [])
    if name == "trunc_v.ogg":
        with pytest.raises(AudioError, match="is truncated"):
            read_mono(folder / name, rate)
    else:
        assert len(read_mono(folder / name, rate)) == audio.shape[1]
        np.testing.assert_array_equal(read_mono(folder / name, rate, 9000, 50), audio.mean(axis=0)[9000:9050])
