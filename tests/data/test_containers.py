"""Compressed audio and sound tracks: every sample at its place, and nothing that is missing goes without a word."""

import sys
import threading
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from encoded_audio import RATE, SECONDS, delay, encode, voice
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

# suffix, codec, and whether the container tells how much the encoder added: FFmpeg's players do not cut it otherwise
COMPRESSED = [
    ("m4a", "aac", True), ("mp4", "aac", True), ("mov", "aac", True), ("m4a", "alac", True), ("mp4", "mp3", True),
    ("mp3", "libmp3lame", True), ("webm", "libopus", True), ("mka", "flac", True), ("mkv", "libmp3lame", True),
    ("opus", "libopus", True), ("aac", "aac", False), ("wma", "wmav2", False), ("mp2", "mp2", False),
    ("ac3", "ac3", False), ("ts", "mp2", False), ("avi", "libmp3lame", False), ("mkv", "aac", False),
]  # fmt: skip


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
