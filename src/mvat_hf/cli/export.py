"""`mvat export`: models as ONNX files."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import parse_path


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder or Hub id.")],
    target: Annotated[Path, typer.Argument(parser=parse_path, metavar="OUT.onnx", help="File to write.")],
    chunk_seconds: Annotated[
        float | None, typer.Option(help="Seconds of the one length that the file takes.", show_default="any length")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"], typer.Option(help="Precision of the weights; int8 costs quality.")
    ] = "fp32",
) -> int:
    """Write a model as an ONNX file, checked against PyTorch.

    `mvat enhance --model FOLDER` runs FOLDER/model.onnx if it was exported from the weights there.
    """
    from ..acceleration.export import export_onnx
    from ..inference.checkpoints import find_checkpoint
    from ..inference.enhancer import load_model
    from ..models.manner import MannerModel

    if target.suffix != ".onnx":
        raise ValueError(f"OUT.onnx must end in .onnx, got {target}")
    loaded = None if model.endswith(".onnx") else load_model(model, runtime="torch")
    if not isinstance(loaded, MannerModel):
        raise ValueError(f"MODEL is exported already, expected a folder or Hub id, got {model}")
    checkpoint = find_checkpoint(model) if str(loaded.dtype) == "torch.float32" else None
    error = export_onnx(
        loaded,
        target,
        precision=precision,
        chunk_seconds=chunk_seconds,
        checkpoint_sha256=checkpoint.sha256() if checkpoint else None,
    )
    print(f"{target}: differs from PyTorch by at most {error:.1e} of the output's peak")
    return 0
