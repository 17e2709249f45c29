"""Reading and resampling: files come back as they were written, and what is no audio is refused by name."""

import os
import warnings

import numpy as np
import pytest
import soundfile

from fake_model import noise
from mvat_hf.data.audio import (
    AudioError,
    DamagedAudioWarning,
    EncodedAudio,
    check_finite,
    find_audio,
    open_audio,
    read_audio,
    read_mono,
    resample,
    resampled_length,
)


def tone(frequency, rate, seconds=0.5):
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "subtype", "step"), [("wav", "FLOAT", 0), ("wav", "PCM_16", 2**-15), ("flac", "PCM_24", 2**-23)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_comes_back(suffix, subtype, step, channels, tmp_path):
    audio = noise(channels, 1000)
    soundfile.write(tmp_path / f"a.{suffix}", audio.T, 22050, subtype=subtype)
    read, rate = read_audio(tmp_path / f"a.{suffix}")
    assert rate == 22050 and read.dtype == np.float32 and read.shape == (channels, 1000)
    np.testing.assert_allclose(read, audio, rtol=0, atol=step)


def test_a_part_of_a_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(2, 1000).T, 16000, subtype="FLOAT")
    whole, _ = read_audio(tmp_path / "a.wav")
    part, _ = read_audio(str(tmp_path / "a.wav"), start=300, frames=50)
    np.testing.assert_array_equal(part, whole[:, 300:350])
    rest, _ = read_audio(tmp_path / "a.wav", start=990, frames=50)  # past the end: what there is
    np.testing.assert_array_equal(rest, whole[:, 990:])


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such audio file: .*nowhere\.wav"):
        open_audio(tmp_path / "nowhere.wav")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"hello", "cannot be read as audio"), (b"RIFF" + b"\0" * 60, "cannot be read as audio")],
)
def test_files_that_are_no_audio(content, says, tmp_path):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=rf"a\.wav.*{says}"):
        read_audio(tmp_path / "a.wav")


def test_a_file_without_samples(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match=r"a\.wav has no samples"):
        read_audio(tmp_path / "a.wav")


def test_a_truncated_file(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(50000), 16000)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"a\.flac cannot be decoded"):
        read_audio(tmp_path / "a.flac")


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("RF64", "PCM_16"), ("W64", "FLOAT"), ("AIFF", "PCM_24"), ("AU", "PCM_16")],
)
def test_a_truncated_file_is_refused_though_libsndfile_reads_it(format, subtype, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(5000), 16000, subtype=subtype, format=format)
    whole = (tmp_path / "a.wav").read_bytes()
    assert len(read_mono(tmp_path / "a.wav", 16000)) == 5000
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(DamagedAudioWarning, match=r"a\.wav is truncated: .*; what there is of it is used"):
        assert read_audio(tmp_path / "a.wav")[0].shape[1] < 5000
    with pytest.raises(AudioError, match=r"a\.wav is truncated: it has \d+ bytes, its header says \d+"):
        read_mono(tmp_path / "a.wav", 16000)


def test_a_wav_that_came_through_a_pipe_is_whole(tmp_path):
    """Its writer did not know the length: the header has the largest one."""
    soundfile.write(tmp_path / "a.wav", noise(5000), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_mono(tmp_path / "a.wav", 16000)) == 5000


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_file_in_memory_is_as_on_disk(suffix, tmp_path):
    soundfile.write(tmp_path / f"a.{suffix}", noise(2, 5000).T, 22050)
    content = (tmp_path / f"a.{suffix}").read_bytes()
    read, rate = read_audio(EncodedAudio(content, "a"))
    expected, expected_rate = read_audio(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read, expected)
    assert rate == expected_rate


