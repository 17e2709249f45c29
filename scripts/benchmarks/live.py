"""The cost of live enhancement in quality and work, by windows and incrementally, into a record and a picture.

    python scripts/benchmarks/live.py --data_root DNS_FOLDER
    python scripts/render_cards.py          # the table of the README beside it from the record

Recordings are validation pairs, joined, so that levels change within a stream; each pair is scored by itself. Each
recording goes through all settings in turn, on one thread of one process; the time is the process's own CPU time.
SI-SDR is to one pass over the whole recording.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import PAIRS_OF_RECORDING, RATE, Pair, pesq_of, validation_pairs
from matplotlib.figure import Figure

from mvat_hf import MannerModel, StreamingEnhancer, enhance
from mvat_hf.metrics import si_sdr
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.errors import run_script
from mvat_hf.utils.plotting import legend_below
from mvat_hf.utils.records import environment, weights_hash, write_json

WAYS = {True: "incremental", False: "windows"}
SETTINGS = [  # context, hop and look-ahead in seconds, and whether incremental
    *((2, hop, ahead, way) for hop, ahead in ((0.25, 0), (0.25, 0.25), (0.05, 0.1)) for way in WAYS),
    (2, 0.05, 0.05, True),
    *((4, hop, ahead, True) for hop, ahead in ((0.25, 0.25), (0.05, 0.1))),
]
TALKING = [(2, 0.05, 0.1, True)]  # that the smaller models are measured by, too
OTHERS = [str(SNAPSHOTS / name) for name in ("manner-s-5.3gf", "manner-s-2.2gf")]
Setting = tuple[float, float, float, bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_root", required=True, help="folder of DNS data")
    parser.add_argument("--model", default=str(SNAPSHOTS / "manner-s-8.1gf"), help="folder or Hub id")
    parser.add_argument("--others", nargs="*", default=OTHERS, help="models for talking alone (default: smaller ones)")
    parser.add_argument("--pairs", type=int, default=20, help="validation pairs (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = validation_pairs(options.data_root, options.pairs)
    record = {
        "pairs": options.pairs,
        "seconds": sum(len(pair["noisy"]) for pair in pairs) / RATE,
        **measure(options.model, pairs, SETTINGS),
        "others": [measure(folder, pairs, TALKING) for folder in options.others],
        "environment": environment(),
    }
    print(write_json(options.output, record))
    print(draw(record, options.output.with_suffix(".png")))


def measure(source: str, pairs: list[Pair], settings: Sequence[Setting]) -> dict[str, Any]:
    """Scores of a model in one pass, and a row for each setting."""
    model = MannerModel.from_pretrained(source)
    streams = [StreamingEnhancer(model, *windows, incremental=way) for *windows, way in settings]
    for stream in streams:  # kernels are prepared
        run(stream, np.concatenate([pair["noisy"] for pair in pairs])[: 4 * RATE])
    whole: list[np.ndarray] = []
    outputs: list[list[np.ndarray]] = [[] for _ in streams]
    seconds = np.zeros(len(streams))
    for first in range(0, len(pairs), PAIRS_OF_RECORDING):
        parts = [pair["noisy"] for pair in pairs[first : first + PAIRS_OF_RECORDING]]
        noisy, seams = np.concatenate(parts).astype(np.float32), np.cumsum([len(part) for part in parts])[:-1]
        whole += np.split(enhance(model, noisy, RATE, chunk_seconds=None), seams)
        for index, stream in enumerate(streams):
            start = time.process_time()
            output = run(stream, noisy)
            seconds[index] += time.process_time() - start
            outputs[index] += np.split(output, seams)
        print(f"{first + len(parts)} of {len(pairs)} pairs", flush=True)
    length = sum(len(pair["noisy"]) for pair in pairs) / RATE
    scores = pesq_of(pairs, whole)
    rows = []
    for (context, hop, lookahead, way), own, taken in zip(settings, outputs, seconds, strict=True):
        change = pesq_of(pairs, own) - scores
        rows.append(
            {
                "way": WAYS[way],
                "context_seconds": context,
                "hop_seconds": hop,
                "lookahead_seconds": lookahead,
                "pesq_change": float(change.mean()),
                "pesq_change_error": float(change.std(ddof=1) / len(change) ** 0.5),
                "pesq_lowest_change": float(change.min()),
                "si_sdr": float(np.mean([si_sdr(one, live, RATE) for one, live in zip(whole, own, strict=True)])),
                "real_time_factor": taken / length,
            }
        )
    noisy_pesq = pesq_of(pairs, [pair["noisy"] for pair in pairs])
    return {
        "model": Path(source).name,
        "weights_sha256": weights_hash(model),
        "noisy_pesq": float(noisy_pesq.mean()),
        "one_pass": {"pesq": float(scores.mean())},
        "rows": rows,
    }


def run(stream: StreamingEnhancer, noisy: np.ndarray) -> np.ndarray:
    return np.concatenate([stream.feed(noisy.astype(np.float32)), stream.flush()])


def draw(record: Mapping[str, Any], path: Path) -> Path:
    """Quality and work over latency."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    groups = sorted({(row["way"], row["context_seconds"], row["hop_seconds"]) for row in record["rows"]})
    for group in groups:
        rows = [row for row in record["rows"] if (row["way"], row["context_seconds"], row["hop_seconds"]) == group]
        latency = [row["hop_seconds"] + row["lookahead_seconds"] for row in rows]
        label = "{}, context {:g} s, hop {:g} s".format(*group)
        for axis, key in zip(axes, ("pesq_change", "real_time_factor"), strict=True):
            axis.plot(latency, [row[key] for row in rows], "o-" if group[0] == "incremental" else "s--", label=label)
    axes[0].set_ylabel("PESQ to one pass")
    axes[1].set_ylabel("real-time factor, one thread")
    axes[1].set_yscale("log")
    for axis in axes:
        axis.set_xlabel("latency (s)")
        axis.grid(alpha=0.3)
    legend_below(figure)
    figure.savefig(path, dpi=120)
    return path


if __name__ == "__main__":
    run_script(main)
