"""Enhancing arrays and files of any rate and length (whole folders: `folders`; loading models: `enhancer`).

    enhance         an array to an array, a tensor to a tensor, a file to a dict of its audio and rate
    enhance_file    a file to a file of the same kind, in bounded memory

Both are one stream of blocks (channels, n) through `ChunkedEnhancer`; this module gets blocks out of arrays and
files and back into them.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

import numpy as np
import soundfile
from tqdm.auto import tqdm

from ..acceleration.runtime import OnnxManner
from ..data.audio import AudioError, AudioFile, check_finite, open_audio, read_audio, told_seconds
from ..models.manner.chunking_manner import (
    BLOCK_FRAMES,
    CHUNK_SECONDS,
    FULL_SCALE,
    array_blocks,
    array_fault,
    is_rate,
)
from ..utils.files import replaced_at_end
from .chunks import FastChunkedEnhancer
from .enhancer import Enhancer, load_model, model_to_use
from .full_band import stream
from .writing import check_written, choose_kind, open_output

if TYPE_CHECKING:
    import torch

Audio = TypeVar("Audio", np.ndarray, "torch.Tensor")


class Recording(TypedDict):
    """The result of `enhance` for a file, and of transformers' pipeline for any recording."""

    audio: np.ndarray  # float32, (time,) or (channels, time)
    sampling_rate: int  # in Hz


class Options(TypedDict, total=False):
    """Options of `enhance`."""

    dry: float
    attenuation_limit: float | None
    chunk_seconds: float | None
    overlap_seconds: float | None
    full_band: bool
    device: "str | torch.device | None"
    dtype: "str | torch.dtype | None"
    revision: str | None
    token: str | bool | None
    progress: bool


@overload
def enhance(
    model: Enhancer | str | Path, audio: Audio, sampling_rate: float | None = None, **options: Unpack[Options]
) -> Audio: ...
@overload
def enhance(
    model: Enhancer | str | Path, audio: str | Path, sampling_rate: float | None = None, **options: Unpack[Options]
) -> Recording: ...
def enhance(
    model: Enhancer | str | Path,
    audio: "np.ndarray | torch.Tensor | str | Path",
    sampling_rate: float | None = None,
    *,
    dry: float = 0.0,
    attenuation_limit: float | None = None,
    chunk_seconds: float | None = CHUNK_SECONDS,
    overlap_seconds: float | None = None,
    full_band: bool = True,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
    revision: str | None = None,
    token: str | bool | None = None,
    progress: bool = False,
) -> "np.ndarray | torch.Tensor | Recording":
    """
    Enhanced audio of the input's type, shape, dtype, device and rate; of a file, {"audio": a float32 array, (time,) if
    mono, "sampling_rate": its rate in Hz}. No gradient.

    One model serves any number of threads, and spawned processes. A forked one hangs in its first pass where PyTorch
    computes on several threads: that is PyTorch's limit for any network.

    Args:
        model: or what `MannerModel.from_pretrained` takes, or a file of `mvat export` (ends in .onnx). A Hub id is
            loaded once in a process.
        audio: (time,), (channels, time) or (batch, channels, time), floating or int16/int32 PCM; or a file.
        sampling_rate: of `audio` in Hz; needed unless `audio` is a file.
        dry, attenuation_limit, chunk_seconds, overlap_seconds: see `ChunkedEnhancer`. A file that was exported for one
            length is run in chunks of that, by default; see `OnnxManner` for audio that is shorter.
        full_band: keep what lies above the model's band, see `full_band`; False for an output without it.
        device: where the model is moved; None leaves it where it is.
        dtype, revision, token: of the model, see `load_model`.
        progress: show a bar if standard error is a terminal.

    Raises:
        ValueError: an option out of its range. AudioError: audio that cannot be used. FileNotFoundError: no such file.

    Example:
        >>> from mvat_hf import MannerConfig, MannerModel
        >>> model = MannerModel(MannerConfig.from_preset("manner-s-2.2gf"))
        >>> enhance(model, np.zeros((2, 4410), dtype="int16"), 44100).shape
        (2, 4410)
    """
    array, rate = as_array(audio, sampling_rate)
    loaded = model_to_use(model, device, dtype=dtype, revision=revision, token=token)
    chunks = fit_chunks(loaded, {"chunk_seconds": chunk_seconds, "overlap_seconds": overlap_seconds})
    enhancer = FastChunkedEnhancer(loaded, dry, attenuation_limit, **chunks)
    # (..., time) -> (rows, time)
    rows = array.reshape(-1, array.shape[-1])
    output, end = np.empty_like(rows), 0
    blocks = stream(enhancer, array_blocks(rows), rate, len(rows), full_band)
    with audio_bar(rows.shape[1] / rate, progress) as bar:
        for block in counted(blocks, rate, bar):
            check_finite(block, "enhanced audio")
            start, end = end, end + block.shape[1]
            output[:, start:end] = from_unit_scale(block, rows.dtype)
    output = output.reshape(array.shape)
    if isinstance(audio, (str, Path)):
        return {"audio": output, "sampling_rate": int(rate)}
    if not is_tensor(audio):
        return output
    import torch

    like: Any = audio
    return torch.from_numpy(output).to(like.device, like.dtype)


