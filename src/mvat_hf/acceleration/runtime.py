"""An exported MANNER run by other runtimes, behind the protocol `Enhancer`.

Arrays go in and come out by numpy and the runtime alone: torch and transformers are imported for tensors only.
ONNX Runtime takes every length as it comes. OpenVINO is faster on a graph that is compiled for one length, and computes
a file of precision "bf16" in bfloat16 where the CPU does.
"""

import json
import math
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..models.manner.chunking_manner import padded_length
from ..utils.cores import computing_threads
from ..utils.errors import extra

if TYPE_CHECKING:
    import torch

    from ..models.manner import MannerOutput

KEPT_LENGTHS = 4  # for which OpenVINO keeps a compiled graph
KEPT_KERNELS = 16  # of a layer, for lengths that came once; OpenVINO's 5000 take gigabytes in a folder of short files


class Graph(Protocol):
    """A graph that a runtime has loaded, with the metadata of its file."""

    metadata: dict[str, str]
    computes_in: str  # "float32" or "bfloat16"

    def __call__(self, normalized: np.ndarray) -> np.ndarray:
        """`estimate` (1, T) of `normalized` (1, T)."""
        ...


class OnnxRuntimeGraph:
    """A graph (file or content) in ONNX Runtime."""

    computes_in = "float32"

    def __init__(self, source: str | bytes, precision: str = "exact", at_once: int = 1):
        with extra("export"):
            import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(computing_threads() // at_once, 1)
        self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, normalized: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"normalized": normalized})[0]


class OpenVinoGraph:
    """A graph (file or content) in OpenVINO: compiled for any length, and for a length (1 to 2 s) when it comes again.

    So chunks and live audio run in the faster form, and a folder of files is not compiled for each of them.
    """

    def __init__(self, source: str | bytes, precision: str = "exact", at_once: int = 1):
        self.core, self.threads, self.at_once = openvino_core(), computing_threads(), at_once
        self.network = self.core.read_model(source)
        told = self.network.has_rt_info("framework")
        self.metadata: dict[str, str] = self.network.get_rt_info("framework").value if told else {}
        known = self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        wanted = precision == "fast" or self.metadata.get("precision") == "bf16"
        self.precision = "bf16" if wanted and "BF16" in known else "f32"
        self.computes_in = "bfloat16" if self.precision == "bf16" else "float32"
        self.for_any_length = self.compiled(self.network)
        self.last_length = 0
        self.by_length: OrderedDict[int, Any] = OrderedDict()  # the least recently used first
        self.turn = threading.Lock()  # to choose a graph
        self.passes = threading.Semaphore(at_once)  # more would each take memory, and be no faster

    def compiled(self, network: Any) -> Any:
        options = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": self.at_once,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        try:
            few_kernels = {"CPU_RUNTIME_CACHE_CAPACITY": str(KEPT_KERNELS)}
            return self.core.compile_model(network, "CPU", {**options, **few_kernels})
        except RuntimeError:  # a version that has no such option
            return self.core.compile_model(network, "CPU", options)

    def __call__(self, normalized: np.ndarray) -> np.ndarray:
        with self.turn:
            compiled = self.for_length(normalized.shape[1])
        with self.passes:
            # a request of its own for each pass: they compute for one thread at a time
            return compiled.create_infer_request().infer([normalized])[0]

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


