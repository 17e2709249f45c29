"""Options that several commands share, and what their values are checked for."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
Runtime = Annotated[
    Literal["auto", "torch", "onnx", "openvino"],
    typer.Option(help="What computes; auto chooses by CPU, length and what is installed. The result is the same."),
]
Precision = Annotated[
    Literal["exact", "fast"],
    typer.Option(help="fast lets OpenVINO compute in bfloat16 where the CPU does, and tells what it costs."),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Tell what computes.")]
Dry = Annotated[float, typer.Option(help="Share of the input mixed back, 0 to 1.")]
Limit = Annotated[float | None, typer.Option(metavar="DB", help="Attenuate by at most so many dB.")]
Device = Annotated[str | None, typer.Option(help="Device to run on, for example cpu or cuda.")]
Dtype = Annotated[str | None, typer.Option(help="Type that the model computes in, for example bfloat16.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")]
Token = Annotated[str | None, typer.Option(help="Of the Hub, for a private repo; else as `hf auth login` left it.")]


def load_runtime(model: str, runtime: str, device: str | None, verbose: bool = False, **options: Any) -> Any:
    """A model in the runtime that is asked for; what computes is told on standard error if `verbose`, or if it may be
    less than exact; `options` see `load_model`."""
    if runtime not in ("auto", "torch") and device not in (None, "cpu"):
        raise ValueError(f"--runtime {runtime} runs on the CPU, got --device {device}")
    from ..inference.enhancer import load_model

    several = device == "cuda" and "LOCAL_RANK" in os.environ  # processes that accelerate launched
    if several:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    with telling() if verbose or options.get("precision") == "fast" else nullcontext():
        return load_model(model, device, runtime, **options)


@contextmanager
def telling() -> Iterator[None]:
    """What the package's log says goes to standard error."""
    logger, handler = logging.getLogger("mvat_hf"), logging.StreamHandler()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
