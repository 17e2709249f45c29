"""Options that several commands share, and what their values are checked for."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def parse_path(text: str) -> Path:
    """A path; an empty one, as of a shell variable that is not set, would be the working folder."""
    if not text:
        raise typer.BadParameter("expected a path, got an empty string")
    return Path(text)


def parse_name(text: str) -> str:
    """A path or a Hub id, see `parse_path`."""
    parse_path(text)
    return text


def parse_positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"expected a number of at least 1, got {text}")
    return int(text)


def parse_shard(text: str) -> tuple[int, int]:
    """ "I/N" as two numbers."""
    numbers = re.fullmatch(r"(\d+)/(\d+)", text)
    if numbers is None or int(numbers[1]) >= int(numbers[2]):
        raise typer.BadParameter(f"expected I/N, part I of N from 0, got {text}")
    return int(numbers[1]), int(numbers[2])


Model = Annotated[str, typer.Option(parser=parse_name, metavar="MODEL", help="Folder, Hub id or .onnx file.")]
Runtime = Annotated[Literal["torch", "onnx", "openvino"], typer.Option(help="All but torch export the model first.")]
Dry = Annotated[float, typer.Option(help="Share of the input mixed back, 0 to 1.")]
Limit = Annotated[float | None, typer.Option(metavar="DB", help="Attenuate by at most so many dB.")]
Device = Annotated[str | None, typer.Option(help="Device to run on, for example cpu or cuda.")]
Dtype = Annotated[str | None, typer.Option(help="Type that the model computes in, for example bfloat16.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")]
Token = Annotated[str | None, typer.Option(help="Of the Hub, for a private repo; else as `hf auth login` left it.")]


def load_runtime(model: str, runtime: str, device: str | None, **options: Any) -> Any:
    """A model in the runtime that is asked for; `options` see `load_model`."""
    if runtime != "torch" and device not in (None, "cpu"):
        raise ValueError(f"--runtime {runtime} runs on the CPU, got --device {device}")
    from ..acceleration.runtime import OnnxManner
    from ..inference.enhancer import load_model

    several = device == "cuda" and "LOCAL_RANK" in os.environ  # processes that accelerate launched
    if several:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    of_file = "onnx" if runtime == "torch" else runtime
    loaded: Any = load_model(model, device, of_file, **options)
    if runtime != "torch" and not isinstance(loaded, OnnxManner):
        from ..acceleration.export import onnx_graph

        return OnnxManner(onnx_graph(loaded), runtime)
    return loaded