@cache
def openvino_core() -> Any:
    """OpenVINO's `Core`, one for the process.

    A `Core` gives the thread a signal stack of its own; when it is deleted it restores the stack from before it. If two
    are deleted in the order in which they were made, the second restores the first one's stack, which is freed. The
    next signal (Ctrl-C, a data loader's worker) then ends the process in a segmentation fault (OpenVINO 2026.4).
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # else importing sends a message
    with extra("openvino"):
        import openvino

    # its first look into a tensor prepares numpy for it; two threads that do so at once can wait for each other
    openvino.Tensor(np.zeros(1, np.float32)).data[:] = 0
    return openvino.Core()


PRECISIONS = ("exact", "fast")
RUNTIMES: dict[str, type[OnnxRuntimeGraph] | type[OpenVinoGraph]] = {
    "onnx": OnnxRuntimeGraph,
    "openvino": OpenVinoGraph,
}


@dataclass(frozen=True)
class GraphConfig:
    """How audio becomes the input of an exported file, in numbers; see `export.processing_of`.

    `high_pass_hz` is the corner of the filter (0: none); `size_step` divides the size of its transform.
    """

    sampling_rate: int
    kernel_size: int
    stride: int
    depth: int
    epsilon: float
    high_pass_hz: float = 0.0
    high_pass_order: int = 0
    reach_samples: int = 0
    size_step: int = 1

    @classmethod
    def from_processing(cls, told: dict[str, Any]) -> "GraphConfig":
        """From the file's `processing`; KeyError if a value is missing."""
        sizes = {name: told["padding"][name] for name in ("kernel_size", "stride", "depth")}
        config = cls(told["sampling_rate"], **sizes, epsilon=told["normalisation"]["epsilon"])
        if not (high_pass := told["high_pass"]):
            return config
        reach, step = high_pass["reach_samples"], high_pass["size_step"]
        return replace(
            config, high_pass_hz=high_pass["hertz"], high_pass_order=high_pass["order"], reach_samples=reach,
            size_step=step,
        )  # fmt: skip

    def padded_length(self, samples: int) -> int:
        """As in `MannerConfig`."""
        return padded_length(samples, self.kernel_size, self.stride, self.depth)

    def high_passed(self, rows: np.ndarray) -> np.ndarray:
        """Audio (B, T) without what is below `high_pass_hz`, in float64; see `modeling_manner.high_pass`."""
        rows = rows.astype(np.float64)
        if not self.high_pass_hz:
            return rows
        samples = rows.shape[-1]
        size = -(-(samples + self.reach_samples) // self.size_step) * self.size_step
        spectrum = np.fft.rfft(rows - rows.mean(axis=-1, keepdims=True), size)
        # from four times as high on the response is 1 but for rounding
        turned_down = min(math.ceil(4 * self.high_pass_hz * size / self.sampling_rate), spectrum.shape[-1])
        ratio = np.arange(turned_down) * (self.sampling_rate / size / self.high_pass_hz)
        power = ratio ** (2 * self.high_pass_order)
        spectrum[:, :turned_down] *= power / (1 + power)
        return np.fft.irfft(spectrum, size)[:, :samples]

    def normalize(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As in `MannerModel`: (B, T) to (B, padded T), and the deviation (B, 1); float32."""
        filtered = self.high_passed(rows)
        samples = filtered.shape[-1]
        # a single sample has no deviation
        scale = filtered.std(axis=-1, keepdims=True, ddof=1) if samples > 1 else np.abs(filtered)
        normalized = np.zeros((len(filtered), self.padded_length(samples)), dtype=np.float32)
        normalized[:, :samples] = filtered / (scale + self.epsilon)
        return normalized, scale.astype(np.float32)


class OnnxManner:
    """
    What `export_onnx` wrote, on the CPU with as many threads as PyTorch has, or would have; evaluation only, one row at
    a time.

    Args:
        source: the ONNX file, or its content.
        runtime: "onnx" (ONNX Runtime) or "openvino" (OpenVINO).
        precision: "exact", or "fast" for bfloat16 where the runtime (OpenVINO) and the CPU compute in it.
        at_once: how many passes, of as many Python threads, share the threads that there are.

    Attributes:
        config: what the file says of audio.
        metadata: what the file says of itself: config, precision, weights_sha256, ….
        samples: the one length that the file takes; None if it takes any.

    Raises:
        FileNotFoundError: no such file. ValueError: not an ONNX file, or not one that `mvat export` wrote; an unknown
        runtime.
    """

    def __init__(self, source: str | Path | bytes, runtime: str = "onnx", precision: str = "exact", at_once: int = 1):
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}")
        name = "the graph" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise FileNotFoundError(f"no such file: {source}")
        try:
            self.graph: Graph = RUNTIMES[runtime](source if isinstance(source, bytes) else name, precision, at_once)
        except ImportError:
            raise
        except Exception as error:  # the runtimes' errors share no class of their own
            raise ValueError(f"{name} is not an ONNX file that runs here: {error}") from error
        self.made_of = source, runtime, precision
        self.at_once = at_once
        self.metadata = self.graph.metadata
        try:
            self.config = GraphConfig.from_processing(json.loads(self.metadata["processing"]))
            fixed = self.metadata["samples"]
        except (KeyError, ValueError, TypeError) as error:
            told = "does not hold a MANNER's metadata, expected a file that mvat export wrote"
            raise ValueError(f"{name} {told}") from error
        self.samples = None if fixed == "any" else int(fixed)

    @property
    def device(self) -> "torch.device":
        import torch

        return torch.device("cpu")

    @property
    def dtype(self) -> "torch.dtype":
        import torch

        return torch.float32

    @property
    def computes_in(self) -> str:
        """ "float32", or "bfloat16" where the runtime does."""
        return self.graph.computes_in

    def eval(self) -> "OnnxManner":
        """Itself: there is no other mode."""
        return self

    def __reduce__(self) -> tuple:
        """Copied and pickled it is loaded anew, of its file: the runtimes' own objects are neither."""
        return type(self), (*self.made_of, self.at_once)

    def for_several(self, at_once: int) -> "OnnxManner":
        """The same for so many passes at once."""
        return OnnxManner(*self.made_of, at_once) if at_once > 1 else self

    def enhance_rows(self, rows: np.ndarray) -> np.ndarray:
        """
        Noisy audio (B, T) to enhanced audio (B, T) float32.

        A file for one length takes shorter audio too: mirrored at its end to that length, and cut back. That is not
        what the model does, which would hear the short audio alone.

        Raises:
            ValueError: audio longer than the one length of the file.
        """
        samples = rows.shape[-1]
        if self.samples is not None and samples > self.samples:
            raise ValueError(f"the ONNX file takes {self.samples} samples at a time (see mvat export), got {samples}")
        if self.samples is not None:
            rows = np.pad(rows, ((0, 0), (0, self.samples - samples)), mode="symmetric")
        normalized, scale = self.config.normalize(rows)
        estimate = np.concatenate([self.graph(row[None]) for row in normalized])
        return estimate[:, :samples] * scale

    def __call__(self, input_values: "torch.Tensor") -> "MannerOutput":
        """`enhance_rows` of a tensor (B, T), as a MannerModel gives it: in `audio_values` (B, T)."""
        import torch

        from ..models.manner import MannerOutput

        rows = input_values.detach().cpu().float().numpy()
        return MannerOutput(audio_values=torch.from_numpy(self.enhance_rows(rows)))


__all__ = ["RUNTIMES", "OnnxManner"]
