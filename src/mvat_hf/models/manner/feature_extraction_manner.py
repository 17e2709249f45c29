"""Feature extractor of MANNER: checks the audio and its sampling rate, and batches it."""

from typing import ClassVar

import numpy as np
import torch
from transformers import BatchFeature, SequenceFeatureExtractor

try:
    from mvat_hf.models.services import FeatureExtractorServices
except ImportError:  # the code came with a checkpoint and stands alone
    FeatureExtractorServices = type("Alone", (), {})  # type: ignore[assignment,misc]


class MannerFeatureExtractor(FeatureExtractorServices, SequenceFeatureExtractor):
    """
    Raw audio in, `input_values` (B, T) float32 out; MANNER normalises inside the model.

    Args:
        sampling_rate: rate of the audio that the model works on, in Hz.

    Example:
        >>> import numpy as np
        >>> MannerFeatureExtractor()(np.zeros(16000), sampling_rate=16000)["input_values"].shape
        (1, 16000)
    """

    model_input_names: ClassVar[list[str]] = ["input_values"]

    def __init__(self, feature_size: int = 1, sampling_rate: int = 16000, padding_value: float = 0.0, **kwargs):
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)

    def __call__(
        self,
        raw_audio,
        sampling_rate: int | None = None,
        padding: bool = False,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """
        Args:
            raw_audio: one recording (T,), a batch (B, T), or a list of recordings; mono, numpy, tensor or list.
            sampling_rate: of `raw_audio` in Hz; required, as a wrong rate would pass unnoticed.
            padding: zeros on the right where lengths differ. The model is not invariant to it: without `padding`,
                unequal lengths are an error.
            return_tensors: "pt" or "np" (default).

        Raises:
            ValueError: no or another sampling rate, no samples, NaN or infinity, several channels, unequal lengths.
        """
        if sampling_rate != self.sampling_rate:
            got = "no sampling_rate" if sampling_rate is None else f"{sampling_rate} Hz"
            raise ValueError(f"expected audio at {self.sampling_rate} Hz, got {got}: resample, or use mvat_hf.enhance")
        if isinstance(raw_audio, (list, tuple)) and len(raw_audio) and np.ndim(raw_audio[0]) > 0:
            recordings = [as_array(recording) for recording in raw_audio]
        else:
            array = as_array(raw_audio)
            recordings = list(array) if array.ndim == 2 else [array]
        if not recordings:
            raise ValueError("expected at least one recording, got none")
        for recording in recordings:
            if recording.ndim != 1 or recording.size == 0:
                raise ValueError(f"expected mono recordings of shape (time,) with samples, got {recording.shape}")
            if not np.isfinite(recording).all():
                raise ValueError("expected finite samples, got NaN or infinity")
        lengths = [len(recording) for recording in recordings]
        if len(set(lengths)) > 1 and not padding:
            raise ValueError(f"expected recordings of one length, got {lengths}: batch by length or set padding=True")
        batch = np.full((len(recordings), max(lengths)), self.padding_value, dtype=np.float32)
        for row, recording in zip(batch, recordings, strict=True):
            row[: len(recording)] = recording
        return BatchFeature({"input_values": batch}, tensor_type=return_tensors)


def as_array(audio) -> np.ndarray:
    """Numbers, an array or a tensor on any device as a float32 array."""
    return np.asarray(from_tensor(audio) if isinstance(audio, torch.Tensor) else audio, dtype=np.float32)


def from_tensor(tensor: torch.Tensor) -> np.ndarray:
    """A tensor on any device, with or without a gradient, as an array; bfloat16, unknown to numpy, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


__all__ = ["MannerFeatureExtractor"]
