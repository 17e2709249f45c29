"""Enhancing folders: what holds for any model, what fails, and what shares a pass."""

import builtins
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
import soundfile
import torch

from fake_model import SHORT, Fake, noise
from mvat_hf.data.audio import AudioError, open_audio
from mvat_hf.inference import folders
from mvat_hf.inference.chunks import FastChunkedEnhancer
from mvat_hf.inference.enhancing import audio_bar, enhance_file
from mvat_hf.inference.folders import SharedEnhancer, enhance_folder
from mvat_hf.inference.writing import CONTAINERS, FORMATS


@pytest.fixture(scope="module")
def manner(tiny_model):
    return tiny_model()


def test_folder_is_mirrored_and_failures_are_reported(tmp_path):
    source = tmp_path / "in"
    (source / "deep" / "er").mkdir(parents=True)
    good = [source / "a.wav", source / "deep" / "b.flac", source / "deep" / "er" / "c.ogg"]
    for path in good:
        soundfile.write(path, noise(3000), 16000)
    (source / "broken.wav").write_bytes(b"RIFF, or so it says")
    soundfile.write(source / "nan.wav", np.full(10, np.nan), 16000, subtype="FLOAT")
    (source / "notes.txt").write_text("no audio")
    report = enhance_folder(Fake(), source, tmp_path / "out")
    assert report.done == [tmp_path / "out" / path.relative_to(source) for path in good]
    assert [path for path, _ in report.failed] == [source / "broken.wav", source / "nan.wav"]
    assert all(path.name in reason and "\n" not in reason for path, reason in report.failed)
    assert sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()) == report.done


def test_progress_is_in_audio_and_ends_at_what_was_enhanced(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name, samples in (("a.wav", 32000), ("b.flac", 8000), ("long.mp3", 160000)):  # an mp3's length is a guess
        soundfile.write(tmp_path / "in" / name, noise(samples), 16000)
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF, or so it says")
    bars = []
    monkeypatch.setattr(folders, "audio_bar", lambda *given: bars.append(audio_bar(*given)) or bars[-1])
    assert len(enhance_folder(Fake(), tmp_path / "in", tmp_path / "out", progress=True).done) == 3
    seconds = sum(soundfile.info(path).duration for path in (tmp_path / "out").iterdir())
    assert bars[0].total == pytest.approx(seconds) and bars[0].total > 12


def test_target_inside_the_source_is_no_input(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(3000), 16000)
    for _ in range(2):
        assert enhance_folder(Fake(), tmp_path, tmp_path / "out").done == [tmp_path / "out" / "a.wav"]
    assert len(list(tmp_path.rglob("*.wav"))) == 2


def test_unusable_folders(tmp_path):
    (tmp_path / "in").mkdir()
    for empty in (tmp_path / "in", tmp_path / "nowhere"):
        with pytest.raises(AudioError, match="no audio file below"):
            enhance_folder(Fake(), empty, tmp_path / "out")
    soundfile.write(tmp_path / "in" / "a.wav", noise(3000), 16000)
    for target in (tmp_path / "in", tmp_path):
        with pytest.raises(ValueError, match="is or contains the source"):
            enhance_folder(Fake(), tmp_path / "in", target)


@pytest.fixture
def corpus(tmp_path):
    """Five files of other lengths in two folders, the order of names not that of lengths."""
    for name, length in (("a", 3000), ("b", 9000), ("c", 500), ("sub/d", 6000), ("sub/e", 4000)):
        path = tmp_path / "in" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(length, 2, seed=length), 16000, subtype="PCM_24")
    return tmp_path / "in"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.wav"))}


def test_a_file_of_a_folder_comes_out_as_alone_in_the_order_of_names(manner, corpus, tmp_path):
    report = enhance_folder(manner, corpus, tmp_path / "out", **SHORT)
    assert [path.name for path in report.done] == ["a.wav", "b.wav", "c.wav", "d.wav", "e.wav"]
    for path in report.done:
        enhance_file(manner, corpus / path.relative_to(tmp_path / "out"), tmp_path / "alone.wav", **SHORT)
        np.testing.assert_array_equal(soundfile.read(path)[0], soundfile.read(tmp_path / "alone.wav")[0])


