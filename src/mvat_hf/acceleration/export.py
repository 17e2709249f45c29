"""Export to ONNX: the folded network between normalisation and trimming, checked against PyTorch as it is written.

The graph takes `normalized` (1, T) and gives `estimate` (1, T) for every T that the U-Net reproduces,
T = stride^depth n + constant. Normalisation and padding stay outside, as traced into the graph they would freeze the
padded length of one input; `runtime.OnnxManner` does them. The file's metadata says all that another program needs to
do the same, in words and numbers (`processing_of`).
"""

import copy
import io
import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..models.manner import MannerConfig, MannerModel
from ..models.manner.modeling_manner import HIGH_PASS_ORDER, HIGH_PASS_SECONDS, HIGH_PASS_STEP, SCALE_EPS
from ..utils.errors import extra
from ..utils.files import replaced_at_end
from ..utils.records import weights_hash
from .folded import FoldedManner
from .folding import unknown_part
from .graph_cache import OPSET
from .runtime import OnnxManner

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
# of the peak of PyTorch's output, on noise; int8 is not exact, its limit only tells a broken graph from a coarse one
TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 1e-4, "int8": 0.15}
CHECKED_SAMPLES = (1, 4000, 16001, 30011)  # none is as long as what is traced
TRACED_SAMPLES = 20000
KEPT_FROM_INT8 = ("/input/", "encoder.0/", "/mask/", "/output/")  # parts of the names of nodes


def export_onnx(
    model: MannerModel,
    path: str | Path,
    *,
    precision: str = "fp32",
    chunk_seconds: float | None = None,
    checkpoint_sha256: str | None = None,
) -> float:
    """
    Write `model` to an ONNX file that runs alone; the largest error against PyTorch, relative to the output's peak.

    Args:
        precision: "fp32"; "fp16" for weights of 16 bits, half the file, computed in float32 (ONNX Runtime's CPU kernels
            would be no faster in 16 bits); "bf16" for what OpenVINO computes in bfloat16 on CPUs that know it, faster,
            and other runtimes in float32 (so it is checked); "int8" for matrix products of 8-bit weights and
            activations (scaled as they come), two fifths of the file, which costs tenths of PESQ.
        chunk_seconds: the one length the graph takes, for runtimes without dynamic shapes; None for any length.
        checkpoint_sha256: of the files that `model` was loaded from, see `Checkpoint`: who loads these may then take
            the graph in their place.

    Raises:
        ValueError: unknown precision, `chunk_seconds` below a sample or without end, a model with parts that are not a
            MANNER's (adapters, quantised layers, hooks), or a graph that differs from PyTorch by more than `TOLERANCES`
            of the peak; nothing is written then.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}")
    rate, samples = model.config.sampling_rate, None
    if chunk_seconds is not None:
        samples = round(chunk_seconds * rate) if 0 < chunk_seconds < math.inf else 0
    if samples == 0:
        raise ValueError(f"chunk_seconds must be finite and give at least one sample, got {chunk_seconds}")
    graph = onnx_graph(model, precision, samples, checkpoint_sha256)
    error = parity_error(model, OnnxManner(graph), CHECKED_SAMPLES if samples is None else (samples,))
    if not error <= TOLERANCES[precision]:
        raise ValueError(
            f"the exported graph differs from PyTorch by {error:.1e} of the peak, expected {TOLERANCES[precision]:g}"
        )
    with replaced_at_end(Path(path)) as partial:
        partial.write_bytes(graph)
    return error


def onnx_graph(
    model: MannerModel, precision: str = "fp32", samples: int | None = None, checkpoint_sha256: str | None = None
) -> bytes:
    """The ONNX file's content: of `precision`, and for `samples` only if that is given; errors as of `export_onnx`."""
    if part := unknown_part(model):
        raise ValueError(f"only a MANNER as it is made can be exported, without adapters, hooks and the like: {part}")
    with extra("export"):
        import onnx

    # int8 is for matrix products: convolutions would stay in float32
    graph = onnx.load_from_string(trace(model, samples, convolve_rows=precision != "int8"))
    if precision in CHANGES:
        graph = CHANGES[precision](graph)
    metadata = {
        "config": json.dumps(model.config.to_diff_dict()),
        "sampling_rate": model.config.sampling_rate,
        "depth": model.config.depth,
        "stride": model.config.stride,
        "kernel_size": model.config.kernel_size,
        "samples": "any" if samples is None else samples,
        "precision": precision,
        "weights_sha256": weights_hash(model),
        "processing": json.dumps(processing_of(model.config, samples)),
    }
    if checkpoint_sha256:
        metadata["checkpoint_sha256"] = checkpoint_sha256
    onnx.helper.set_model_props(graph, {name: str(value) for name, value in metadata.items()})
    return graph.SerializeToString()