def enhance_file(
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
    **options,
) -> None:
    """
    Stream `source` into `target`: same rate, channels and number of frames, same format and subtype too unless the
    suffixes differ, then the target suffix's format with its default subtype. Where a format's subtype cannot be
    written with exactly as many frames (ADPCM, GSM, mp3 in a wav), it is PCM, with a warning. See `choose_kind` for
    containers: of a video, the picture is copied beside the enhanced sound. Tags, a WAVEX speaker mask, covers and
    other tracks are not.

    `target` appears, or is replaced, when all is written: an error leaves it as it was. A link stays one, and what it
    leads to is replaced. `options`: see `ChunkedEnhancer`; `full_band` and the model's, see `enhance`.

    Raises:
        ValueError: an option out of its range, `target` is `source` or no file, or its suffix names no format.
        AudioError: `source` cannot be used, or the target's format cannot hold its rate or channels.
        OSError: of the files.
    """
    source, target = as_path(source, "source"), as_path(target, "target")
    loaded = model_to_use(model, device, dtype=dtype, revision=revision, token=token)
    with audio_bar(None, progress) as bar:
        stream_file(FastChunkedEnhancer(loaded, **fit_chunks(loaded, options)), source, target, full_band, bar)


def stream_file(enhancer: FastChunkedEnhancer, source: Path, target: Path, full_band: bool, bar: tqdm) -> float:
    """`enhance_file` by an enhancer that is there; the seconds of audio, which `bar` counts."""
    with open_audio(source) as file:
        if bar.total is None:
            bar.reset(told_seconds(file))
        if target.exists() and target.samefile(source):
            raise ValueError(f"target {target} is the source itself, expected another file")
        if target.exists() and not target.is_file():
            raise ValueError(f"target {target} is a {'folder' if target.is_dir() else 'device'}, expected a file")
        kind = choose_kind(target, source, file)
        if kind.format == file.format and kind.coding != file.subtype:
            warnings.warn(
                f"{source} is {file.format} {file.subtype}, which cannot be written with as many frames; "
                f"{target} is {kind}",
                stacklevel=2,
            )
        blocks = stream(enhancer, file_blocks(file, source), file.samplerate, file.channels, full_band)
        with replaced_at_end(target) as partial:
            with open_output(partial, target, kind, file, source) as output:
                for block in counted(blocks, file.samplerate, bar):
                    output.write(check_finite(block, "enhanced audio"))
            check_written(partial, target, kind, output.frames, output.lead)
            return output.frames / file.samplerate


def as_path(path: str | Path, name: str) -> Path:
    """A path; ValueError for an empty string, which as a path is the working folder."""
    if path == "":
        raise ValueError(f"{name} is an empty string, expected a path")
    return Path(path)


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
    return {**options, "chunk_seconds": None if chunk is None else seconds}


def as_array(audio: Any, sampling_rate: float | None) -> tuple[np.ndarray, float]:
    """The input of `enhance` as a checked array (..., time), with its sampling rate in Hz."""
    if isinstance(audio, (str, Path)):
        array, rate = read_audio(as_path(audio, "audio"))
        if sampling_rate not in (None, rate):
            raise AudioError(f"{audio} is sampled at {rate} Hz, got sampling_rate={sampling_rate}")
        return (array[0] if len(array) == 1 else array), rate
    if is_tensor(audio):
        from ..models.manner.feature_extraction_manner import from_tensor

        audio = from_tensor(audio)
    if not isinstance(audio, np.ndarray):
        raise AudioError(f"audio must be a path, a numpy array or a torch tensor, got {type(audio).__name__}")
    if sampling_rate is None or not is_rate(sampling_rate):
        raise AudioError(f"audio in an array needs its sampling_rate, from 1 to 2^31 Hz, got {sampling_rate!r}")
    if fault := array_fault(audio):
        raise AudioError(fault)
    return audio, sampling_rate


def is_tensor(audio: Any) -> bool:
    """Whether it is a tensor of torch, which is then loaded already."""
    return "torch" in sys.modules and isinstance(audio, sys.modules["torch"].Tensor)


def from_unit_scale(block: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A float block as `dtype`: integer PCM is scaled back, rounded and clipped."""
    if dtype.name not in FULL_SCALE:
        return block.astype(dtype)
    scale = FULL_SCALE[dtype.name]
    return np.rint(block * scale).clip(-scale, scale - 1).astype(dtype)


def file_blocks(file: AudioFile, path: Path) -> Iterator[np.ndarray]:
    """The rest of an open file as float64 blocks, to its last frame (what the header says may be wrong)."""
    try:
        while len(block := file.read(BLOCK_FRAMES, dtype="float64", always_2d=True)):
            yield check_finite(block.T, str(path))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path} cannot be decoded: {error.error_string}") from error


def audio_bar(seconds: float | None, shown: bool) -> tqdm:
    """A bar that counts seconds of audio; on a terminal alone, if at all."""
    return tqdm(total=seconds, unit="s", unit_scale=True, disable=None if shown else True)


def counted(blocks: Iterable[np.ndarray], rate: float, bar: tqdm) -> Iterator[np.ndarray]:
    """The blocks themselves, counted on a bar that threads may share."""
    for block in blocks:
        yield block
        with bar.get_lock():
            bar.update(block.shape[1] / rate)


__all__ = ["Enhancer", "enhance", "enhance_file", "load_model"]
