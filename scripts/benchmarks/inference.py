"""Speed, error and memory of every way to run a model, beside the straightforward graph, into a record.

python scripts/benchmarks/inference.py
python scripts/benchmarks/inference.py --quality FOLDER          # and PESQ and SI-SDR on FOLDER/dns, FOLDER/valentini
python scripts/benchmarks/inference.py --add --models manner-b --threads 1 2 --repeats 3    # the rest stays as it was
python scripts/render_cards.py                                   # the table of the README beside it from the record

All systems run in one process and take turns; ratios are of medians. On one thread the time is the process's own CPU
time, so that other work on the machine counts little; on more it is the time that passes. Memory is the largest
resident size of a process that loads one system and makes the passes before the timed ones, libraries included.
bfloat16 is left out where the CPU does not compute in it, and would only be slower. Peers are enhancers of other
packages (`mvat_hf.evaluation.peers`), on the same input with the threads that they take by themselves.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baseline import Baseline
from common import demo_speech
from torch import Tensor, nn

from mvat_hf import MannerConfig, MannerModel, complexity, load_dns, load_valentini
from mvat_hf.acceleration.export import export_onnx
from mvat_hf.acceleration.folded_layers import packs
from mvat_hf.acceleration.runtime import OnnxManner
from mvat_hf.evaluation.peers import PEERS, load_peer
from mvat_hf.models.manner.configuration_manner import PRESETS
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.records import environment, read_json, weights_hash, write_json

EXPORTED = {  # systems that run an exported file: its precision, and the runtime
    "ONNX Runtime": ("fp32", "onnx"),
    "ONNX Runtime int8": ("int8", "onnx"),
    "OpenVINO": ("fp32", "openvino"),
    "OpenVINO bfloat16": ("bf16", "openvino"),
}
COARSE = {"int8", "bf16"}  # precisions of released weights only: their error means something with trained ones
BFLOAT16 = packs(torch.device("cpu"), torch.bfloat16)
SYSTEMS = [
    system
    for system in ("baseline", "PyTorch", "PyTorch fused", "PyTorch fused bfloat16", *EXPORTED)
    if BFLOAT16 or "bfloat16" not in system
]
MODELS = [*(name for name in PRESETS if (SNAPSHOTS / name).is_dir()), "manner-b"]  # a large one, with random weights
RATE = 16000
QUALITY_PAIRS = {"dns": 12, "valentini": 8}
LONGEST = {"manner-b": 10.0, "manner-l": 10.0}  # s: they attend at full rate, 18 GB for 30 s in one pass
PEER_SECONDS = 10.0
LEAST_REPEATS, PATIENCE = 3, 45.0  # s: larger models are timed less often
FIRST_PASSES = 2  # that are slower, and not timed: OpenVINO compiles for a length at the second


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed, error and memory of every way to run a model.")
    parser.add_argument("--models", nargs="+", default=MODELS, help="presets (default: %(default)s)")
    parser.add_argument("--seconds", nargs="+", type=float, default=[1, 4, 10, 60], help="lengths of the input")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="numbers of threads (default: 1)")
    parser.add_argument("--repeats", type=int, default=7, help="timed passes of each system (default: %(default)s)")
    parser.add_argument("--quality", type=Path, metavar="FOLDER", help="also score real pairs: its dns/ and valentini/")
    parser.add_argument("--peers", nargs="*", default=[], help="also time these enhancers of other packages")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    parser.add_argument("--add", action="store_true", help="to a record of this machine and versions")
    parser.add_argument("--memory-of", nargs=3, metavar=("SYSTEM", "FOLDER", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads[0])
    if options.memory_of:
        print(json.dumps(peak_memory_here(*options.memory_of)))
        return
    here = environment()
    record: dict[str, Any] = earlier_record(options.output, here) if options.add else {"models": {}, "peers": []}
    record |= {"environment": here, "limit": measure_limit()}
    record["peers"] = [measure_peer(name, options.repeats) for name in options.peers] or record["peers"]
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            model = load_calibrated(name)
            released = (SNAPSHOTS / name).is_dir()
            save_systems(model, Path(folder), released)
            rows = [
                {**row, "commit": here["commit"]}
                for threads in options.threads
                for seconds in options.seconds
                if seconds <= LONGEST.get(name, seconds)
                for row in measure(Path(folder), seconds, threads, options.repeats)
            ]
            entry = {"weights_sha256": weights_hash(model), "gflops_of_10_seconds": complexity(model, 10).flops / 1e9}
            before = record["models"].get(name, {})
            if before.get("weights_sha256") == entry["weights_sha256"]:
                rows = [row for row in before["rows"] if row["threads"] not in options.threads] + rows
                entry = {**before, **entry}
            record["models"][name] = {**entry, "rows": rows}
            if options.quality and released:  # random weights have none
                record["models"][name]["quality"] = measure_quality(Path(folder), options.quality)
        write_json(options.output, record)  # what comes next takes minutes, too
    print(options.output)


def earlier_record(path: Path, here: Mapping[str, Any]) -> dict[str, Any]:
    """The record at `path`, every row with its commit; SystemExit if it is of another machine or other versions."""
    record = read_json(path)
    there = record["environment"]
    if differing := [name for name in ("machine", "versions") if there[name] != here[name]]:
        sys.exit(f"{path} is of {there}, this is {here}: other {' and '.join(differing)}, leave out --add")
    for model in record["models"].values():
        model["rows"] = [{"commit": there["commit"], **row} for row in model["rows"]]
    return record


@torch.no_grad()
def load_calibrated(name: str) -> MannerModel:
    """The released weights, or random ones whose batch norms have seen speech and whose output is as loud as that."""
    if (SNAPSHOTS / name).is_dir():
        return MannerModel.from_pretrained(SNAPSHOTS / name)
    torch.manual_seed(0)
    model = MannerModel(MannerConfig.from_preset(name)).train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.momentum = None
    model(noisy_speech(1.0))
    model.eval()
    model.output.weight.div_(model(noisy_speech(1.0)).audio_values.std())
    return model


def noisy_speech(seconds: float) -> Tensor:
    """The demo's speech, again and again, with white noise: (1, T)."""
    audio = np.resize(demo_speech(), round(seconds * RATE))
    return torch.from_numpy(audio + 0.02 * np.random.default_rng(0).standard_normal(audio.shape, np.float32))[None]