def test_shards_part_the_folder(manner, corpus, tmp_path):
    enhance_folder(manner, corpus, tmp_path / "whole")
    reports = [enhance_folder(manner, corpus, tmp_path / "out", shard=(part, 3)) for part in range(3)]
    names = [path.name for report in reports for path in report.done]
    assert len(names) == len(set(names)) == 5 and all(report.done for report in reports)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert enhance_folder(manner, corpus, tmp_path / "out", shard=(9, 10)).done == []
    with pytest.raises(ValueError, match=r"0 <= i < n, got \(3, 3\)"):
        enhance_folder(manner, corpus, tmp_path / "out", shard=(3, 3))


def test_resuming_after_an_interrupt_does_what_is_left(corpus, tmp_path):
    def after(passes):
        def function(values):
            if len(model.chunks) > passes:
                raise KeyboardInterrupt
            return values

        model = Fake(function)
        return model

    with pytest.raises(KeyboardInterrupt):
        enhance_folder(after(2), corpus, tmp_path / "out")
    left = contents(tmp_path / "out")
    assert len(left) <= 2 and not list((tmp_path / "out").rglob(".*"))
    model = Fake()
    report = enhance_folder(model, corpus, tmp_path / "out", resume=True)
    assert [str(path.relative_to(tmp_path / "out")) for path in report.skipped] == list(left)
    assert len(report.done) == len(model.chunks) == 5 - len(left)
    assert contents(tmp_path / "out").keys() == contents(corpus).keys()
    assert contents(tmp_path / "out").items() >= left.items()


def test_resuming_goes_by_files_that_something_is_in(corpus, tmp_path):
    enhance_folder(Fake(), corpus, tmp_path / "out")
    empty, folder = [tmp_path / "out" / name for name in list(contents(tmp_path / "out"))[:2]]
    folder.unlink()
    folder.mkdir()
    empty.write_bytes(b"")  # as a machine that loses power may leave it
    report = enhance_folder(Fake(), corpus, tmp_path / "out", resume=True)
    assert report.done == [empty] and empty.stat().st_size > 0 and len(report.skipped) == 3
    assert [reason for _, reason in report.failed] == [f"target {folder} is a folder, expected a file"]


def test_resuming_removes_what_killed_runs_left(corpus, tmp_path):
    (tmp_path / "out" / "sub").mkdir(parents=True)
    names = [f".{16 * 'a0'}.partial", f"sub/.{16 * 'b1'}.partial", f".{16 * 'c2'}.partial", ".notes.partial"]
    for name, hours in zip(names, (2, 2, 0.5, 2), strict=True):
        path = tmp_path / "out" / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - hours * 3600,) * 2)
    enhance_folder(Fake(), corpus, tmp_path / "out")
    assert all((tmp_path / "out" / name).exists() for name in names)
    enhance_folder(Fake(), corpus, tmp_path / "out", resume=True)
    assert [(tmp_path / "out" / name).exists() for name in names] == [False, False, True, True]


@pytest.mark.parametrize("batch_size, passes", [(1, 6), (3, 3), (8, 2)])
def test_chunks_of_one_length_share_a_pass_and_come_out_as_alone(manner, batch_size, passes):
    """Four mono chunks and a stereo one of one length, and one of another, wait for their turn."""
    chunks = [*(noise(1, 4000, seed=seed) for seed in range(4)), 0.01 * noise(2, 4000, seed=4), noise(1, 3000)]
    alone = [FastChunkedEnhancer(manner).enhance_chunk(chunk) for chunk in chunks]
    enhancer, rows = SharedEnhancer(manner, batch_size), []
    hook = manner.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    with ThreadPoolExecutor(len(chunks)) as pool:
        with enhancer.turn:
            waiting = [pool.submit(enhancer.enhance_chunk, chunk) for chunk in chunks]
            while len(enhancer.waiting) < len(chunks):
                time.sleep(0.001)
        outputs = [future.result() for future in waiting]
    hook.remove()
    assert sum(rows) == 7 and len(rows) == passes and not enhancer.waiting
    for output, expected in zip(outputs, alone, strict=True):
        np.testing.assert_allclose(output, expected, atol=3e-6 * np.abs(expected).max())


