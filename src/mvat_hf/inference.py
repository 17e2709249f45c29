"""Enhancing arrays, files and folders of any rate and length.

    enhance         an array, a tensor or a file, to an array or a tensor
    enhance_file    a file to a file of the same kind, in bounded memory
    enhance_folder  every audio file below a folder

All three are one stream of blocks (channels, n) through `ChunkedEnhancer`; this module gets blocks out of arrays and
files and back into them.
"""

import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from tqdm.auto import tqdm

from .data.audio import AUDIO_SUFFIXES, AudioError, check_finite, find_audio, open_audio, open_whole, read_audio
from .files import made_folders, remove_stale, replaced_at_end
from .models.manner import PRESETS, MannerModel
from .models.manner.chunking_manner import (
    BLOCK_FRAMES,
    CHUNK_SECONDS,
    FULL_SCALE,
    ChunkedEnhancer,
    array_blocks,
    array_fault,
    is_rate,
)
from .models.manner.feature_extraction_manner import from_tensor
from .runtime import OnnxManner

ACCELERATOR_BATCH = 8  # chunks of a pass
WAV_BYTES = 2**32 - 2**16  # that a wav file can hold; RF64 is the same without the limit
# subtypes that hold samples beyond [-1, 1]; in others libsndfile clips some and wraps the rest (ULAW, ADPCM)
UNBOUNDED_SUBTYPES = {"FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}


@dataclass
class FolderReport:
    """
    All in the order of their sources' paths.

    done: the files written.
    failed: (source file, reason in one line) of each file that was not.
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


class SharedEnhancer(ChunkedEnhancer):
    """
    A `ChunkedEnhancer` for several threads: one pass at a time, and `Stopped` in place of it after `stop`.

    The thread whose turn it is takes along what others wait for, up to `batch_size` chunks in all and only those of one
    length: nothing is padded, so that each comes out as it would alone, but for rounding.
    """

    def __init__(self, model: MannerModel, batch_size: int = 1, **options):
        super().__init__(model, **options)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.turn, self.stopped = threading.Lock(), False
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
        alike.remove(mine)
        batch = [mine, *alike[: self.batch_size - 1]]
        try:
            outputs = super().enhance_chunk(np.concatenate([one.chunk for one in batch]))
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            self.batch_size = len(batch) // 2
            return
        for one in batch:
            one.output, outputs = np.split(outputs, [len(one.chunk)])

    def stop(self) -> None:
        self.stopped = True


def enhance(
    model: MannerModel | str | Path,
    audio: np.ndarray | torch.Tensor | str | Path,
    sampling_rate: float | None = None,
    *,
    dry: float = 0.0,
    attenuation_limit: float | None = None,
    chunk_seconds: float | None = CHUNK_SECONDS,
    overlap_seconds: float | None = None,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> np.ndarray | torch.Tensor:
    """
    Enhanced audio of the input's type, shape, dtype, device and rate; no gradient.

    One model serves any number of threads, and spawned processes. A forked one hangs in its first pass where PyTorch
    computes on several threads: that is PyTorch's limit for any network.

    Args:
        model: or what `MannerModel.from_pretrained` takes, or a file of `mvat export` (ends in .onnx).
        audio: (time,), (channels, time) or (batch, channels, time), floating or int16/int32 PCM; or a file, which gives
            a float32 array, (time,) if mono.
        sampling_rate: of `audio` in Hz; needed unless `audio` is a file.
        dry, attenuation_limit, chunk_seconds, overlap_seconds: see `ChunkedEnhancer`. A file that was exported for one
            length is run in chunks of that, by default; see `OnnxManner` for audio that is shorter.
        device: where the model is moved; None leaves it where it is.
        progress: show a bar if standard error is a terminal.

    Raises:
        ValueError: an option out of its range. AudioError: audio that cannot be used. FileNotFoundError: no such file.

    Example:
        >>> from mvat_hf.models.manner import MannerConfig
        >>> model = MannerModel(MannerConfig.from_preset("manner-s-2.2gf"))
        >>> enhance(model, np.zeros((2, 4410), dtype="int16"), 44100).shape
        (2, 4410)
    """
    array, rate = as_array(audio, sampling_rate)
    loaded = load_model(model, device)
    chunks = fit_chunks(loaded, {"chunk_seconds": chunk_seconds, "overlap_seconds": overlap_seconds})
    enhancer = ChunkedEnhancer(loaded, dry, attenuation_limit, **chunks)
    # (..., time) -> (rows, time)
    rows = array.reshape(-1, array.shape[-1])
    output, end = np.empty_like(rows), 0
    blocks = enhancer.stream(array_blocks(rows), rate, len(rows))
    for block in with_progress(blocks, rows.shape[1] / rate, rate, progress):
        check_finite(block, "enhanced audio")
        start, end = end, end + block.shape[1]
        output[:, start:end] = from_unit_scale(block, rows.dtype)
    output = output.reshape(array.shape)
    return torch.from_numpy(output).to(audio.device, audio.dtype) if isinstance(audio, torch.Tensor) else output


def enhance_file(
    model: MannerModel | str | Path,
    source: str | Path,
    target: str | Path,
    *,
    device: str | torch.device | None = None,
    progress: bool = False,
    **options,
) -> None:
    """
    Stream `source` into `target`: same rate, channels and number of frames, same format and subtype too unless the
    suffixes differ, then the target suffix's format with its default subtype. Tags are not copied.

    `target` appears, or is replaced, when all is written: an error leaves it as it was. `options`: see
    `ChunkedEnhancer`.

    Raises:
        ValueError: an option out of its range, `target` is `source`, or its suffix names no format.
        AudioError: `source` cannot be used, or the target's format cannot hold its rate or channels.
    """
    loaded = load_model(model, device)
    stream_file(ChunkedEnhancer(loaded, **fit_chunks(loaded, options)), Path(source), Path(target), progress)


def stream_file(enhancer: ChunkedEnhancer, source: Path, target: Path, progress: bool) -> None:
    """`enhance_file` by an enhancer that is there."""
    with open_audio(source) as file:
        if target.exists() and target.samefile(source):
            raise ValueError(f"target {target} is the source itself, expected another file")
        warn_if_truncated(source)
        blocks = enhancer.stream(file_blocks(file, source), file.samplerate, file.channels)
        with replaced_at_end(target) as partial:
            with open_output(partial, target, file, source) as output:
                for block in with_progress(blocks, file.frames / file.samplerate, file.samplerate, progress):
                    write_block(output, check_finite(block, "enhanced audio"), target)
                written = output.frames
            check_written(partial, target, written)


def enhance_folder(
    model: MannerModel | str | Path,
    source: str | Path,
    target: str | Path,
    *,
    device: str | torch.device | None = None,
    progress: bool = False,
    resume: bool = False,
    shard: tuple[int, int] = (0, 1),
    batch_size: int | None = None,
    **options,
) -> FolderReport:
    """
    `enhance_file` for every audio file below `source`, to the same relative path below `target`; what fails is
    reported and the rest goes on. `target` may lie inside `source`: what it holds is no input.

    The longest files go first. While some are read and written, chunks of others are in the model, one by one or
    `batch_size` of them; each file comes out as it would alone, but for rounding if its chunks share a pass.

    Args:
        resume: leave files alone that are there; as they appear when they are complete, nothing is done twice. What
            killed runs left half written goes, if nothing was written to it for an hour: other shards may be at work.
        batch_size: how many chunks of one length may share a pass; None for 1 on a CPU, and 8 on another device.
        shard: (i, n) does the i-th of n parts, from 0: of the sorted files every n-th. The report is of the part.

    Raises:
        ValueError: an option out of its range, or `target` is `source` or a folder above it.
        AudioError: no audio file below `source`.
    """
    loaded = load_model(model, device)
    if batch_size is None:
        batch_size = 1 if loaded.device.type == "cpu" else ACCELERATOR_BATCH
    enhancer = SharedEnhancer(loaded, batch_size, **fit_chunks(loaded, options))
    source, target = Path(source).resolve(), Path(target).resolve()
    if source.is_relative_to(target):
        raise ValueError(f"target {target} is or contains the source {source}, expected another folder")
    if not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard must be (i, n) with 0 <= i < n, got {shard}")
    files = [path for path in find_audio(source) if not path.is_relative_to(target)]
    if not files:
        raise AudioError(f"no audio file below {source}, expected one that ends in {', '.join(AUDIO_SUFFIXES)}")
    mirrored = {path: target / path.relative_to(source) for path in files}
    ordered = sorted(files, key=file_seconds, reverse=True)[shard[0] :: shard[1]]
    if resume:
        remove_stale(target)
    there = {path for path in ordered if resume and mirrored[path].exists()}
    wanted = [path for path in ordered if path not in there]
    failed = dict(stream_files(enhancer, {path: mirrored[path] for path in wanted}, progress))
    return FolderReport(
        done=sorted(mirrored[path] for path in wanted if path not in failed),
        failed=sorted(failed.items()),
        skipped=sorted(mirrored[path] for path in there),
    )


def stream_files(enhancer: SharedEnhancer, targets: dict[Path, Path], progress: bool) -> Iterator[tuple[Path, str]]:
    """`stream_file` of each source to its target, some at once; (source, reason in one line) of what fails."""
    # of each chunk in the model another is read or made ready, and one written
    pool = ThreadPoolExecutor(2 * enhancer.batch_size + 1)
    with made_folders(target.parent for target in targets.values()), pool:
        futures = {pool.submit(stream_file, enhancer, *files, False): files[0] for files in targets.items()}
        try:
            for future in tqdm(
                as_completed(futures), total=len(futures), unit="file", disable=None if progress else True
            ):
                try:
                    future.result()
                # of the file, the disk, libsndfile and torch
                except (ValueError, OSError, RuntimeError, MemoryError) as error:
                    yield futures[future], " ".join(str(error).split())
        except BaseException:
            enhancer.stop()
            pool.shutdown(cancel_futures=True)
            raise


def file_seconds(path: Path) -> float:
    """Length by the file's header; 0 if it cannot be read, which is told when it is enhanced."""
    try:
        return soundfile.info(path).duration
    except (soundfile.LibsndfileError, UnicodeError):  # a name may not be Unicode
        return 0.0


def load_model(
    model: MannerModel | str | Path, device: str | torch.device | None = None, runtime: str = "onnx"
) -> MannerModel:
    """
    The model itself or, given an id, a folder or a .onnx file, what is in it.

    Args:
        device: where it is moved; None leaves it.
        runtime: of a .onnx file, see `OnnxManner`.
    """
    loaded: Any = model
    if isinstance(model, (str, Path)) and Path(model).suffix == ".onnx":
        if str(device or "cpu").partition(":")[0] != "cpu":
            raise ValueError(f"{model} runs on the CPU, got device {device}")
        return OnnxManner(model, runtime)  # type: ignore[return-value]  # the same face, as far as enhancing goes
    if isinstance(model, (str, Path)):
        if fault := name_fault(model):
            raise ValueError(f"{model} {fault}")
        loaded = MannerModel.from_pretrained(model)
    try:
        return loaded if device is None else loaded.to(device)
    except (RuntimeError, AssertionError) as error:  # torch has no one error for a device that is not there
        raise ValueError(f"device {device} cannot be used: {error}") from error


def name_fault(model: str | Path) -> str | None:
    """Why a name is none of a model, where that is a likely slip."""
    if str(model) in PRESETS and not Path(model).exists():
        return "is a preset, which has no weights: expected a folder or a Hub id, such as mvat/manner-s-8.1gf"
    if not Path(model).is_file():
        return None
    upstream = Path(model).suffix in (".pth", ".pt", ".th")
    return "is a file, expected a " + ("folder as `mvat convert` makes of it" if upstream else "checkpoint folder")


def fit_chunks(model: Any, options: dict[str, Any]) -> dict[str, Any]:
    """`options` of `ChunkedEnhancer`; if `model` was exported for one length, in chunks of that, unless they say else.

    Raises:
        ValueError: they ask for chunks of another length.
    """
    if not isinstance(model, OnnxManner) or model.samples is None:
        return options
    rate = model.config.sampling_rate
    seconds = model.samples / rate
    chunk = options.get("chunk_seconds", CHUNK_SECONDS)
    if chunk not in (None, CHUNK_SECONDS) and not abs(chunk * rate - model.samples) <= 0.5:  # NaN is none either
        raise ValueError(f"the ONNX file takes {seconds:g} s at a time, got chunk_seconds={chunk}: export any length")
    return {**options, "chunk_seconds": chunk and seconds}


def as_array(audio: np.ndarray | torch.Tensor | str | Path, sampling_rate: float | None) -> tuple[np.ndarray, float]:
    """What `enhance` was given as a checked array (..., time), with its sampling rate in Hz."""
    if isinstance(audio, (str, Path)):
        array, rate = read_audio(audio)
        warn_if_truncated(audio)
        if sampling_rate not in (None, rate):
            raise AudioError(f"{audio} is sampled at {rate} Hz, got sampling_rate={sampling_rate}")
        return (array[0] if len(array) == 1 else array), rate
    if isinstance(audio, torch.Tensor):
        audio = from_tensor(audio)
    if not isinstance(audio, np.ndarray):
        raise AudioError(f"audio must be a path, a numpy array or a torch tensor, got {type(audio).__name__}")
    if sampling_rate is None or not is_rate(sampling_rate):
        raise AudioError(f"audio in an array needs its sampling_rate, a number of Hz above 0, got {sampling_rate!r}")
    if fault := array_fault(audio):
        raise AudioError(fault)
    return audio, sampling_rate


def warn_if_truncated(path: str | Path) -> None:
    """Warn of a file that ends before its header says: what there is of it can be enhanced, but is not all."""
    try:
        open_whole(path).close()
    except AudioError as error:
        warnings.warn(f"{error}; what there is of it is enhanced", stacklevel=2)


def from_unit_scale(block: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A float block as `dtype`: integer PCM is scaled back, rounded and clipped."""
    if dtype.name not in FULL_SCALE:
        return block.astype(dtype)
    scale = FULL_SCALE[dtype.name]
    return np.rint(block * scale).clip(-scale, scale - 1).astype(dtype)


def file_blocks(file: soundfile.SoundFile, path: Path) -> Iterator[np.ndarray]:
    """The rest of an open file as float64 blocks, to its last frame (what the header says may be wrong)."""
    try:
        while len(block := file.read(BLOCK_FRAMES, dtype="float64", always_2d=True)):
            yield check_finite(block.T, str(path))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path} cannot be decoded: {error.error_string}") from error


def with_progress(blocks: Iterable[np.ndarray], seconds: float, rate: float, shown: bool) -> Iterator[np.ndarray]:
    """The blocks themselves, counted in seconds of audio on a bar."""
    with tqdm(total=seconds, unit="s", unit_scale=True, disable=None if shown else True) as bar:
        for block in blocks:
            yield block
            bar.update(block.shape[1] / rate)


def open_output(path: Path, target: Path, source: soundfile.SoundFile, source_path: Path) -> soundfile.SoundFile:
    """Open `path` for writing what will be `target`: in the source's format, or in that of another suffix."""
    format, subtype = source.format, source.subtype
    if format_name(target) != format_name(source_path):
        if target.suffix.lower() not in AUDIO_SUFFIXES:
            raise ValueError(f"target must end in one of {', '.join(AUDIO_SUFFIXES)}, got {target}")
        format = format_name(target)
        format, subtype = ("OGG", "OPUS") if format == "OPUS" else (format, soundfile.default_subtype(format))
        if format == "WAV" and 2 * source.channels * source.frames > WAV_BYTES:
            format = "RF64"
    try:
        path.touch()
    except OSError as error:
        raise AudioError(f"{target} cannot be written: {error.strerror}") from error
    try:
        return soundfile.SoundFile(path, "w", source.samplerate, source.channels, subtype=subtype, format=format)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{target} cannot be {format} {subtype} with {source.channels} channels at {source.samplerate} Hz: "
            f"{error.error_string}"
        ) from error


def write_block(output: soundfile.SoundFile, block: np.ndarray, target: Path) -> None:
    """Append a block, clipped where the subtype cannot hold more than full scale; AudioError if the disk refuses."""
    try:
        output.write((block if output.subtype in UNBOUNDED_SUBTYPES else block.clip(-1, 1)).T)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{target} cannot be written: {error.error_string}") from error


def check_written(path: Path, target: Path, frames: int) -> None:
    """AudioError if `path` does not hold all of its `frames`: libsndfile is silent on errors as it closes a file."""
    try:
        with soundfile.SoundFile(path) as file:
            whole = frames <= file.frames <= frames + BLOCK_FRAMES  # some formats come in blocks; broken flac says 2^63
            if file.format == "MP3" and frames:  # whose header is written first
                file.seek(frames - 1)
                whole = len(file.read(1)) == 1
    except soundfile.LibsndfileError:
        whole = False
    if not whole:
        raise AudioError(f"{target} cannot be written: its end is not there, the disk may be full")


def format_name(path: Path) -> str:
    """The suffix as libsndfile calls the format (and OPUS, which it calls OGG)."""
    name = path.suffix[1:].upper()
    return "AIFF" if name == "AIF" else name


__all__ = ["ChunkedEnhancer", "FolderReport", "enhance", "enhance_file", "enhance_folder", "load_model"]
