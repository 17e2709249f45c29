"""Enhancing every audio file below a folder: the chunks of several files share the model."""

import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..acceleration.runtime import OnnxManner
from ..data.audio import AUDIO_SUFFIXES, AudioError, find_audio, open_audio, told_seconds
from ..utils.cores import computing_threads
from ..utils.errors import message_of
from ..utils.files import made_folders, remove_stale
from .chunks import FastChunkedEnhancer
from .enhancer import Enhancer, model_to_use
from .enhancing import as_path, audio_bar, fit_chunks, stream_file
from .writing import written_name

if TYPE_CHECKING:
    import torch

ACCELERATOR_BATCH = 8  # chunks of a pass
MOST_AT_ONCE = 4  # passes of an exported graph: each takes 0.2 GB
MP3_BYTES = 16000  # in a second


@dataclass
class FolderReport:
    """
    All in the order of their sources' paths.

    done: the files written.
    failed: (source, reason in one line) of each file that was not; also of each folder that cannot be read.
    skipped: the files that were there already.
    """

    done: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)


class Stopped(RuntimeError):
    """An enhancement that was called off."""


@dataclass(eq=False)
class Waiting:
    """A chunk (channels, n) of one thread, and its output once there is one."""

    chunk: np.ndarray
    output: np.ndarray | None = None


class SharedEnhancer(FastChunkedEnhancer):
    """
    A `ChunkedEnhancer` for several threads: one pass at a time, and `Stopped` in place of it after `stop`.

    The thread whose turn it is takes along what others wait for, up to `batch_size` chunks in all and only those of one
    length: nothing is padded, so that each comes out as it would alone, up to rounding. An exported graph makes
    several passes at once instead, one for each core: cores gain more that way than by sharing a pass.
    """

    def __init__(self, model: Enhancer, batch_size: int = 1, **options):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.at_once = min(computing_threads(), MOST_AT_ONCE) if isinstance(model, OnnxManner) else 1
        super().__init__(model.for_several(self.at_once) if isinstance(model, OnnxManner) else model, **options)
        self.turn, self.stopped = threading.Semaphore(self.at_once), False
        self.batch_size = batch_size
        self.waiting: list[Waiting] = []

    def enhance_chunk(self, chunk: np.ndarray) -> np.ndarray:
        mine = Waiting(chunk)
        self.waiting.append(mine)
        with self.turn:
            try:
                if self.stopped:
                    raise Stopped("called off")
                while mine.output is None:
                    self.enhance_batch(mine)
            finally:
                self.waiting.remove(mine)
        return mine.output

    def enhance_batch(self, mine: Waiting) -> None:
        """One pass of `mine` and what goes with it; if the device has too little memory, the next ones take fewer."""
        alike = [one for one in self.waiting if one.output is None and one.chunk.shape[1] == mine.chunk.shape[1]]
        alike = [one for one in alike if one is not mine] if self.at_once == 1 else []
        batch = [mine, *alike[: self.batch_size - 1]]
        try:
            outputs = super().enhance_chunk(np.concatenate([one.chunk for one in batch]))
        except RuntimeError as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            self.batch_size = len(batch) // 2
            return
        for one in batch:
            one.output, outputs = np.split(outputs, [len(one.chunk)])

    def stop(self) -> None:
        self.stopped = True