def test_a_batch_that_finds_no_memory_is_made_smaller(corpus, tmp_path):
    def narrow(values):
        if len(values) > 2:
            raise torch.OutOfMemoryError("no room for so much")
        return values

    report = enhance_folder(Fake(narrow), corpus, tmp_path / "out", batch_size=8)
    assert len(report.done) == 5 and not report.failed
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        enhance_folder(Fake(), corpus, tmp_path / "out", batch_size=0)


def test_a_batched_folder_is_the_folder(manner, corpus, tmp_path):
    for name, batch_size in (("alone", 1), ("batched", 4)):
        enhance_folder(manner, corpus, tmp_path / name, batch_size=batch_size, **SHORT)
    for path in (tmp_path / "alone").rglob("*.wav"):
        alone = soundfile.read(path)[0]
        batched = soundfile.read(tmp_path / "batched" / path.relative_to(tmp_path / "alone"))[0]
        np.testing.assert_allclose(batched, alone, atol=1e-6 * np.abs(alone).max() + 2**-23)


def test_a_name_that_is_not_unicode_is_one_like_others(tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "good.wav", noise(900), 16000)
    names = [b"b\xff.wav", b"good.wav"]
    for name in names:
        try:
            (tmp_path / "in" / os.fsdecode(name)).write_bytes((tmp_path / "good.wav").read_bytes())
        except OSError:
            pytest.skip("this file system takes no such name")
    report = enhance_folder(Fake(), tmp_path / "in", tmp_path / "out")
    assert [os.fsencode(path.name) for path in report.done] == sorted(names, key=os.fsdecode) and not report.failed


SUFFIXES = (*FORMATS, *CONTAINERS, ".aac", ".wma")


def test_no_suffix_is_overlooked(tmp_path):
    """Each is enhanced or fails by its name; what is enhanced has as many samples as before."""
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "a.wav", noise(48000), 48000)
    for suffix in SUFFIXES:
        path = tmp_path / "in" / f"{suffix[1:]}{suffix}"
        if suffix not in (".aac", ".wma"):
            enhance_file(Fake(), tmp_path / "a.wav", path)
            continue
        with av.open(str(path), "w", format={".aac": "adts", ".wma": "asf"}[suffix]) as container:
            sound = container.add_stream({".aac": "aac", ".wma": "wmav2"}[suffix], rate=48000, layout="mono")
            sound.bit_rate = 64000
            frame = av.AudioFrame.from_ndarray(noise(1, 48000), format="flt", layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            container.mux([*sound.encode(frame), *sound.encode(None)])
    (tmp_path / "in" / "bad.oga").write_bytes(b"no audio")
    with pytest.warns(UserWarning, match="cannot be written, it becomes"):
        report = enhance_folder(Fake(), tmp_path / "in", tmp_path / "out")
    assert [path.name for path, _ in report.failed] == ["bad.oga"]
    becomes = {".aac": ".m4a", ".wma": ".wav"}
    names = {path.name for path in report.done}
    assert names == {f"{suffix[1:]}{becomes.get(suffix, suffix)}" for suffix in SUFFIXES}
    for suffix in SUFFIXES:
        lengths = []
        for path in (f"in/{suffix[1:]}{suffix}", f"out/{suffix[1:]}{becomes.get(suffix, suffix)}"):
            with open_audio(tmp_path / path) as file:
                lengths.append(file.frames)
        assert lengths[0] == lengths[1] > 40000, suffix


def test_two_sources_of_one_target_do_not_overwrite_each_other(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "a.sd2", "b.wav", "c.wav"):
        soundfile.write(tmp_path / "in" / name, noise(900), 16000, format="WAV")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.wav").symlink_to("c.wav")
    report = enhance_folder(Fake(), tmp_path / "in", tmp_path / "out")
    assert [path.name for path in report.done] == ["a.wav", "b.wav"]
    assert [path.name for path, _ in report.failed] == ["a.sd2", "c.wav"]
    reasons = [reason for _, reason in report.failed]
    assert reasons[0].endswith("out/a.wav is that of " + str(tmp_path / "in" / "a.wav"))
    assert reasons[1].endswith("out/c.wav is that of " + str(tmp_path / "in" / "b.wav"))


def test_a_target_that_leads_to_a_source_is_not_written(tmp_path):
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "in" / name, noise(900), 16000)
    (tmp_path / "out" / "a.wav").symlink_to("../in/b.wav")
    before = (tmp_path / "in" / "b.wav").read_bytes()
    report = enhance_folder(Fake(), tmp_path / "in", tmp_path / "out")
    assert [path.name for path in report.done] == ["b.wav"]
    assert [(path.name, "is the source" in reason) for path, reason in report.failed] == [("a.wav", True)]
    assert (tmp_path / "in" / "b.wav").read_bytes() == before


