"""The cache of resampled files: the samples are those of resampling on the fly, whenever and by whomever it is made."""

import multiprocessing
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from mvat_hf.data import parallel
from mvat_hf.data.audio import read_mono
from mvat_hf.data.resampled import resampled_copies
from mvat_hf.utils.files import SPARE_BYTES

FORK = multiprocessing.get_context("fork")


def write(path, seed=0, rate=48000, shape=(4803,)):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(shape), rate)
    return path


@pytest.fixture
def files(tmp_path):
    """Six 48 kHz files, two of each name, one of them stereo flac."""
    paths = [tmp_path / side / f"{number}.wav" for side in ("clean", "noisy") for number in range(3)]
    paths[5] = paths[5].with_suffix(".flac")
    return [write(path, seed, shape=(4803, 2) if seed == 5 else (4803,)) for seed, path in enumerate(paths)]


def made(folder):
    """Every file of the cache but its lock, with the time it was written."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.stat().st_mtime_ns for path in found}


def check(files, copies, cache):
    assert set(made(cache)) == set(copies) and len(set(copies)) == len(files)
    for path, copy in zip(files, copies, strict=True):
        assert soundfile.info(copy).samplerate == 16000
        np.testing.assert_array_equal(read_mono(copy, 16000), read_mono(path, 16000))


def test_copies_are_what_reading_gives_and_are_made_once(files, tmp_path):
    cache = tmp_path / "cache"
    copies = resampled_copies(files, 16000, cache)
    check(files, copies, cache)
    before = made(cache)
    assert resampled_copies(list(reversed(files)), 16000, str(cache)) == list(reversed(copies))
    assert made(cache) == before


def test_a_file_that_is_given_again_is_there_again(files, tmp_path):
    own = write(tmp_path / "own" / "a.wav", rate=16000)
    copies = resampled_copies([files[0], own, files[0], files[1], own, files[0]], 16000, tmp_path / "cache")
    first, second = resampled_copies(files[:2], 16000, tmp_path / "cache")
    assert copies == [first, own, first, second, own, first]


def test_a_nearly_full_disk_gets_no_more_copies(files, tmp_path, monkeypatch):
    copies = resampled_copies(files[:1], 16000, tmp_path / "cache")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=SPARE_BYTES - 1))
    with pytest.warns(UserWarning, match="not all files have copies in .*cache: less than 2 GiB"):
        assert resampled_copies(files, 16000, tmp_path / "cache") == [*copies, *files[1:]]
    assert list(made(tmp_path / "cache")) == copies


def test_files_of_the_rate_are_used_as_they_are(files, tmp_path):
    own = write(tmp_path / "own" / "a.wav", rate=16000)
    copies = resampled_copies([own, files[0]], 16000, tmp_path / "cache")
    assert copies[0] == own and copies[1] != files[0]
    assert len(made(tmp_path / "cache")) == 1


def test_another_rate_is_another_copy(files, tmp_path):
    low, high = (resampled_copies(files[:1], rate, tmp_path / "cache")[0] for rate in (16000, 24000))
    assert soundfile.info(low).samplerate == 16000 and soundfile.info(high).samplerate == 24000


@pytest.mark.parametrize("change", ["content", "time"])
def test_a_changed_file_is_resampled_anew(change, files, tmp_path):
    before = resampled_copies(files, 16000, tmp_path / "cache")
    if change == "content":
        write(files[1], seed=9, shape=(6000,))
    else:
        os.utime(files[1], ns=(0, 1))
    after = resampled_copies(files, 16000, tmp_path / "cache")
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True, True, True, True]
    np.testing.assert_array_equal(read_mono(after[1], 16000), read_mono(files[1], 16000))


def test_a_broken_file_is_left_to_its_reader(files, tmp_path):
    files[2].write_bytes(files[2].read_bytes()[:3000])
    files[4].write_bytes(b"")
    copies = resampled_copies(files, 16000, tmp_path / "cache")
    assert [copy == path for copy, path in zip(copies, files, strict=True)] == [False, False, True, False, True, False]


def build(files, cache, die_after=None):
    """The cache, in a process that kills itself in place of giving its copy number `die_after` + 1 its name."""
    if die_after is not None:
        rename, done = os.replace, []

        def rename_or_die(source, target):
            if len(done) == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(target)
            rename(source, target)

        os.replace = rename_or_die
        parallel.usable_cores = lambda: 1
    resampled_copies(files, 16000, cache)


def run(*processes):
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


@pytest.mark.parametrize("die_after", [0, 3])
def test_a_killed_build_is_continued(die_after, files, tmp_path):
    cache = tmp_path / "cache"
    assert run(FORK.Process(target=build, args=(files, cache, die_after))) == [-signal.SIGKILL]
    left = made(cache)
    whole = {path: time for path, time in left.items() if path.suffix == ".wav"}
    assert len(whole) == die_after and len(left) == die_after + 1  # the one it died over has no name yet
    check(files, resampled_copies(files, 16000, cache), cache)
    assert whole.items() <= made(cache).items()  # what was there was not made again


def test_processes_may_build_at_once(files, tmp_path):
    cache = tmp_path / "cache"
    assert run(*(FORK.Process(target=build, args=(files, cache)) for _ in range(3))) == [0, 0, 0]
    check(files, resampled_copies(files, 16000, cache), cache)


def test_a_folder_that_cannot_be_written(files, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(OSError, match="cache"):
        resampled_copies(files, 16000, tmp_path / "cache")
