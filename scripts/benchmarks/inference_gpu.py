"""Speed, error and memory of enhancing on a GPU, beside the straightforward graph, into a record.

python scripts/benchmarks/inference_gpu.py

All systems run in one process and take turns; numbers are medians of the time that passes, the audio being on the GPU
before and after. TensorFloat-32 is off where it is not named. Memory is what PyTorch had allocated at the most.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from baseline import Baseline
from torch import Tensor
from training_step import allow_tf32

from inference import LONGEST, load_calibrated, noisy_speech
from mvat_hf import MannerModel
from mvat_hf.utils.records import environment, weights_hash, write_json

SIZES = ((1, 10.0), (1, 60.0), (16, 10.0))  # recordings at once, seconds of each
TF32 = "TensorFloat-32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["manner-s-8.1gf", "manner-b"], help="presets")
    parser.add_argument("--device", default="cuda", help="where (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="timed passes of each system (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    options = parser.parse_args()
    record: dict[str, Any] = {"kind": "inference benchmark on a GPU", "environment": environment(), "models": {}}
    for name in options.models:
        model: Any = load_calibrated(name)
        model = model.to(options.device)
        rows = [
            row
            for batch, seconds in SIZES
            if batch * seconds <= LONGEST.get(name, batch * seconds)
            for row in measure(model, batch, seconds, options.repeats)
        ]
        record["models"][name] = {"weights_sha256": weights_hash(model), "rows": rows}
        write_json(options.output, record)
    print(options.output)


def systems(model: MannerModel) -> dict[str, Callable[[Tensor], Tensor]]:
    """The ways to run `model`, each a function of noisy audio (B, T)."""
    fused, coarse = copy.deepcopy(model).fuse(), copy.deepcopy(model).fuse(torch.bfloat16)
    return {
        "baseline": Baseline(model),
        "PyTorch": lambda audio: model(audio).audio_values,
        "PyTorch fused": lambda audio: fused(audio).audio_values,
        f"PyTorch fused {TF32}": lambda audio: fused(audio).audio_values,
        "PyTorch fused bfloat16": lambda audio: coarse(audio).audio_values,
    }


@torch.inference_mode()
def measure(model: MannerModel, batch: int, seconds: float, repeats: int) -> list[dict[str, Any]]:
    """A row for every system: median time, ratio to the baseline, error relative to its peak, peak memory."""
    audio = noisy_speech(seconds).expand(batch, -1).to(model.device)
    wait: Callable[[], None] = torch.cuda.synchronize if audio.is_cuda else lambda: None
    times: dict[str, list[float]] = {}
    outputs, memory = {}, {}
    runs = systems(model)
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            allow_tf32(TF32 in name)
            if audio.is_cuda:
                torch.cuda.reset_peak_memory_stats()
            wait()
            start = time.perf_counter()
            output = run(audio)
            wait()
            if repeat:  # the first pass is slower
                times.setdefault(name, []).append(time.perf_counter() - start)
            else:
                outputs[name] = output[:1].clone()
                memory[name] = torch.cuda.max_memory_allocated() / 1e9 if audio.is_cuda else None
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    expected = outputs["baseline"]
    rows = [
        {
            "system": name,
            "batch": batch,
            "seconds": seconds,
            "median_seconds": medians[name],
            "real_time_factor": medians[name] / (batch * seconds),
            "ratio": medians["baseline"] / medians[name],
            "error": float((outputs[name] - expected).abs().max() / expected.abs().max()),
            "peak_gigabytes": memory[name],
        }
        for name in runs
    ]
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


if __name__ == "__main__":
    main()
