"""The `mvat` command. Every sub-command imports what it needs when it runs."""

import argparse
import io
import json
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from .. import __version__
from ..models import DEFAULT_MODEL
from ..utils.errors import USER_ERRORS, need, one_line

A_DAY = 86400  # seconds
LIVE_OPTIONS = ("rate", "pcm", "context_seconds", "hop_seconds", "lookahead_seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status. Whatever goes wrong is one line on standard error and status 1."""
    options = build_parser().parse_args(arguments)
    try:
        with warnings.catch_warnings(), printing_any_name():
            warnings.showwarning = show_warning
            return options.run(options)
    except (*USER_ERRORS, RuntimeError, OverflowError) as error:  # of torch: out of memory, or beyond what it can count
        print(one_line(error), file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed: pip install 'mvat_hf[{options.extra}]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # of a file or a configuration that no one foresaw: its kind says more than its words
        kind = f"{type(error).__name__}: " if str(error) else ""
        print(one_line(error).replace("error: ", f"error: {kind}", 1), file=sys.stderr)
        return 1


@contextmanager
def printing_any_name() -> Iterator[None]:
    """File names that are not Unicode, or not in the terminal's alphabet, are printed and end nothing."""
    with ExitStack() as stack:
        if isinstance(sys.stdout, io.TextIOWrapper):
            stack.callback(sys.stdout.reconfigure, errors=sys.stdout.errors)
            sys.stdout.reconfigure(errors="backslashreplace")
        yield


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the process like an error, so that nothing half written stays; handlers are put back."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, signal.SIGTERM)  # Windows knows no SIGHUP
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # as nohup leaves it; not set from Python
                before.setdefault(number, signal.signal(number, lambda number, _: sys.exit(128 + number)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line on standard error, without the line of code that warned."""
    print(f"warning: {message}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """All sub-commands and their options."""
    parser = argparse.ArgumentParser("mvat", description="Efficient speech enhancement with MANNER and MV-AT students.")
    parser.add_argument("--version", action="version", version=f"mvat {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run, summary: str, extra: str = "training") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run, extra=extra, default=command.get_default)
        return command

    add_enhance_options(add("enhance", run_enhance, "Clean a recording, or every recording below a folder."))
    add_evaluate_options(
        add("evaluate", run_evaluate, "Score models, peers and enhanced files on noisy and clean pairs.", "evaluation")
    )
    command = add("info", run_info, "Parameters and FLOPs of a model or preset, or of all presets.")
    command.add_argument("model", metavar="MODEL-OR-PRESET", nargs="?", help="folder, Hub id or preset")
    command.add_argument("--seconds", type=float, default=4.0, help="length of the input (default: %(default)s)")

    command = add("convert", run_convert, "Turn an upstream MANNER checkpoint into one that from_pretrained loads.")
    command.add_argument("checkpoint", metavar="CKPT", type=parse_path, help="upstream .pth file")
    command.add_argument("target", metavar="DIR", type=parse_path, help="folder to write")
    command.add_argument("--stride", type=int, default=4, help="stride; not in the weights (default: %(default)s)")

    command = add("export", run_export, "Write a model as an ONNX file, checked against PyTorch.", extra="export")
    command.add_argument("model", metavar="MODEL", help="folder or Hub id")
    command.add_argument("target", metavar="OUT.onnx", type=parse_path, help="file to write")
    command.add_argument("--chunk-seconds", type=float, help="the one length the file takes (default: any length)")
    command.add_argument(
        "--precision", choices=("fp32", "fp16", "bf16", "int8"), default="fp32", help="(default: %(default)s)"
    )

    command = add("push", run_push, "Publish a measured checkpoint on the Hub, with its card and code.")
    command.add_argument(
        "folder", metavar="DIR", type=parse_path, help="folder with a checkpoint and its card (README.md)"
    )
    command.add_argument("repo", metavar="REPO", help="Hub id, owner/name; a name alone is yours")
    command.add_argument("--private", action="store_true", help="to a private repo only; it is made if need be")
    command.add_argument("--draft", action="store_true", help="push what is not measured, to a private repo only")

    command = add("demo", run_demo, "Serve a page to hear recordings before and after.", extra="demo")
    command.add_argument(
        "--model", action="append", metavar="MODEL",
        help=f"folder, Hub id or .onnx file; once for each that visitors may choose (default: {DEFAULT_MODEL})",
    )  # fmt: skip
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    command.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860)")
    command.add_argument("--share", action="store_true", help="also through a public address that Gradio lends")
    command.add_argument("--max-seconds", type=float, default=600.0, help="longest recording (default: %(default)s)")

    add("env", run_env, "Commit, versions and machine, to go with a bug report.")
    return parser


def add_enhance_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="IN", type=parse_path, help="audio file or folder; - with --stream")
    command.add_argument(
        "target", metavar="OUT", type=parse_path, help="audio file or folder to write; - with --stream"
    )
    command.add_argument(
        "--model", type=parse_name, default=DEFAULT_MODEL, help="folder, Hub id or .onnx file (default: %(default)s)"
    )
    command.add_argument(
        "--runtime",
        choices=("torch", "onnx", "openvino"),
        default="torch",
        help="all but torch export the model first",
    )
    command.add_argument("--dry", type=float, default=0.0, help="share of the input mixed back, 0 to 1")
    command.add_argument("--attenuation-limit", type=float, metavar="DB", help="attenuate by at most so many dB")
    command.add_argument(
        "--chunk-seconds", type=float, default=10.0, help="length of a chunk (default: 10, or what an .onnx file takes)"
    )
    command.add_argument(
        "--overlap-seconds",
        type=float,
        help="overlap of chunks (default: 1, or a quarter of a chunk where that is less)",
    )
    command.add_argument("--device", help="device to run on, for example cpu or cuda (of several processes, one each)")
    command.add_argument("--resume", action="store_true", help="of a folder, leave files alone that are there")
    command.add_argument(
        "--shard", type=parse_shard, metavar="I/N",
        help="do part I of N of a folder, from 0 (default: as accelerate launch or torchrun tells its processes)",
    )  # fmt: skip
    command.add_argument(
        "--batch-size", type=parse_positive, metavar="N",
        help="chunks of a folder's files that share a pass (default: 1 on a CPU, else 8)",
    )  # fmt: skip
    live = command.add_argument_group(
        "live", "With --stream, raw mono PCM goes from standard input to standard output as it comes, in no chunks."
    )
    live.add_argument("--stream", action="store_true", help="enhance live, for a pipe: mvat enhance --stream - -")
    live.add_argument("--rate", type=int, default=16000, help="sampling rate of the PCM in Hz (default: %(default)s)")
    live.add_argument("--pcm", choices=("s16le", "f32le"), default="s16le", help="(default: %(default)s)")
    live.add_argument("--context-seconds", type=float, default=2.0, help="seen by a pass (default: %(default)s)")
    live.add_argument("--hop-seconds", type=float, default=0.25, help="between passes (default: %(default)s)")
    live.add_argument(
        "--lookahead-seconds", type=float, default=0.25,
        help="seen after what a pass gives out; the latency is this and the hop (default: %(default)s)",
    )  # fmt: skip


def add_evaluate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "systems", metavar="MODEL|FOLDER", nargs="*",
        help="model folders, Hub ids, folders of enhanced files; ROW=… names the row; differences are to the first",
    )  # fmt: skip
    command.add_argument("--peer", action="append", default=[], help="enhancement of another package; once for each")
    command.add_argument("--data", choices=("valentini", "dns", "pairs"), required=True, help="how --root is laid out")
    command.add_argument(
        "--root", type=parse_name, help="folder of the data set, or of Valentini its Hub id (valentini, dns)"
    )
    command.add_argument("--split", default="test", help="split of the data set (default: %(default)s)")
    command.add_argument("--clean", type=parse_path, help="folder of clean files (pairs)")
    command.add_argument("--noisy", type=parse_path, help="folder of noisy files of the same names (pairs)")
    command.add_argument(
        "--metrics", type=parse_names, help="for example pesq,stoi,dnsmos_ovrl (default: all but DNSMOS)"
    )
    command.add_argument("--processes", type=parse_positive, help="processes that score (default: one per core)")
    command.add_argument("--device", help="device to run on, for example cpu or cuda")
    command.add_argument(
        "--output", type=parse_path, metavar="DIR",
        help="folder of the record, the table and the pictures (default: results/ and the name of the data set)",
    )  # fmt: skip


def run_enhance(options: argparse.Namespace) -> int:
    if not options.stream and not options.source.exists():
        raise FileNotFoundError(f"no such file or folder: {options.source}")
    refuse_idle_options(options)
    if options.stream:
        return run_stream(options)
    from ..inference.enhancing import enhance_file
    from ..inference.writing import written_name

    chunking = {
        "dry": options.dry,
        "attenuation_limit": options.attenuation_limit,
        "chunk_seconds": options.chunk_seconds,
        "overlap_seconds": options.overlap_seconds,
        "progress": True,
    }
    with ended_by_signals():
        model = load_runtime(options)
        if not options.source.is_dir():
            folder = options.target.is_dir()
            target = options.target / written_name(options.source) if folder else options.target
            enhance_file(model, options.source, target, **chunking)
            print(target)
            return 0
        return run_enhance_folder(model, options, chunking)


def run_enhance_folder(model: Any, options: argparse.Namespace, chunking: dict[str, Any]) -> int:
    from ..inference.folders import enhance_folder

    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ  # as accelerate does
    shard = options.shard or ((int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if launched else (0, 1))
    report = enhance_folder(
        model, options.source, options.target, resume=options.resume, shard=shard, batch_size=options.batch_size,
        **chunking,
    )  # fmt: skip
    for path, reason in report.failed:
        print(f"failed: {reason}" if str(path) in reason else f"failed: {path}: {reason}", file=sys.stderr)
    there = f", {len(report.skipped)} were there" if options.resume else ""
    part = f" in part {shard[0]} of {shard[1]}" if shard[1] > 1 else ""
    print(f"{len(report.done)} files enhanced, {len(report.failed)} failed{there}{part}")
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


def refuse_idle_options(options: argparse.Namespace) -> None:
    """ValueError for an option of `enhance` that would do nothing with what it is given."""
    idle = {
        "is of a folder": ("resume", "shard", "batch_size") if options.stream or not options.source.is_dir() else (),
        "is of recordings, not of --stream": ("chunk_seconds", "overlap_seconds") if options.stream else (),
        "is of --stream": () if options.stream else LIVE_OPTIONS,
    }
    for why, names in idle.items():
        for name in names:
            if getattr(options, name) != options.default(name):
                raise ValueError(f"--{name.replace('_', '-')} {why}, got {options.source}")


def parse_positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return int(text)


def parse_path(text: str) -> Path:
    """A path; an empty one, as of a shell variable that is not set, would be the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty string")
    return Path(text)


def parse_name(text: str) -> str:
    """A path or a Hub id, see `parse_path`."""
    parse_path(text)
    return text


def parse_names(text: str) -> list[str]:
    """ "A, B" as a list, each name once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def parse_shard(text: str) -> tuple[int, int]:
    """ "I/N" as two numbers."""
    numbers = re.fullmatch(r"(\d+)/(\d+)", text)
    if numbers is None or int(numbers[1]) >= int(numbers[2]):
        raise argparse.ArgumentTypeError(f"expected I/N, part I of N from 0, got {text}")
    return int(numbers[1]), int(numbers[2])


def run_stream(options: argparse.Namespace) -> int:
    from ..inference.live import StreamingEnhancer, enhance_pcm

    if (str(options.source), str(options.target)) != ("-", "-"):
        raise ValueError(f"--stream goes from - to -, got {options.source} and {options.target}")
    enhancer = StreamingEnhancer(
        load_runtime(options), options.context_seconds, options.hop_seconds, options.lookahead_seconds,
        dry=options.dry, attenuation_limit=options.attenuation_limit,
    )  # fmt: skip
    if options.rate != enhancer.rate:
        raise ValueError(f"live, the model takes {enhancer.rate} Hz, got --rate {options.rate}: resample in the pipe")
    print(f"latency {enhancer.latency:g} s and the time of a pass; the model is not causal", file=sys.stderr)
    try:
        enhance_pcm(enhancer, sys.stdin.buffer, sys.stdout.buffer, options.pcm)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail when Python ends
        return 141  # what a shell says of a program that SIGPIPE ended
    return 0


def load_runtime(options: argparse.Namespace) -> Any:
    """The model of `enhance`'s options, in the runtime that they name."""
    from ..inference.enhancer import load_model
    from ..models.manner import MannerModel

    several = options.device == "cuda" and "LOCAL_RANK" in os.environ  # processes that accelerate launched
    device = f"cuda:{os.environ['LOCAL_RANK']}" if several else options.device
    if options.runtime != "torch" and options.device not in (None, "cpu"):
        raise ValueError(f"--runtime {options.runtime} runs on the CPU, got --device {options.device}")
    runtime = "onnx" if options.runtime == "torch" else options.runtime  # of a .onnx file
    model = load_model(options.model, device, runtime)
    if options.runtime != "torch" and isinstance(model, MannerModel):
        from ..acceleration.export import onnx_graph
        from ..acceleration.runtime import OnnxManner

        return OnnxManner(onnx_graph(model), runtime)
    return model


def run_evaluate(options: argparse.Namespace) -> int:
    from ..evaluation.evaluating import evaluate, examples_of, names_of
    from ..evaluation.journal import UNREADABLE
    from ..evaluation.report import draw_report, render_differences, render_table, write_report
    from ..evaluation.systems import PeerSystem, build_system
    from ..metrics.scoring import FULL, check_metrics

    need("evaluation", "scipy", "matplotlib")  # of the intervals and pictures, which come last
    metrics = check_metrics(options.metrics or FULL)
    dataset, name = load_dataset(options)
    entries = name_rows(options.systems, taken=("noisy", *options.peer))
    systems = {row: build_system(entry, options.device) for row, entry in entries.items()}
    systems |= {peer: PeerSystem(peer) for peer in options.peer}
    output = options.output or Path("results") / re.sub(r"[^\w-]+", "_", name)
    refuse_other_record(output / "results.json", name, set(names_of(dataset)))
    output.mkdir(parents=True, exist_ok=True)
    journal = output / "scores.jsonl"
    record = evaluate(
        systems, dataset, name=name, metrics=metrics, processes=options.processes, journal=journal, progress=True
    )
    write_report(output, record)
    first = next(iter(systems.values()), None)
    draw_report(output, record, {} if first is None else examples_of(record, first, dataset))
    journal.unlink(missing_ok=True)
    print(render_table(record))
    if len(systems) > 0:
        print(f"\n{render_differences(record)}")
    lost = False
    scorable = record["systems"][0]["scores"]  # the noisy input's: silence has no score by its nature, and is not lost
    for system in record["systems"]:
        for failure in system["failures"]:
            lost |= failure["id"] in scorable or failure["reason"].startswith(UNREADABLE)
            print(f"not scored: {system['name']}: {failure['id']}: {failure['reason']}", file=sys.stderr)
        if "not_timed" in system:
            print(f"not timed: {system['name']}: {system['not_timed']}", file=sys.stderr)
    return 1 if lost else 0


def refuse_other_record(path: Path, name: str, ids: set[str]) -> None:
    """ValueError if `path` is the record of another data set than `name`, or of other files than those of `ids`."""
    there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if there and there.get("dataset", {}).get("name") != name:
        raise ValueError(f"{path} is no record of {name}, which would replace it: choose another --output")
    if there and ids != {*there["systems"][0]["scores"], *(lost["id"] for lost in there["systems"][0]["failures"])}:
        raise ValueError(f"{path} is of other files of {name}, which would replace it: choose another --output")


def name_rows(entries: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """What to evaluate by the name of its row, from entries X or ROW=X; ValueError for one given twice or `taken`."""
    named: dict[str, str] = {}
    for entry in entries:
        row, separator, system = entry.partition("=")
        if Path(entry).exists() or not separator:
            row = system = entry
        if row in named or row in taken:
            raise ValueError(
                f'every row needs a name of its own, other than "noisy" and the peers\'; got "{row}" again'
            )
        named[row] = system
    return named


def load_dataset(options: argparse.Namespace):
    """(data set, its name in the record) of the options of `evaluate`."""
    from ..data.dns import load_dns
    from ..data.pairs import load_pairs
    from ..data.valentini import load_valentini

    if options.data == "pairs":
        if options.clean is None or options.noisy is None:
            raise ValueError("--data pairs needs --clean and --noisy, two folders with files of the same names")
        sides = [Path(*side.resolve().parts[-2:]) for side in (options.noisy, options.clean)]
        return load_pairs(options.clean, options.noisy), f"pairs of {sides[0].as_posix()} and {sides[1].as_posix()}"
    if options.root is None:
        raise ValueError(f"--data {options.data} needs --root, the folder of the data set")
    load = load_valentini if options.data == "valentini" else load_dns
    return load(options.root, options.split), f"{options.data} {options.split}"


def run_info(options: argparse.Namespace) -> int:
    from ..models.complexity import complexity
    from ..models.manner import PRESETS, MannerConfig

    if not 0 < options.seconds <= A_DAY:
        raise ValueError(f"--seconds must be above 0 and at most {A_DAY}, got {options.seconds:g}")
    costs = {}
    for name in [options.model] if options.model else list(PRESETS):
        preset = not Path(name).exists() and (name in PRESETS or "/" not in name)  # a bare word is meant as a preset
        config = MannerConfig.from_preset(name) if preset else MannerConfig.from_pretrained(name)
        costs[name] = complexity(config, options.seconds)
    print(f"{'model':<18} {'parameters':>11} {'GFLOPs (thop)':>14} {'GFLOPs (true)':>14}  {options.seconds:g} s audio")
    for name, cost in costs.items():
        print(f"{name:<18} {cost.parameters:>11,} {cost.flops_thop / 1e9:>14.2f} {cost.flops / 1e9:>14.2f}")
    print(
        "thop, the papers' counter, takes a transposed convolution at its output length without dividing by the stride "
        "(4x too many), counts batch norms, and misses the products of attention; the true count does none of these."
    )
    if not options.model:
        baseline, student = costs["manner-s"], costs["manner-s-8.1gf"]
        print(
            f"manner-s to manner-s-8.1gf: {baseline.parameters / student.parameters:.1f}x fewer parameters, "
            f"{baseline.flops_thop / student.flops_thop:.1f}x fewer FLOPs by thop, "
            f"{baseline.flops / student.flops:.1f}x truly"
        )
    return 0


def run_convert(options: argparse.Namespace) -> int:
    from ..hub.push import save_checkpoint
    from ..models.manner.convert_manner import convert_checkpoint

    model = convert_checkpoint(options.checkpoint, options.stride)
    save_checkpoint(model, options.target)
    config = model.config
    print(
        f"{options.target}: hidden_size {config.hidden_size}, depth {config.depth}, attention_levels "
        f"{config.attention_levels}, {model.num_parameters():,} parameters"
    )
    return 0


def run_export(options: argparse.Namespace) -> int:
    from ..acceleration.export import export_onnx
    from ..inference.enhancer import load_model
    from ..models.manner import MannerModel

    if options.target.suffix != ".onnx":
        raise ValueError(f"OUT.onnx must end in .onnx, got {options.target}")
    model = None if options.model.endswith(".onnx") else load_model(options.model)
    if not isinstance(model, MannerModel):
        raise ValueError(f"MODEL is exported already, expected a folder or Hub id, got {options.model}")
    error = export_onnx(
        model,
        options.target,
        precision=options.precision,
        chunk_seconds=options.chunk_seconds,
    )
    print(f"{options.target}: differs from PyTorch by at most {error:.1e} of the output's peak")
    return 0


def run_push(options: argparse.Namespace) -> int:
    from ..hub.push import push_checkpoint

    print(push_checkpoint(options.folder, options.repo, private=options.private, draft=options.draft))
    return 0


def run_demo(options: argparse.Namespace) -> int:
    from ..app import serve

    models = list(dict.fromkeys(options.model or [DEFAULT_MODEL]))
    serve(models, host=options.host, port=options.port, share=options.share, max_seconds=options.max_seconds)
    return 0


def run_env(options: argparse.Namespace) -> int:
    from ..utils.records import environment

    print(json.dumps(environment(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