def enhance_folder(
    model: Enhancer | str | Path,
    source: str | Path,
    target: str | Path,
    *,
    full_band: bool = True,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
    revision: str | None = None,
    token: str | bool | None = None,
    progress: bool = False,
    resume: bool = False,
    shard: tuple[int, int] = (0, 1),
    batch_size: int | None = None,
    **options,
) -> FolderReport:
    """
    `enhance_file` for every audio file below `source`, to the same relative path below `target`. Files that fail
    are reported, and the rest goes on. `target` may lie inside `source`: its files are no input. A file with a suffix
    that cannot be written gets another, with a warning: .m4a for .aac, .wav for .wma, .mkv for .avi, and so on.

    The longest files go first. While some are read and written, chunks of others are in the model, one by one or
    `batch_size` of them; each file comes out as it would alone, up to rounding if its chunks share a pass.

    Args:
        resume: skip files that are there and not empty. Files appear when they are complete, so nothing is done twice.
            Half-written files of killed runs are removed if nothing was written to them for an hour: other shards may
            be at work.
        batch_size: how many chunks of one length may share a pass; None for 1 on a CPU, and 8 on another device.
        shard: (i, n) does the i-th of n parts, from 0: every n-th of the sorted files. The report is of that part.

    Raises:
        ValueError: an option out of its range, or `target` is `source`, a folder above it or a file.
        AudioError: no audio file below `source`.
    """
    source, target = as_path(source, "source").resolve(), as_path(target, "target").resolve()
    loaded = model_to_use(model, device, dtype=dtype, revision=revision, token=token)
    if batch_size is None:
        on_cpu = isinstance(loaded, OnnxManner) or loaded.device.type == "cpu"
        batch_size = 1 if on_cpu else ACCELERATOR_BATCH
    enhancer = SharedEnhancer(loaded, batch_size, **fit_chunks(loaded, options))
    if source.is_relative_to(target):
        raise ValueError(f"target {target} is or contains the source {source}, expected another folder")
    if target.exists() and not target.is_dir():
        raise ValueError(f"target {target} is a file, expected a folder")
    if not source.is_dir():
        raise AudioError(f"no audio file below {source}, which is no folder")
    if not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard must be (i, n) with 0 <= i < n, got {shard}")
    os.scandir(source).close()  # OSError if it cannot be read
    files = [path for path in find_audio(source) if not path.is_relative_to(target)]
    if not files:
        raise AudioError(f"no audio file below {source}, expected one that ends in {', '.join(AUDIO_SUFFIXES)}")
    mirrored, faults = mirror(files, source, target)
    seconds = {path: file_seconds(path) for path in mirrored}
    ordered = sorted(mirrored, key=lambda path: seconds[path], reverse=True)[shard[0] :: shard[1]]
    if resume:
        remove_stale(target)
    there = {path for path in ordered if resume and is_written(mirrored[path])}
    wanted = [path for path in ordered if path not in there]
    work = [(path, mirrored[path], seconds[path]) for path in wanted]
    failed = dict(stream_files(enhancer, work, full_band, progress))
    return FolderReport(
        done=sorted(mirrored[path] for path in wanted if path not in failed),
        failed=sorted([*failed.items(), *faults[shard[0] :: shard[1]]]),
        skipped=sorted(mirrored[path] for path in there),
    )


def mirror(files: list[Path], source: Path, target: Path) -> tuple[dict[Path, Path], list[tuple[Path, str]]]:
    """The target of each file of `source`, and (file, reason) of those whose target is that of another, or a source."""
    mirrored: dict[Path, Path] = {}
    faults = []
    sources = {os.path.realpath(path) for path in files}
    taken: dict[str, Path] = {}  # what is written, links followed
    for path in sorted(files, key=lambda path: (written_name(path) != path.name, path)):
        goal = target / path.relative_to(source).with_name(written_name(path))
        real = os.path.realpath(goal)
        if real in sources:
            faults.append((path, f"its target {goal} is the source {real}"))
        elif real in taken:
            faults.append((path, f"its target {goal} is that of {taken[real]}"))
        else:
            mirrored[path], taken[real] = goal, path
            if goal.name != path.name:
                warnings.warn(f"{path}: {path.suffix} cannot be written, it becomes {goal}", stacklevel=3)
    return mirrored, faults


def stream_files(
    enhancer: SharedEnhancer, work: Sequence[tuple[Path, Path, float]], full_band: bool, progress: bool
) -> Iterator[tuple[Path, str]]:
    """`stream_file` of each (source, target, seconds of audio as far as known), some at once; (source, reason in one
    line) of what fails."""
    # of each chunk in the model another is read or made ready, and one written
    pool = ThreadPoolExecutor(2 * enhancer.batch_size * enhancer.at_once + 1)
    folders = made_folders((target.parent for _, target, _ in work), lenient=True)
    with folders, audio_bar(sum(seconds for *_, seconds in work), progress) as bar, pool:
        futures = {pool.submit(stream_file, enhancer, *one[:2], full_band, bar): one for one in work}
        try:
            for number, future in enumerate(as_completed(futures), 1):
                source, _, expected = futures[future]
                bar.set_postfix_str(f"{number} of {len(work)} files", refresh=False)
                try:
                    bar.total += future.result() - expected
                except Exception as error:  # of the file, the disk, the libraries
                    bar.total -= expected
                    yield source, message_of(error)
        except BaseException:
            enhancer.stop()
            pool.shutdown(cancel_futures=True)
            raise


def is_written(path: Path) -> bool:
    """Whether something is in a file there: an empty one is none of ours."""
    return os.path.isfile(path) and os.path.getsize(path) > 0


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether it is PyTorch's error of a device whose memory is full."""
    return "torch" in sys.modules and isinstance(error, sys.modules["torch"].OutOfMemoryError)


def file_seconds(path: Path) -> float:
    """Length by the file's header, or of an ordinary mp3 of its size; 0 if it cannot be read, which is told later."""
    try:
        with warnings.catch_warnings(action="ignore"), open_audio(path) as file:
            return told_seconds(file) or path.stat().st_size / MP3_BYTES
    except (OSError, ValueError):
        return 0.0


__all__ = ["FolderReport", "SharedEnhancer", "Stopped", "enhance_folder"]
