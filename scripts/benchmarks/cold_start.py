"""How long the command takes to start, beside the imports that it cannot do without, into a record.

    python scripts/benchmarks/cold_start.py

Every program runs in a process of its own, one after the other in rounds, so that other work on the machine slows all
alike. Time is that process's own CPU time (user and system) on one thread, and the clock's; ratios are of the medians
of CPU time, to `from transformers import PreTrainedModel`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.records import environment, write_json

SECONDS, RATE = 5, 16000
MODEL = str(SNAPSHOTS / "manner-s-8.1gf")
REFERENCE = "from transformers import PreTrainedModel"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each program (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "noisy.wav", Path(folder) / "clean.wav"
        soundfile.write(source, 0.1 * np.random.default_rng(0).standard_normal(SECONDS * RATE), RATE)
        programs = {
            "import torch": ["-c", "import torch"],
            REFERENCE: ["-c", REFERENCE],
            "import mvat_hf": ["-c", "import mvat_hf"],
            "from mvat_hf import enhance": ["-c", "from mvat_hf import enhance"],
            "mvat --help": ["-m", "mvat_hf", "--help"],
            "mvat --version": ["-m", "mvat_hf", "--version"],
            f"mvat enhance, {SECONDS} s": ["-m", "mvat_hf", "enhance", str(source), str(target), "--model", MODEL],
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for number in range(options.rounds + 1):
            for name, arguments in programs.items():
                taken = measure([sys.executable, *arguments])
                if number:  # the first round warms the disk's cache
                    runs[name].append(taken)
    rows = []
    base = statistics.median(cpu for cpu, _ in runs[REFERENCE])
    for name, times in runs.items():
        cpu, clock = (statistics.median(column) for column in zip(*times, strict=True))
        rows.append({"program": name, "cpu_seconds": cpu, "seconds": clock, "ratio": cpu / base})
        print(f"{name:<42} {cpu:6.2f} s of CPU {clock:6.2f} s {cpu / base:6.2f}")
    about = {"reference": REFERENCE, "rounds": options.rounds, "threads": 1}
    print(write_json(options.output, {**about, "rows": rows, "environment": environment()}))


def measure(command: list[str]) -> tuple[float, float]:
    """CPU time and time by the clock of a program, both in s; CalledProcessError if it failed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start


if __name__ == "__main__":
    main()