@pytest.fixture
def closed(monkeypatch):
    """closed(path): no one may list or open it, as root could."""
    paths = set()

    def guard(function):
        def guarded(path=".", *args, **kwargs):
            if isinstance(path, (str, os.PathLike)) and os.fspath(path) in paths:
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return function(path, *args, **kwargs)

        return guarded

    monkeypatch.setattr(os, "scandir", guard(os.scandir))
    monkeypatch.setattr(os, "access", lambda path, *_: os.fspath(path) not in paths)
    monkeypatch.setattr(builtins, "open", guard(open))
    monkeypatch.setattr(io, "open", guard(io.open))
    return lambda path: paths.add(os.fspath(path))


def test_what_may_not_be_read_is_named_and_failed(tmp_path, closed):
    for folder in ("in", "in/secret"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "a.wav", noise(900), 16000)
    soundfile.write(tmp_path / "in" / "own.wav", noise(900), 16000)
    closed(tmp_path / "in" / "secret")
    closed(tmp_path / "in" / "own.wav")
    report = enhance_folder(Fake(), tmp_path / "in", tmp_path / "out")
    assert [path.name for path in report.done] == ["a.wav"]
    assert [path.name for path, _ in report.failed] == ["own.wav", "secret"]
    assert all("Permission denied" in reason and reason.count("/in/") == 1 for _, reason in report.failed)
    closed(tmp_path / "in")
    with pytest.raises(PermissionError, match="Permission denied"):
        enhance_folder(Fake(), tmp_path / "in", tmp_path / "out")


def test_what_would_end_the_process_fails_alone(tmp_path):
    """libvorbis dies of such rates; the file claims to be Vorbis by its name."""
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", noise(900), 16000)
    soundfile.write(tmp_path / "in" / "b.ogg", noise(900), 384000, format="WAV", subtype="IMA_ADPCM")
    report = enhance_folder(Fake(), tmp_path / "in", tmp_path / "out")
    assert [path.name for path in report.done] == ["a.wav"]
    assert [(path.name, "200000 Hz" in reason) for path, reason in report.failed] == [("b.ogg", True)]


@pytest.mark.parametrize("arguments", [("", "out"), ("in", "")])
def test_an_empty_string_is_no_folder(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", noise(900), 16000)
    with pytest.raises(ValueError, match="is an empty string, expected a path"):
        enhance_folder(Fake(), *arguments)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["a.wav"]


def test_a_target_that_is_a_file_is_no_folder(corpus, tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(ValueError, match="out is a file, expected a folder"):
        enhance_folder(Fake(), corpus, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_folder_that_cannot_be_made_fails_its_own_files_alone(corpus, tmp_path):
    (corpus / "sub").rename(corpus / "below")
    (corpus / "sub").mkdir()
    (corpus / "below").rename(corpus / "sub" / "below")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("precious")
    report = enhance_folder(Fake(), corpus, tmp_path / "out", resume=True)
    assert [path.name for path in report.done] == ["a.wav", "b.wav", "c.wav"]
    assert [path.name for path, _ in report.failed] == ["d.wav", "e.wav"]
    assert all("Not a directory" in reason for _, reason in report.failed)
    assert (tmp_path / "out" / "sub").read_text() == "precious"


def test_folders_in_which_all_failed_are_not_left(tmp_path):
    (tmp_path / "in" / "bad").mkdir(parents=True)
    (tmp_path / "in" / "bad" / "a.wav").write_bytes(b"no audio")
    assert enhance_folder(Fake(), tmp_path / "in", tmp_path / "out").done == []
    assert not (tmp_path / "out").exists()