@pytest.mark.parametrize(("content", "says"), [(b"", "is empty"), (b"hello", "cannot be read as audio")])
def test_errors_call_a_file_in_memory_by_its_name(content, says):
    with pytest.raises(AudioError, match=f"clean p226_001 {says}"):
        read_mono(EncodedAudio(content, "clean p226_001"), 16000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(value, tmp_path):
    audio = noise(100)
    audio[[3, 50]] = value
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav holds 2 NaN or infinite"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="microphone holds 2"):
        check_finite(audio, "microphone")
    assert read_audio(tmp_path / "a.wav", start=4, frames=40)[0].shape == (1, 40)  # only what is read counts


def test_finite_audio_passes_unchanged():
    audio = noise(2, 10)
    assert check_finite(audio, "audio") is audio


@pytest.mark.parametrize(("rate", "target"), [(48000, 16000), (44100, 16000), (8000, 16000), (16000, 22050)])
@pytest.mark.parametrize("length", [1, 2, 1000, 4801])
def test_resampled_length(rate, target, length):
    result = resample(noise(2, length), rate, target)
    assert result.shape == (2, resampled_length(length, rate, target)) and result.dtype == np.float32
    assert abs(result.shape[1] - length * target / rate) <= 0.5


def test_the_same_rate_changes_nothing():
    audio = noise(1, 100)
    np.testing.assert_array_equal(resample(audio, 16000, 16000), audio)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_tones_below_half_the_rate_stay_and_others_go(rate):
    middle = slice(1000, -1000)
    kept = resample(tone(1000, rate)[None], rate, 16000)[0]
    np.testing.assert_allclose(kept[middle], tone(1000, 16000)[middle], atol=1e-3)
    if rate > 16000:
        assert np.abs(resample(tone(9500, rate)[None], rate, 16000)[0][middle]).max() < 1e-3


def test_channels_are_resampled_alone():
    audio = noise(2, 3000)
    both = resample(audio, 48000, 16000)
    np.testing.assert_array_equal(both[1:], resample(audio[1:], 48000, 16000))


def test_mono_is_the_mean_of_the_channels(tmp_path):
    audio = noise(3, 4800)
    soundfile.write(tmp_path / "a.wav", audio.T, 48000, subtype="FLOAT")
    mono = read_mono(tmp_path / "a.wav", 16000)
    assert mono.shape == (1600,) and mono.dtype == np.float32
    np.testing.assert_allclose(mono, resample(audio.mean(axis=0, keepdims=True), 48000, 16000)[0], atol=1e-6)
    np.testing.assert_allclose(read_mono(tmp_path / "a.wav", 48000), audio.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_part_is_that_part_of_the_whole(suffix, rate, tmp_path):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(2, 9001).T, rate)
    whole = read_mono(path, 16000)
    for start, length in ((0, 100), (1234, 567), (len(whole) - 50, 100), (700, -1)):
        expected = whole[start:] if length < 0 else whole[start : start + length]
        np.testing.assert_array_equal(read_mono(path, 16000, start, length), expected)


def test_what_is_no_file_is_refused_by_its_kind(tmp_path):
    with pytest.raises(AudioError, match=r"is a folder, expected an audio file"):
        open_audio(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match=r"pipe\.wav is a pipe, expected a file: .*`mvat stream`"):
        open_audio(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match=r"/dev/null is a device"):
        open_audio("/dev/null")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_may_not_be_read_is_named(tmp_path):
    for name in ("a.wav", "in/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, noise(100), 16000)
    for name, mode in (("a.wav", 0), ("in", 0)):
        (tmp_path / name).chmod(mode)
    with pytest.raises(AudioError, match=r"a\.wav cannot be read: Permission denied"):
        open_audio(tmp_path / "a.wav")
    assert find_audio(tmp_path) == [tmp_path / "a.wav", tmp_path / "in"]
    with pytest.raises(AudioError, match=r"in is a folder that cannot be read: Permission denied"):
        open_audio(tmp_path / "in")
    (tmp_path / "in").chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_found_by_name(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    scandir = os.scandir

    def refusing(folder):
        if os.fspath(folder).endswith("in"):
            raise PermissionError(13, "Permission denied", os.fspath(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    assert find_audio(tmp_path) == [tmp_path / "in"]


@pytest.mark.parametrize("suffix", ["wav", "ogg", "mp3", "flac"])
def test_a_name_in_latin_1_is_read(suffix, tmp_path):
    soundfile.write(tmp_path / f"a.{suffix}", noise(5000), 16000)
    path = tmp_path / os.fsdecode(b"caf\xe9." + suffix.encode())
    try:
        path.write_bytes((tmp_path / f"a.{suffix}").read_bytes())
    except OSError:
        pytest.skip("this file system takes no such name")
    np.testing.assert_array_equal(read_mono(path, 16000), read_mono(tmp_path / f"a.{suffix}", 16000))
    path.write_bytes(b"hello")
    with pytest.raises(AudioError, match=r"caf\\udce9.* cannot be read as audio"):
        read_mono(path, 16000)


@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", "PCM_24"), ("AIFF", "PCM_16"), ("RF64", "PCM_16"), ("WAV", "FLOAT")]
)
def test_a_header_that_a_pipe_left_unfinished(format, subtype, tmp_path):
    """As SoX writes it, who cannot know the length; or a recorder that was killed."""
    soundfile.write(tmp_path / "a.wav", noise(5000), 16000, format=format, subtype=subtype)
    whole, (expected, _) = (tmp_path / "a.wav").read_bytes(), read_audio(tmp_path / "a.wav")
    mark = {"AIFF": b"SSND", "RF64": b"ds64"}.get(format, b"data")
    place, order = whole.index(mark) + 4, "big" if format == "AIFF" else "little"
    sizes = [0x7F000008, 0x7FFFEFFC, 0xFFFFFFFF, 0]
    if format == "RF64":  # the size of all is 8 too large
        place, sizes = place + 4, [len(whole)]
    for size in sizes if format != "AIFF" else sizes[:3]:
        content = bytearray(whole)
        content[place : place + 4] = size.to_bytes(4, order)
        if format != "RF64":
            content[4:8] = (size + 36 & 0xFFFFFFFF if size else 0).to_bytes(4, order)
        (tmp_path / "b.wav").write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            audio, _ = read_audio(tmp_path / "b.wav")
        np.testing.assert_array_equal(audio, expected)
        assert len(read_mono(tmp_path / "b.wav", 16000)) == 5000


def test_a_finished_header_of_no_samples_is_believed(tmp_path):
    """What follows it, here a list of tags, is no audio."""
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes() + b"LIST" + (40).to_bytes(4, "little") + bytes(40))
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.wav has no samples"):
        open_audio(tmp_path / "a.wav")


def test_find_audio(tmp_path):
    names = [
        "b.wav",
        "a/z.FLAC",
        "a/c.ogg",
        "a/deep/er/x.mp3",
        "phone.M4A",
        "clip.mov",
        "a.webm",
        "b.oga",
        "call.sph",
        "x.aifc",
        "y.rf64",
    ]
    for name in [*names, "a/notes.txt", "c.wav.part", "wav"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    assert find_audio(tmp_path) == sorted(tmp_path / name for name in names)
    assert find_audio(str(tmp_path / "a" / "deep")) == [tmp_path / "a" / "deep" / "er" / "x.mp3"]


def test_find_audio_follows_links(tmp_path):
    for name in ("elsewhere/x.wav", "here/.hidden/x.wav", "here/a/y.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "a" / "loop").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "broken.wav").symlink_to(tmp_path / "nothing")
    names = ["a/y.wav", "broken.wav", "linked/x.wav"]
    assert find_audio(tmp_path / "here") == [tmp_path / "here" / name for name in names]


def test_folders_that_link_to_each_other_are_entered_once_on_a_way(tmp_path):
    for one, other in ("ab", "ba"):
        (tmp_path / one).mkdir()
        (tmp_path / one / f"{one}.wav").touch()
        (tmp_path / one / f"to_{other}").symlink_to(tmp_path / other)
    assert find_audio(tmp_path) == [tmp_path / name for name in ("a/a.wav", "a/to_b/b.wav", "b/b.wav", "b/to_a/a.wav")]
