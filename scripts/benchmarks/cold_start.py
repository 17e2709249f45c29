"""How long the command takes from start to end, beside the imports of its largest dependencies, into a record.

    python scripts/benchmarks/cold_start.py
    python scripts/benchmarks/cold_start.py --small PYTHON    # of an install without torch, see README.md

Every program runs in a process of its own, one after the other in rounds, so that other work on the machine slows all
alike. Times are the process's own CPU time (user and system) on one thread, and the clock's. The table divides the
medians of CPU time by that of `import torch`; the record's `ratio` divides them by that of its `reference`. Memory is
the largest resident size. The runtime of a row is what computes. The Hub is not asked.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from common import taken_by

from mvat_hf.acceleration.runtime_choice import CHOICES, choose_runtime
from mvat_hf.models import DEFAULT_MODEL
from mvat_hf.utils.records import environment, write_json

SECONDS, RATE = 5, 16000
REFERENCE = "from transformers import PreTrainedModel"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of each program (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    parser.add_argument("--small", type=Path, metavar="PYTHON", help="interpreter of an install without torch")
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
        }
        runtimes = dict.fromkeys(programs, "")
        enhance = ["-m", "mvat_hf", "enhance", str(source), str(target)]
        for runtime in ("auto", *CHOICES):
            name = f"mvat enhance, {SECONDS} s" + (f", --runtime {runtime}" if runtime != "auto" else "")
            programs[name] = [*enhance, "--runtime", runtime]
            runtimes[name] = choose_runtime() if runtime == "auto" else runtime
        small = f"mvat enhance, {SECONDS} s, install without torch"
        if options.small:
            programs[small], runtimes[small] = enhance, "onnx"
        runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in programs}
        for number in range(options.rounds + 1):
            for name, arguments in programs.items():
                python = options.small.absolute() if name == small else sys.executable
                taken = measure([str(python), *arguments])
                if number:  # the first round warms the disk's cache
                    runs[name].append(taken)
    rows = []
    base = statistics.median(cpu for cpu, _, _ in runs[REFERENCE])
    for name, times in runs.items():
        cpu, clock, memory = (statistics.median(column) for column in zip(*times, strict=True))
        row = {"program": name, "cpu_seconds": cpu, "seconds": clock, "ratio": cpu / base, "peak_memory_mb": memory}
        rows.append({**row, "runtime": runtimes[name]} if runtimes[name] else row)
        print(f"{name:<48} {cpu:6.2f} s of CPU {clock:6.2f} s {cpu / base:6.2f} {memory:5.0f} MB {runtimes[name]}")
    about: dict[str, Any] = {"reference": REFERENCE, "model": DEFAULT_MODEL, "rounds": options.rounds, "threads": 1}
    if options.small:
        about["small_install"] = describe_install(options.small)
    print(write_json(options.output, {**about, "rows": rows, "environment": environment()}))


def describe_install(python: Path) -> dict[str, Any]:
    """Size on disk and packages of an environment, without pip and setuptools; ValueError if torch is there."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    if (site / "torch").exists():
        raise ValueError(f"{python} has torch, expected an install without it")
    tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    files = [path for path in site.rglob("*") if not path.relative_to(site).parts[0].startswith(tools)]
    size = sum(path.lstat().st_size for path in files if not path.is_dir())
    packages = sorted(path.name.removesuffix(".dist-info") for path in site.glob("*.dist-info"))
    kept = [name for name in packages if not name.startswith(tools)]
    return {"megabytes": size / 1e6, "packages": kept}


def measure(command: list[str]) -> tuple[float, float, float]:
    """CPU time and time by the clock of a program, in s, and its memory in MB; CalledProcessError if it failed."""
    start = time.perf_counter()
    told = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": tempfile.gettempdir()}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **told}
    )
    taken = taken_by(process)
    return taken["cpu_seconds"], time.perf_counter() - start, taken["peak_memory_mb"]


if __name__ == "__main__":
    main()
