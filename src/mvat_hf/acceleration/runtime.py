"""An exported MANNER run by other runtimes, behind the face that `ChunkedEnhancer` and `enhance` know of a model.

ONNX Runtime takes every length as it comes. OpenVINO is faster on a graph that is compiled for one length, and computes
a file of precision "bf16" in bfloat16 where the CPU does.
"""

import json
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..models.manner import MannerConfig, MannerModel
from ..models.manner.modeling_manner import MannerOutput
from ..utils.errors import extra

KEPT_LENGTHS = 4  # for which OpenVINO keeps a compiled graph


class Graph(Protocol):
    """A graph that a runtime has loaded, with the metadata of its file."""

    metadata: dict[str, str]

    def __call__(self, normalized: np.ndarray) -> np.ndarray:
        """`estimate` (1, T) of `normalized` (1, T)."""
        ...


class OnnxRuntimeGraph:
    """A graph (file or content) in ONNX Runtime."""

    def __init__(self, source: str | bytes):
        with extra("export"):
            import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, normalized: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"normalized": normalized})[0]


class OpenVinoGraph:
    """A graph (file or content) in OpenVINO: compiled for any length, and for a length (1 to 2 s) when it comes again.

    So chunks and live audio run in the faster form, and a folder of files is not compiled for each of them.
    """

    def __init__(self, source: str | bytes):
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # else importing sends a message
        with extra("openvino"):
            import openvino

        self.core, self.threads = openvino.Core(), torch.get_num_threads()
        self.network = self.core.read_model(source)
        told = self.network.has_rt_info("framework")
        self.metadata: dict[str, str] = self.network.get_rt_info("framework").value if told else {}
        known = self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "bf16" if self.metadata.get("precision") == "bf16" and "BF16" in known else "f32"
        self.for_any_length = self.compiled(self.network)
        self.last_length = 0
        self.by_length: OrderedDict[int, Any] = OrderedDict()  # the least recently used first
        self.turn = threading.Lock()  # a compiled graph computes for one thread at a time

    def compiled(self, network: Any) -> Any:
        return self.core.compile_model(
            network, "CPU", {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False,
                             "INFERENCE_PRECISION_HINT": self.precision},
        )  # fmt: skip

    def __call__(self, normalized: np.ndarray) -> np.ndarray:
        with self.turn:
            return self.for_length(normalized.shape[1])([normalized])[0]

    def for_length(self, length: int) -> Any:
        """The graph for `length` samples if they were asked for before, else that for any length."""
        before, self.last_length = self.last_length, length
        if length == before and length not in self.by_length and self.network.is_dynamic():
            network = self.network.clone()
            network.reshape([1, length])
            self.by_length[length] = self.compiled(network)
            if len(self.by_length) > KEPT_LENGTHS:
                self.by_length.popitem(last=False)
        if length in self.by_length:
            self.by_length.move_to_end(length)
        return self.by_length.get(length, self.for_any_length)


RUNTIMES: dict[str, type[OnnxRuntimeGraph] | type[OpenVinoGraph]] = {
    "onnx": OnnxRuntimeGraph,
    "openvino": OpenVinoGraph,
}


class OnnxManner(nn.Module):
    """
    What `export_onnx` wrote, on the CPU with as many threads as PyTorch has; evaluation only, one row at a time.

    Args:
        source: the ONNX file, or its content.
        runtime: "onnx" (ONNX Runtime) or "openvino" (OpenVINO).

    Attributes:
        metadata: what the file says of itself: config, precision, weights_sha256, ….
        samples: the one length that the file takes; None if it takes any.

    Raises:
        FileNotFoundError: no such file. ValueError: not an ONNX file, or not one that `mvat export` wrote; an unknown
        runtime.
    """

    device, dtype = torch.device("cpu"), torch.float32
    # which need the configuration only
    heard: Any = MannerModel.heard
    normalize: Any = MannerModel.normalize

    def __init__(self, source: str | Path | bytes, runtime: str = "onnx"):
        super().__init__()
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime}")
        name = "the graph" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise FileNotFoundError(f"no such file: {source}")
        try:
            self.graph: Graph = RUNTIMES[runtime](source if isinstance(source, bytes) else name)
        except ImportError:
            raise
        except Exception as error:  # the runtimes' errors share no class of their own
            raise ValueError(f"{name} is not an ONNX file that runs here: {error}") from error
        self.metadata = self.graph.metadata
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
        normalized, scale = self.normalize(input_values)
        rows = [self.graph(row.numpy()) for row in normalized.split(1)]
        estimate = torch.cat([torch.from_numpy(row) for row in rows])
        return MannerOutput(audio_values=estimate[:, :samples] * scale)


__all__ = ["RUNTIMES", "OnnxManner"]
