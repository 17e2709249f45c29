"""The exported graphs of checkpoints: beside their weights, in the package, and in the user's cache."""

import os
from contextlib import suppress
from pathlib import Path

from .. import __version__
from ..utils.files import remove_stale
from .runtime import OnnxManner

GRAPH = "model.onnx"  # beside the weights
OPSET = 17
KEPT_GRAPHS = 16  # in the cache, the least recently used goes first


def find_graph(
    checkpoint_sha256: str, folders: list[Path], runtime: str, precision: str = "exact"
) -> OnnxManner | None:
    """
    The float32 graph of a checkpoint, for any length, loaded; None where there is none. Whatever else is there, of
    other weights or unreadable, is passed over.

    Args:
        folders: that may hold it as `GRAPH`, before the cache.
        runtime, precision: see `OnnxManner`.
    """
    paths = [folder / GRAPH for folder in folders]
    with suppress(OSError):  # there may be no place for a cache
        paths.append(cached_graph(checkpoint_sha256))
    for path in paths:
        try:
            model = OnnxManner(path, runtime, precision)
        except (OSError, ValueError):
            continue
        told = {"checkpoint_sha256": checkpoint_sha256, "precision": "fp32", "samples": "any"}
        if told.items() <= model.metadata.items():
            if path.name != GRAPH:  # of the cache
                with suppress(OSError):
                    os.utime(path)  # it was used now
            return model
    return None


def cached_graph(checkpoint_sha256: str) -> Path:
    """Path in the cache of the graph that this version exports from a checkpoint; OSError without a home folder."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OSError(str(error)) from error
    return cache / "mvat_hf" / f"{checkpoint_sha256}-{__version__}-opset{OPSET}.onnx"


def drop_oldest(folder: Path) -> None:
    """Leave the `KEPT_GRAPHS` that were used last, and nothing that a kill left half-written."""
    remove_stale(folder)
    with suppress(OSError):  # another process may do the same
        for path in sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime)[:-KEPT_GRAPHS]:
            path.unlink()


__all__ = ["GRAPH", "OPSET", "cached_graph", "drop_oldest", "find_graph"]
