"""A file is written whole or stays as it was, whatever its path, its disk or its length."""

import os
import resource
import signal
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from fake_model import Fake, noise
from mvat_hf.data.audio import AudioError
from mvat_hf.inference import writing
from mvat_hf.inference.enhancing import enhance_file
from mvat_hf.inference.writing import ClippedAudioWarning, Kind, check_written, frames_of
from written_files import kind_of, read


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


@pytest.mark.parametrize(("name", "told"), [("b.flac", True), ("b.mka", True), ("b.wav", False), ("b.ogg", False)])
def test_samples_that_a_file_cannot_hold_are_told(tmp_path, name, told):
    audio = np.full(16000, 0.5, np.float32)
    audio[:7] = [1.5, -1.5, 2, 1, -1, 1, -1]
    soundfile.write(tmp_path / "a.wav", audio, 16000, "FLOAT")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        enhance_file(Fake(), tmp_path / "a.wav", tmp_path / name)
    messages = [str(one.message) for one in caught if one.category is ClippedAudioWarning]
    assert len(messages) == told
    if told:
        assert f"{name}: 3 samples beyond full scale were clipped" in messages[0]


@pytest.mark.parametrize(("name", "coding"), [("a.opus", "OPUS"), ("a.ogg", "VORBIS"), ("a.mp3", "MPEG_LAYER_III")])
def test_a_lossy_file_is_written_finer_than_its_library_does_by_default(tmp_path, name, coding):
    audio, options = noise(96000), {"format": "MP3" if name == "a.mp3" else "OGG", "subtype": coding}
    soundfile.write(tmp_path / name, audio, 48000, **options)
    soundfile.write(tmp_path / "a.wav", audio, 48000, "FLOAT")
    enhance_file(Fake(), tmp_path / "a.wav", tmp_path / f"again{name[1:]}")
    assert (tmp_path / f"again{name[1:]}").stat().st_size > 1.2 * (tmp_path / name).stat().st_size


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


@pytest.mark.parametrize(("free", "reason"), [(2**20 - 1, "No space left on device"), (2**30, "System error")])
def test_a_full_disk_is_told_where_libsndfile_does_not_say_it(tmp_path, monkeypatch, free, reason):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(AudioError, match=rf"a\.wav cannot be written: {reason}"), writing.writing(tmp_path / "a.wav"):
        raise soundfile.LibsndfileError(2)
