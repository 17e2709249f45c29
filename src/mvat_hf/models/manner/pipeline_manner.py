"""transformers' `pipeline("audio-to-audio")`: recordings of any kind in, enhanced recordings out."""

import io
import sys
import urllib.request
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from .chunking_manner import FULL_SCALE, ChunkedEnhancer, array_blocks, array_fault, finite_fault, is_rate
from .feature_extraction_manner import from_tensor

OPTIONS = ("dry", "attenuation_limit", "chunk_seconds", "overlap_seconds")
URL_SECONDS = 30  # how long a server may keep silent

Recording = tuple[np.ndarray, float]  # (..., time), and its sampling rate in Hz


class AudioToAudioPipeline(Pipeline):
    """
    Enhanced audio of recordings, at their own rate, length and channels; long ones go through in chunks.

    A recording is a path, a URL, the bytes of a file, an array or tensor (time,) or (channels, time), or a dict with
    "sampling_rate" and "array" or "raw", or with "bytes" or "path"; a list or a `datasets` column of them gives a list,
    a generator or a torch data set gives an iterator.

    Args of a call, or of `pipeline(...)` for all calls:
        sampling_rate: of arrays in Hz; the model's own by default.
        dry, attenuation_limit, chunk_seconds, overlap_seconds: see `ChunkedEnhancer`.
        batch_size: how many recordings are looked at at once; those of one length and rate share a pass. Nothing is
            ever padded: the model would hear it.

    Returns:
        {"audio": float32 array of the recording's shape, "sampling_rate": its rate in Hz}.

    Raises:
        ValueError: a recording that cannot be used, or an option out of its range. OSError: no such file, or no answer.
        ImportError: soundfile (files) or soxr (rates other than the model's) is needed and not installed.
    """

    # the model's configuration says all there is to know
    _load_tokenizer = _load_feature_extractor = False  # type: ignore[assignment]
    _load_processor = _load_image_processor = _load_video_processor = False  # type: ignore[assignment]

    def __call__(self, inputs, **kwargs):
        if isinstance(inputs, Sequence) and not isinstance(inputs, (str, bytes)):
            return list(super().__call__((recording for recording in inputs), **kwargs))
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, sampling_rate: float | None = None, **options) -> tuple[dict, dict, dict]:
        if unknown := sorted(options.keys() - set(OPTIONS)):
            raise ValueError(f"unknown option {', '.join(unknown)}; expected sampling_rate, {', '.join(OPTIONS)}")
        return ({} if sampling_rate is None else {"sampling_rate": sampling_rate}), options, {}

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        return next(self.get_iterator([inputs], 0, 1, preprocess_params, forward_params, postprocess_params))

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Results in the order of `inputs`; transformers' own would pad the recordings of a batch."""
        kind = PipelineDataset if isinstance(inputs, Sized) else PipelineIterator
        if kind is PipelineIterator:
            num_workers = min(num_workers, 1)  # each would go through all of it
        recordings = kind(inputs, self.preprocess, preprocess_params)
        for batch in DataLoader(recordings, num_workers=num_workers, batch_size=batch_size, collate_fn=list):
            for output in self.forward(batch, **forward_params):
                yield self.postprocess(output, **postprocess_params)

    def preprocess(  # type: ignore[override]  # what goes between the three steps is a Recording or a list of them
        self, recording, sampling_rate: float | None = None
    ) -> Recording:
        audio, rate = read_recording(recording)
        if rate is None:
            rate = self.model.config.sampling_rate if sampling_rate is None else sampling_rate
        elif sampling_rate not in (None, rate):
            raise ValueError(f"the recording is sampled at {rate} Hz, got sampling_rate={sampling_rate}")
        if not is_rate(rate):
            raise ValueError(f"sampling_rate must be a number of Hz above 0, got {rate!r}")
        if audio.ndim > 2:
            raise ValueError(f"a recording must be (time,) or (channels, time), got {audio.shape}: pass a list of them")
        if fault := array_fault(audio):
            raise ValueError(fault)
        return audio / np.float32(FULL_SCALE.get(audio.dtype.name, 1)), rate

    def _forward(self, batch: list[Recording], **options) -> list[Recording]:  # type: ignore[override]
        enhancer = best_enhancer()(self.model, **options)
        alike: dict[tuple[int, float], list[int]] = {}
        for index, (audio, rate) in enumerate(batch):
            alike.setdefault((audio.shape[-1], rate), []).append(index)
        outputs = list(batch)
        for (_, rate), indices in alike.items():
            # recordings (time,) or (channels, time) -> (all their channels, time)
            channels = [np.atleast_2d(batch[index][0]) for index in indices]
            rows, ends = np.concatenate(channels), np.cumsum([len(own) for own in channels])
            enhanced = np.concatenate(list(enhancer.stream(array_blocks(rows), rate, len(rows))), axis=1)
            for index, own in zip(indices, np.split(enhanced, ends[:-1]), strict=True):
                outputs[index] = own.reshape(batch[index][0].shape).astype(np.float32), rate
        return outputs

    def postprocess(self, output: Recording) -> dict[str, Any]:  # type: ignore[override]
        audio, rate = output
        if fault := finite_fault(audio, "enhanced audio"):
            raise ValueError(fault)
        return {"audio": audio, "sampling_rate": rate}