def save_systems(model: MannerModel, folder: Path, released: bool) -> None:
    """What `load_system` reads; `COARSE` ones of released weights only."""
    model.save_pretrained(folder)
    for precision, _ in EXPORTED.values():
        if released or precision not in COARSE:
            export_onnx(model, folder / f"{precision}.onnx", precision=precision)


def load_system(system: str, folder: Path) -> Callable[[Tensor], Tensor]:
    """One of `SYSTEMS` as a function of noisy audio (1, T)."""
    if system in EXPORTED:
        precision, runtime = EXPORTED[system]
        exported = OnnxManner(folder / f"{precision}.onnx", runtime)
        return lambda audio: torch.from_numpy(exported.enhance_rows(audio.numpy()))
    model = MannerModel.from_pretrained(folder)
    if system == "baseline":
        return Baseline(model)
    if "fused" in system:
        model.fuse(torch.bfloat16 if "bfloat16" in system else None)
    return lambda audio: model(audio).audio_values


@torch.inference_mode()
def measure(folder: Path, seconds: float, threads: int, repeats: int) -> list[dict[str, Any]]:
    """A row for every system: median time, ratio to the baseline, error relative to its peak, peak memory."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    there = [name for name in SYSTEMS if name not in EXPORTED or (folder / f"{EXPORTED[name][0]}.onnx").exists()]
    systems = {system: load_system(system, folder) for system in there}
    audio = noisy_speech(seconds)
    for _ in range(FIRST_PASSES):
        outputs = {system: run(audio).clone() for system, run in systems.items()}
    times: dict[str, list[float]] = {system: [] for system in systems}
    for repeat in range(repeats):
        if repeat >= LEAST_REPEATS and sum(map(sum, times.values())) > PATIENCE:
            break
        for system, run in systems.items():
            start = clock()
            run(audio)
            times[system].append(clock() - start)
    expected = outputs["baseline"]
    medians = {system: statistics.median(taken) for system, taken in times.items()}
    rows = [
        {
            "system": system,
            "seconds": seconds,
            "threads": threads,
            "repeats": len(times[system]),
            "median_seconds": medians[system],
            "real_time_factor": medians[system] / seconds,
            "ratio": medians["baseline"] / medians[system],
            "error": float((outputs[system] - expected).abs().max() / expected.abs().max()),
            **peak_memory(system, folder, seconds),
        }
        for system in systems
    ]
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def measure_peer(name: str, repeats: int) -> dict[str, Any]:
    """Median CPU time of a peer for `PEER_SECONDS` of noisy speech, and its real-time factor by that."""
    run, audio, times = load_peer(name), noisy_speech(PEER_SECONDS)[0].numpy(), []
    for _ in range(repeats + 1):
        start = time.process_time()
        run(audio, RATE)
        times.append(time.process_time() - start)
    median = statistics.median(times[1:])  # the first is slower
    row = {"peer": name, "package": PEERS[name].package, "seconds": PEER_SECONDS, "median_seconds": median}
    print(json.dumps(row), flush=True)
    return {**row, "real_time_factor": median / PEER_SECONDS}


@cache
def peak_memory(system: str, folder: Path, seconds: float) -> dict[str, float]:
    """`peak_memory_here` in a process of its own; with one thread, as more threads change nothing."""
    command = [sys.executable, __file__, "--memory-of", system, str(folder), str(seconds)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@torch.inference_mode()
def peak_memory_here(system: str, folder: str, seconds: str) -> dict[str, float]:
    """Largest resident size of this process in megabytes, with the system loaded, and after its first passes."""
    run, audio = load_system(system, Path(folder)), noisy_speech(float(seconds))
    loaded = largest_resident_size()
    for _ in range(FIRST_PASSES):
        run(audio)
    return {"loaded_megabytes": loaded, "peak_megabytes": largest_resident_size()}


def largest_resident_size() -> float:
    """In megabytes, of this process alone (Linux: what getrusage tells begins with the parent's)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure_limit() -> dict[str, float]:
    """GFLOP/s of large float32 matrix products on one thread: by `torch.matmul`, and by oneDNN."""
    torch.set_num_threads(1)
    rows, inner, columns = 2048, 480, 480
    left, right = torch.randn(rows, inner), torch.randn(columns, inner)
    packed = torch.ops.mkldnn._reorder_linear_weight(right)
    products = {
        "matmul": lambda: left @ right.t(),
        "oneDNN": lambda: torch.ops.mkldnn._linear_pointwise(left, packed, None, "none", [], ""),
    }
    limit = {}
    for name, product in products.items():
        times = []
        for _ in range(20):
            start = time.process_time()
            product()
            times.append(time.process_time() - start)
        limit[name] = 2 * rows * inner * columns / statistics.median(times) / 1e9
    return limit


@torch.inference_mode()
def measure_quality(folder: Path, data: Path) -> list[dict[str, Any]]:
    """Means of PESQ and SI-SDR over pairs spread over the test sets, and each system's difference to the baseline."""
    from mvat_hf.metrics.scoring import score_pair  # not at the top: it would count in the memory of every system

    scores: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
    systems = {system: load_system(system, folder) for system in SYSTEMS}
    for name, load in (("dns", load_dns), ("valentini", load_valentini)):
        pairs: Any = load(data / name, "test")
        for index in np.linspace(0, len(pairs) - 1, QUALITY_PAIRS[name]).round().astype(int).tolist():
            pair = pairs[index]
            for system, run in systems.items():
                output = run(torch.as_tensor(pair["noisy"])[None])[0].numpy()
                scores[system].append(score_pair(pair["id"], np.asarray(pair["clean"]), output, RATE).scores)
    rows = []
    for system in SYSTEMS:
        row: dict[str, Any] = {"system": system, "pairs": len(scores[system])}
        for metric in ("pesq", "si_sdr"):
            own = np.array([score[metric] for score in scores[system]])
            change = own - np.array([score[metric] for score in scores["baseline"]])
            row[metric] = float(own.mean())
            row[f"{metric}_change"] = float(change.mean())
            row[f"{metric}_largest_change"] = float(np.abs(change).max())
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


if __name__ == "__main__":
    main()
