"""The cost of chunks in quality, against one pass over the whole recording, into a record.

    python scripts/benchmarks/chunking.py --data_root DNS_FOLDER
    python scripts/render_cards.py          # the tables of the README beside it from the record

Recordings are validation pairs, joined so that seams fall anywhere in them; each pair is scored by itself. SI-SDR is to
the one-pass output: how far apart the two are. The real-time factor is the process's own CPU time on one thread.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import PAIRS_OF_RECORDING, RATE, Pair, pesq_of, validation_pairs

from mvat_hf import MannerModel, enhance
from mvat_hf.metrics import si_sdr
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.errors import run_script
from mvat_hf.utils.records import environment, weights_hash, write_json

CHUNKS = [(chunk, overlap) for chunk in (4, 10) for overlap in (0, 0.1, 0.25, 0.5, 1, 2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_root", required=True, help="folder of DNS data")
    parser.add_argument("--model", default=str(SNAPSHOTS / "manner-s-8.1gf"), help="folder or Hub id")
    parser.add_argument("--pairs", type=int, default=20, help="validation pairs (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = MannerModel.from_pretrained(options.model).fuse()
    pairs = validation_pairs(options.data_root, options.pairs)
    record = {
        "model": Path(options.model).name,
        "weights_sha256": weights_hash(model),
        "pairs": options.pairs,
        "seconds": sum(len(pair["noisy"]) for pair in pairs) / RATE,
        **measure(model, pairs),
        "environment": environment(),
    }
    print(write_json(options.output, record))


def measure(model: MannerModel, pairs: list[Pair]) -> dict[str, Any]:
    """The scores of one pass, and a row for each way to cut."""

    def chunked(chunk: float | None, overlap: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda noisy: enhance(model, noisy, RATE, chunk_seconds=chunk, overlap_seconds=overlap)

    whole, one = run(chunked(None, 0), pairs)
    scores, noisy = pesq_of(pairs, whole), pesq_of(pairs, [pair["noisy"] for pair in pairs])
    rows = []
    for chunk, overlap in CHUNKS:
        outputs, factor = run(chunked(chunk, overlap), pairs)
        change = pesq_of(pairs, outputs) - scores
        apart = [si_sdr(one, output) for one, output in zip(whole, outputs, strict=True)]
        row = {"pesq_change": change.mean(), "pesq_lowest_change": change.min(), "si_sdr": np.mean(apart)}
        about = {"chunk_seconds": chunk, "overlap_seconds": overlap}
        rows.append({**about, **{key: float(value) for key, value in row.items()}, "real_time_factor": factor})
        print(rows[-1], flush=True)
    return {"noisy_pesq": noisy.mean(), "one_pass": {"pesq": scores.mean(), "real_time_factor": one}, "chunks": rows}


def run(function: Callable[[np.ndarray], np.ndarray], pairs: list[Pair]) -> tuple[list[np.ndarray], float]:
    """The outputs of `function` on the recordings, cut back into pairs, and its real-time factor."""
    outputs: list[np.ndarray] = []
    start, samples = time.process_time(), 0
    for first in range(0, len(pairs), PAIRS_OF_RECORDING):
        parts = [pair["noisy"] for pair in pairs[first : first + PAIRS_OF_RECORDING]]
        outputs += np.split(function(np.concatenate(parts)), np.cumsum([len(part) for part in parts])[:-1])
        samples += sum(len(part) for part in parts)
    return outputs, (time.process_time() - start) * RATE / samples


if __name__ == "__main__":
    run_script(main)
