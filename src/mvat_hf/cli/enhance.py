"""`mvat enhance`: a file, or every file below a folder."""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from ..models import DEFAULT_MODEL
from .options import (
    Device,
    Dry,
    Dtype,
    Limit,
    Model,
    Precision,
    Revision,
    Runtime,
    Token,
    Verbose,
    load_runtime,
    parse_path,
    parse_positive,
    parse_shard,
)
from .running import ended_by_signals


def enhance(
    source: Annotated[Path, typer.Argument(parser=parse_path, metavar="IN", help="Audio file or folder.")],
    target: Annotated[Path, typer.Argument(parser=parse_path, metavar="OUT", help="Audio file or folder to write.")],
    model: Model = DEFAULT_MODEL,
    runtime: Runtime = "auto",
    precision: Precision = "exact",
    dry: Dry = 0.0,
    attenuation_limit: Limit = None,
    chunk_seconds: Annotated[
        float, typer.Option(help="Seconds of a chunk; an .onnx file for one length sets its own.")
    ] = 10.0,
    overlap_seconds: Annotated[
        float | None,
        typer.Option(help="Seconds that chunks overlap.", show_default="1, or a quarter of a chunk if that is less"),
    ] = None,
    full_band: Annotated[
        bool, typer.Option(help="Keep the band above 8 kHz, with the gain that the model gives 4 to 7 kHz.")
    ] = True,
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    token: Token = None,
    verbose: Verbose = False,
    resume: Annotated[bool, typer.Option("--resume", help="Folders: skip files that are there already.")] = False,
    shard: Annotated[
        Any,
        typer.Option(
            parser=parse_shard, metavar="I/N", help="Folders: do part I of N, from 0.",
            show_default="by process, under accelerate launch or torchrun",
        ),
    ] = None,
    batch_size: Annotated[
        Any,
        typer.Option(
            parser=parse_positive, metavar="N", help="Folders: chunks that share a pass.",
            show_default="1 on a CPU, else 8",
        ),
    ] = None,
) -> int:  # fmt: skip
    """Clean a recording, or every recording below a folder. A video keeps its picture."""
    if not source.exists():
        raise FileNotFoundError(f"no such file or folder: {source}")
    of_folders = {"--resume": resume, "--shard": shard, "--batch-size": batch_size}
    if not source.is_dir() and (idle := [name for name, value in of_folders.items() if value]):
        raise ValueError(f"{idle[0]} is for a folder, got {source}")
    of_model: dict[str, Any] = {
        "precision": precision, "dtype": dtype, "revision": revision, "token": token, "verbose": verbose,
    }  # fmt: skip
    of_files: dict[str, Any] = {
        "dry": dry, "attenuation_limit": attenuation_limit, "chunk_seconds": chunk_seconds,
        "overlap_seconds": overlap_seconds, "full_band": full_band, "progress": True,
    }  # fmt: skip
    with ended_by_signals():
        if source.is_dir():
            loaded = load_runtime(model, runtime, device, **of_model)
            return enhance_files(loaded, source, target, resume, shard, batch_size=batch_size, **of_files)
        from ..inference.enhancing import enhance_file
        from ..inference.folders import file_seconds
        from ..inference.writing import written_name

        loaded = load_runtime(model, runtime, device, seconds=file_seconds(source), **of_model)
        target = target / written_name(source) if target.is_dir() else target
        enhance_file(loaded, source, target, **of_files)
        print(target)
        return 0


def enhance_files(model: Any, source: Path, target: Path, resume: bool, shard: Any, **options: Any) -> int:
    """Enhance a folder, or this process's part of it. The exit status."""
    from ..inference.folders import enhance_folder

    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ  # as accelerate does
    part = shard or ((int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if launched else (0, 1))
    report = enhance_folder(model, source, target, resume=resume, shard=part, **options)
    for path, reason in report.failed:
        print(f"failed: {reason}" if str(path) in reason else f"failed: {path}: {reason}", file=sys.stderr)
    there = f", {len(report.skipped)} were there" if resume else ""
    told = f" in part {part[0]} of {part[1]}" if part[1] > 1 else ""
    print(f"{len(report.done)} files enhanced, {len(report.failed)} failed{there}{told}")
    return 1 if any_process(bool(report.failed)) else 0


def any_process(failed: bool) -> bool:
    """True if one of the processes that were launched together `failed`. All wait for the last: a launcher ends the
    others when one ends with an error."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "MASTER_ADDR" not in os.environ:
        return failed
    import torch
    from torch import distributed

    distributed.init_process_group("gloo", timeout=timedelta(days=30))
    count = torch.tensor(int(failed))
    distributed.all_reduce(count)
    distributed.destroy_process_group()
    return bool(count)
