"""An exported MANNER run by ONNX Runtime, behind the face that `ChunkedEnhancer` and `enhance` know of a model."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .errors import extra
from .models.manner import MannerConfig, MannerModel
from .models.manner.modeling_manner import MannerOutput


class OnnxManner(nn.Module):
    """
    What `export_onnx` wrote, on the CPU with as many threads as PyTorch has; evaluation only, one row at a time.

    Args:
        source: the ONNX file, or its content.

    Attributes:
        metadata: what the file says of itself: config, precision, weights_sha256, ….
        samples: the one length that the file takes; None if it takes any.

    Raises:
        FileNotFoundError: no such file. ValueError: not an ONNX file, or not one that `mvat export` wrote.
    """

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, source: str | Path | bytes):
        super().__init__()
        with extra("export"):
            import onnxruntime

        name = "the graph" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise FileNotFoundError(f"no such file: {source}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(
                source if isinstance(source, bytes) else name, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise ValueError(f"{name} is not an ONNX file that runs here: {error}") from error
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        if "config" not in self.metadata:
            raise ValueError(f"{name} does not hold a MANNER's metadata, expected a file that mvat export wrote")
        self.config = MannerConfig.from_dict(json.loads(self.metadata["config"]))
        fixed = self.metadata["samples"]
        self.samples = None if fixed == "any" else int(fixed)
        self.eval()

    @torch.no_grad()
    def forward(self, input_values: Tensor) -> MannerOutput:
        """
        Noisy audio (B, T) to `audio_values` (B, T).

        A file for one length takes shorter audio too: mirrored at its end to that length, and cut back. That is not
        what the model does, which would hear the short audio alone.

        Raises:
            ValueError: audio longer than the one length of the file.
        """
        samples = input_values.shape[-1]
        if self.samples is not None and samples > self.samples:
            raise ValueError(f"the ONNX file takes {self.samples} samples at a time (see mvat export), got {samples}")
        if self.samples is not None:
            longer = ((0, 0), (0, self.samples - samples))
            input_values = torch.from_numpy(np.pad(input_values.numpy(), longer, mode="symmetric"))
        normalized, scale = MannerModel.normalize(self, input_values)  # type: ignore[arg-type]  # needs the config only
        rows = [self.session.run(None, {"normalized": row.numpy()})[0] for row in normalized.split(1)]
        estimate = torch.cat([torch.from_numpy(row) for row in rows])
        return MannerOutput(audio_values=estimate[:, :samples] * scale)


__all__ = ["OnnxManner"]