def processing_of(config: MannerConfig, samples: int | None) -> dict[str, Any]:
    """How audio (T,) becomes `normalized` (1, padded T) and `estimate` becomes audio again: steps in their order.

    Args:
        samples: the one T that the graph is for; None for any.
    """
    rate = config.sampling_rate
    high_pass = {
        "hertz": config.high_pass_hz,
        "order": HIGH_PASS_ORDER,
        "reach_samples": int(HIGH_PASS_SECONDS * rate),
        "size_step": HIGH_PASS_STEP,
        "steps": [
            "x = x - mean(x)",
            "size = the smallest multiple of size_step that is at least len(x) + reach_samples",
            "spectrum = rfft(x, size), zeros after the end of x; bin k is at f = k * sampling_rate / size Hz",
            "spectrum *= r / (1 + r), r = (f / hertz)^(2 order): 0 at f = 0, and 1 far above hertz",
            "x = the first len(x) samples of irfft(spectrum, size)",
        ],
    }
    return {
        "sampling_rate": rate,
        "input": "x, one channel of float32 in [-1, 1]; channels are enhanced each for itself",
        "length": "any"
        if samples is None
        else {
            "samples": samples,
            "steps": [
                "x that is shorter is mirrored at its end, last sample first, to samples; the output is cut back"
            ],
        },
        "high_pass": high_pass if config.high_pass_hz else None,
        "normalisation": {
            "epsilon": SCALE_EPS,
            "steps": [
                "scale = standard deviation of x, divided by len(x) - 1; |x| where x is a single sample",
                "x = x / (scale + epsilon)",
            ],
        },
        "padding": {
            "kernel_size": config.kernel_size,
            "stride": config.stride,
            "depth": config.depth,
            "steps": [
                "n = len(x)",
                "depth times: n = max(ceil((n - kernel_size) / stride) + 1, 1)",
                "depth times: n = (n - 1) * stride + kernel_size",
                "normalized = x, then zeros up to n samples",
            ],
        },
        "output": {"steps": ["the first len(x) samples of estimate, times scale"]},
    }


def trace(model: MannerModel, samples: int | None, convolve_rows: bool) -> bytes:
    """The graph as PyTorch's tracing exporter gives it (the newer one takes minutes for this network)."""
    audio = torch.randn(1, model.config.padded_length(samples or TRACED_SAMPLES))
    axes = None if samples else {"normalized": {1: "time"}, "estimate": {1: "time"}}
    folded = FoldedManner(model, torch.float32, tiled=False, convolve_rows=convolve_rows).cpu().eval()
    written: Any = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the exporter's age, and shapes that `parity_error` checks
        torch.onnx.export(
            folded, (audio,), written, dynamo=False, opset_version=OPSET,
            input_names=["normalized"], output_names=["estimate"], dynamic_axes=axes,
        )  # fmt: skip
    return written.getvalue()


def halved(graph):
    """Weights of 16 bits, made float32 as the file is loaded."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in graph.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            name, stored = weight.name, f"{weight.name}_fp16"
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), stored))
            casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]  # in the order of computation
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    onnx.checker.check_model(graph)
    return graph


def quantized(graph):
    """
    Matrix products with weights of 8 bits, a scale for every output channel, and activations of 8 bits.

    Weights are unsigned: with signed ones sums of two products overflow their 16 bits on CPUs without VNNI, and the
    output differs there by a third of its peak. The ends stay: 8 bits of samples and of what is next to them cost more
    PESQ than all the rest.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    ends = [node.name for node in graph.graph.node if any(part in node.name for part in KEPT_FROM_INT8)]
    ends += [f"{name}_MatMul" for name in ends]  # what a product and sum (Gemm) is called once it is taken apart
    add_pre_process_metadata(graph)  # else a warning recommends a preparation, which changes nothing here
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantize_dynamic(
            graph, target, op_types_to_quantize=["MatMul"], nodes_to_exclude=ends, per_channel=True,
            weight_type=QuantType.QUInt8,
        )  # fmt: skip
        return onnx.load(target)


CHANGES = {"fp16": halved, "int8": quantized}  # of the graph; "bf16" is a matter of the runtime


def parity_error(model: MannerModel, exported: OnnxManner, lengths: tuple[int, ...]) -> float:
    """Largest difference between the two on noise of `lengths` samples, relative to the peak of PyTorch's output, which
    is that of the plain graph in float32, however `model` is cast or fused."""
    generator, errors = torch.Generator().manual_seed(0), []
    plain = copy.deepcopy(model).unfuse().float().eval()
    with torch.no_grad():
        for length in lengths:
            audio = 0.1 * torch.randn(1, length, generator=generator)
            expected = plain(audio.to(plain.device)).audio_values.cpu()
            difference = (exported(audio).audio_values - expected).abs().max()
            errors.append(float(difference / expected.abs().max().clamp(min=1e-9)))
    return float(np.max(errors))  # NaN if there is one


__all__ = ["PRECISIONS", "export_onnx", "onnx_graph"]
