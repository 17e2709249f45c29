"""Checkpoints as exported graphs in the runtime chosen for this CPU; a graph is found, or exported into the cache."""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..acceleration.graph_cache import cached_graph, drop_oldest, find_graph
from ..acceleration.runtime import OnnxManner
from ..acceleration.runtime_choice import choose_runtime, has_bfloat16, measured
from ..utils.errors import message_of
from .checkpoints import Checkpoint, alike_in_package, find_checkpoint

if TYPE_CHECKING:
    from ..models.manner import MannerModel

NAMES = {"torch": "PyTorch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}

logger = logging.getLogger(__name__)


def load_exported(path: str, runtime: str, precision: str) -> OnnxManner:
    """An exported file in `runtime`. "auto": ONNX Runtime if it is installed; else OpenVINO, also for precision "fast"
    on CPUs with bfloat16."""
    if runtime == "torch":
        raise ValueError(f"{path} was exported for other runtimes, got runtime torch")
    if runtime == "auto":
        openvino = find_spec("openvino") is not None
        faster = openvino and precision == "fast" and has_bfloat16()
        runtime = "openvino" if faster or (openvino and find_spec("onnxruntime") is None) else "onnx"
    return log_runtime(path, OnnxManner(path, runtime, precision), runtime)


def load_checkpoint(
    model: str | Path, runtime: str, precision: str, seconds: float | None, options: dict[str, Any]
) -> "OnnxManner | MannerModel | None":
    """
    The model to enhance with, exported or loaded; None if PyTorch is to load the checkpoint.

    Args:
        runtime: "auto", "onnx" or "openvino".
        precision, seconds: see `load_model`.
        options: of `from_pretrained`.

    Raises:
        Errors of `from_pretrained`, if the graph is not there yet; of exporting, unless the runtime is "auto".
    """
    chosen = choose_runtime(seconds, precision == "fast") if runtime == "auto" else runtime
    if chosen == "torch":
        return None
    checkpoint = find_checkpoint(model, options.get("revision"), options.get("token"))
    key = hash_of(checkpoint, any_attention=runtime != "auto")
    if key is None and runtime == "auto":
        return None
    if checkpoint is not None and key is not None:
        graph = find_graph(key, [checkpoint.weights.parent, *alike_in_package(key)], chosen, precision)
        if graph is not None:
            return log_runtime(model, graph, chosen)
    if runtime == "auto" and any(find_spec(package) is None for package in ("onnx", "onnxruntime")):
        logger.info(f"{model}: PyTorch; to export it takes onnx and onnxruntime")
        return None
    return exported(model, key, chosen, precision, runtime == "auto", options)


def hash_of(checkpoint: Checkpoint | None, any_attention: bool) -> str | None:
    """The hash that identifies a checkpoint; None if it cannot be read. Unless `any_attention`, also None if a level
    above the deepest has attention: a chunk then takes gigabytes in ONNX Runtime."""
    if checkpoint is None:
        return None
    try:
        return checkpoint.sha256() if any_attention or checkpoint.attends_deepest_at_most() else None
    except (OSError, ValueError, TypeError):  # `from_pretrained` tells it
        return None


def exported(
    model: str | Path, key: str | None, runtime: str, precision: str, falls_back: bool, options: dict[str, Any]
) -> "OnnxManner | MannerModel":
    """The checkpoint in `runtime`, exported into the cache if that can be written. If exporting fails and `falls_back`,
    it runs in PyTorch, with a warning."""
    import torch

    from ..acceleration.export import export_onnx, onnx_graph
    from ..models.manner import MannerModel

    loaded: Any = MannerModel.from_pretrained(model, **options)
    if falls_back and loaded.dtype != torch.float32:
        return loaded
    try:
        if key is not None and loaded.dtype == torch.float32:
            try:
                path = cached_graph(key)
                export_onnx(loaded, path, checkpoint_sha256=key)
                drop_oldest(path.parent)
                return log_runtime(model, OnnxManner(path, runtime, precision), runtime)
            except OSError as error:  # no folder that can be written
                logger.info(f"{model}: the exported graph is not kept: {message_of(error)}")
        return log_runtime(model, OnnxManner(onnx_graph(loaded), runtime, precision), runtime)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        if not falls_back:
            raise
        warnings.warn(f"{model} is run by PyTorch, as {NAMES[runtime]} failed: {message_of(error)}", stacklevel=2)
        return loaded


def log_runtime(model: str | Path, graph: OnnxManner, runtime: str) -> OnnxManner:
    """`graph` itself; the log says what runs it."""
    loss = measured()["bfloat16"]
    cost = "float32"
    if graph.computes_in == "bfloat16":
        cost = f"bfloat16 (PESQ {loss['pesq_change']:+.3f}, mean of {loss['pairs']} recordings)"
    logger.info(f"{model}: {NAMES[runtime]}, {cost}")
    return graph


__all__ = ["load_checkpoint", "load_exported"]