def best_enhancer() -> type[ChunkedEnhancer]:
    """The package's, on folded weights, where it is installed; or else the model as it is, with the same output."""
    try:
        from mvat_hf.inference import chunks
    except ImportError:
        return ChunkedEnhancer
    return chunks.FastChunkedEnhancer


def read_recording(recording) -> tuple[np.ndarray, float | None]:
    """Whatever a pipeline is given as (array, rate in Hz); None for the rate of a bare array."""
    torchcodec = sys.modules.get("torchcodec")
    if torchcodec is not None and isinstance(recording, torchcodec.decoders.AudioDecoder):
        samples = recording.get_all_samples()
        return samples.data.numpy(), samples.sample_rate
    if isinstance(recording, Mapping):
        return read_mapping(recording)
    if isinstance(recording, (str, Path)):
        name = str(recording)
        return decode(fetch(name) if name.startswith(("http://", "https://")) else Path(recording), name)
    if isinstance(recording, bytes):
        return decode(recording, "the recording")
    if isinstance(recording, torch.Tensor):
        return from_tensor(recording), None
    if isinstance(recording, np.ndarray):
        return recording, None
    raise ValueError(
        f"a recording must be a path, URL, bytes, array, tensor or dict with its rate, got {type(recording).__name__}"
    )


def read_mapping(recording: Mapping[str, Any]) -> tuple[np.ndarray, float | None]:
    """An entry of a `datasets` column: samples with their rate, or a file as bytes or path."""
    for key in ("array", "raw"):
        if key in recording and "sampling_rate" in recording:
            samples = recording[key]
            array = read_recording(samples)[0] if isinstance(samples, torch.Tensor) else np.asarray(samples)
            return array, recording["sampling_rate"]
    for key in ("bytes", "path"):
        if recording.get(key) is not None:
            return read_recording(recording[key])
    raise ValueError(
        f'a recording in a dict needs "sampling_rate" and "array" or "raw", or "bytes" or "path", got {list(recording)}'
    )


def fetch(url: str) -> bytes:
    """The body at a URL; OSError that names it where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=URL_SECONDS) as response:
            return response.read()
    except OSError as error:
        raise OSError(f"{url} cannot be fetched: {error}") from error


def decode(source: bytes | Path, name: str) -> tuple[np.ndarray, int]:
    """An audio file as float32, (time,) if mono, else (channels, time), and its rate in Hz.

    Where `mvat_hf` is installed it reads the file: compressed audio, videos, and a word on what is missing of them.
    """
    try:
        from mvat_hf.data.audio import EncodedAudio, read_audio
    except ImportError:
        return decode_by_soundfile(source if isinstance(source, bytes) else source.read_bytes(), name)
    audio, rate = read_audio(EncodedAudio(source, name) if isinstance(source, bytes) else source)
    return (audio[0] if len(audio) == 1 else audio), rate


def decode_by_soundfile(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """`decode` of what libsndfile alone reads."""
    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} is a file, which takes soundfile to decode: pip install soundfile") from error
    try:
        audio, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{name} cannot be read as audio (mvat_hf reads more): {error.error_string}") from error
    return np.ascontiguousarray(audio.T), rate


__all__ = ["AudioToAudioPipeline"]
