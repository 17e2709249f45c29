"""`mvat enhance`: a file, or every file below a folder."""

import os
import sys
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

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
from .stream import stream as run_stream

LIVE = ("rate", "pcm", "context_seconds", "hop_seconds", "lookahead_seconds")


def enhance(
    source: Annotated[Path, typer.Argument(parser=parse_path, metavar="IN", help="Audio file or folder.")],
    target: Annotated[Path, typer.Argument(parser=parse_path, metavar="OUT", help="Audio file or folder to write.")],
    model: Model = DEFAULT_MODEL,
    runtime: Runtime = "auto",
    precision: Precision = "exact",
    dry: Dry = 0.0,
    attenuation_limit: Limit = None,
    chunk_seconds: Annotated[
        float, typer.Option(help="Length of a chunk; of an .onnx file for one length, it is that.")
    ] = 10.0,
    overlap_seconds: Annotated[
        float | None,
        typer.Option(help="Overlap of chunks.", show_default="1, or a quarter of a chunk where that is less"),
    ] = None,
    full_band: Annotated[
        bool, typer.Option(help="Keep what lies above 8 kHz, turned down as the model turns down 4 to 7 kHz.")
    ] = True,
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    token: Token = None,
    verbose: Verbose = False,
    resume: Annotated[bool, typer.Option("--resume", help="Of a folder, leave files alone that are there.")] = False,
    shard: Annotated[
        Any,
        typer.Option(
            parser=parse_shard, metavar="I/N", help="Do part I of N of a folder, from 0.",
            show_default="as accelerate launch or torchrun tells its processes",
        ),
    ] = None,
    batch_size: Annotated[
        Any,
        typer.Option(
            parser=parse_positive, metavar="N", help="Chunks of a folder's files that share a pass.",
            show_default="1 on a CPU, else 8",
        ),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Live audio, from - to -: see mvat stream.")] = False,
    rate: Annotated[int, typer.Option(hidden=True)] = 16000,
    pcm: Annotated[Literal["s16le", "f32le"], typer.Option(hidden=True)] = "s16le",
    context_seconds: Annotated[float, typer.Option(hidden=True)] = 2.0,
    hop_seconds: Annotated[float, typer.Option(hidden=True)] = 0.25,
    lookahead_seconds: Annotated[float, typer.Option(hidden=True)] = 0.25,
) -> int:  # fmt: skip
    """Clean a recording, or every recording below a folder. A video keeps its picture."""
    options = locals().copy()
    if not stream and not source.exists():
        raise FileNotFoundError(f"no such file or folder: {source}")
    refuse_idle_options(options)
    of_model: dict[str, Any] = {"precision": precision, "dtype": dtype, "revision": revision, "token": token}
    of_model["verbose"] = verbose
    mixing: dict[str, Any] = {"dry": dry, "attenuation_limit": attenuation_limit}
    if stream:
        live: dict[str, Any] = {name: options[name] for name in LIVE}
        return run_stream(str(source), str(target), model, runtime, device=device, **of_model, **mixing, **live)
    chunking = {**mixing, "chunk_seconds": chunk_seconds, "overlap_seconds": overlap_seconds}
    of_files: dict[str, Any] = {**chunking, "full_band": full_band, "progress": True}
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


def refuse_idle_options(options: dict[str, Any]) -> None:
    """ValueError for an option of `enhance` that would do nothing with what it is given."""
    live, source = options["stream"], options["source"]
    idle = {
        "is of a folder": ("resume", "shard", "batch_size") if live or not source.is_dir() else (),
        "is of recordings, not of --stream": ("chunk_seconds", "overlap_seconds", "full_band") if live else (),
        "is of --stream": () if live else LIVE,
    }
    usual = signature(enhance).parameters
    for why, names in idle.items():
        for name in names:
            if options[name] != usual[name].default:
                raise ValueError(f"--{name.replace('_', '-')} {why}, got {source}")


def enhance_files(model: Any, source: Path, target: Path, resume: bool, shard: Any, **options: Any) -> int:
    """A folder, or the part of it that is this process's; the exit status."""
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
    """Whether any of the processes that were launched together `failed`; all wait for the last, as a launcher ends the
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
