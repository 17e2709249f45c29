"""Options that several commands share, with the checks of their values."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def parse_path(text: str) -> Path:
    """A path. An empty one (an unset shell variable) is refused: it would be the working folder."""
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
    typer.Option(help="fast lets OpenVINO compute in bfloat16 on CPUs that have it; the cost in quality is printed."),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print the runtime that computes.")]
Dry = Annotated[float, typer.Option(help="Share of the input in the output, 0 to 1.")]
Limit = Annotated[float | None, typer.Option(metavar="DB", help="Attenuate by at most so many dB.")]
Device = Annotated[str | None, typer.Option(help="Device to run on, for example cpu or cuda.")]
Dtype = Annotated[str | None, typer.Option(help="Type that the model computes in, for example bfloat16.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")]
Token = Annotated[
    str | None, typer.Option(help="Token of the Hub for a private repo; by default that of `hf auth login`.")
]


def load_runtime(model: str, runtime: str, device: str | None, verbose: bool = False, **options: Any) -> Any:
    """A model in `runtime`; `options` see `load_model`. If `verbose`, or for precision "fast", the runtime is printed
    on standard error."""
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
    """The package's log goes to standard error."""
    logger, handler = logging.getLogger("mvat_hf"), logging.StreamHandler()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
