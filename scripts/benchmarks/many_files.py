"""`mvat enhance` on a folder of many short files: one process, two, and killed half-way and resumed, into a record.

    python scripts/benchmarks/many_files.py
    python scripts/render_cards.py          # the table of the README beside it from the record

The files are sentences of the demo's speech with white noise, 1 to 2 s at 16 kHz, a hundred to a folder. Time is CPU
time of all processes of the command, start included, and by the clock; memory is the largest resident size of one.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from common import demo_speech, taken_by

from mvat_hf.acceleration.runtime_choice import CHOICES
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.records import environment, write_json

RATE, IN_A_FOLDER = 16000, 100
ENHANCE = ["-m", "mvat_hf", "enhance"]
TWO_PROCESSES = Path(__file__).parents[1] / "accelerate" / "cpu_processes.yaml"
TWO = ["-m", "accelerate.commands.launch", "--quiet", "--config_file", str(TWO_PROCESSES)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10000, help="how many (default: 10000)")
    parser.add_argument("--model", default=str(SNAPSHOTS / "manner-s-8.1gf"), help="folder or Hub id")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    parser.add_argument("--runtimes", nargs="+", default=["auto", *CHOICES], help="see mvat enhance (default: all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        seconds = write_files(source, options.files)
        tenth = Path(folder) / "tenth"
        write_files(tenth, options.files // 10)
        ways: list[tuple[str, Path, list[str], list[str]]] = [
            (f"one process, {runtime}", tenth, [], ["--runtime", runtime]) for runtime in options.runtimes
        ]
        ways += [("one process", source, [], []), ("two processes", source, TWO, [])]
        rows = []
        for number, (way, files, launcher, more) in enumerate(ways):
            command = [*launcher, *ENHANCE, str(files), str(Path(folder) / f"out{number}"), "--model", options.model]
            rows.append({"way": way, "files": count(files), **measure([*command, *more])})
            print(rows[-1], flush=True)
            check(files, Path(folder) / f"out{number}")
        command = [*ENHANCE, str(source), str(Path(folder) / "killed"), "--model", options.model]
        rows.append({"way": "what a kill half-way left", **killed_and_resumed(command)})
        print(rows[-1], flush=True)
        check(source, Path(folder) / "killed")
    about = {"model": Path(options.model).name, "seconds": seconds, "sampling_rate": RATE}
    print(write_json(options.output, {**about, "rows": rows, "environment": environment()}))


def write_files(folder: Path, files: int) -> float:
    """So many noisy files below `folder`; their length in seconds."""
    rng = np.random.default_rng(0)
    speech, total = demo_speech(), 0
    for number in range(files):
        path = folder / str(number // IN_A_FOLDER) / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        length = int(rng.integers(RATE, 2 * RATE))
        start = int(rng.integers(len(speech) - length))
        soundfile.write(path, speech[start : start + length] + 0.02 * rng.standard_normal(length), RATE)
        total += length
    return total / RATE


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)


def measure(command: list[str]) -> dict[str, float]:
    """Time and memory of a command with all its processes."""
    before = time.perf_counter()
    taken = taken_by(start(command))
    return {"wall_seconds": time.perf_counter() - before, **taken}


def killed_and_resumed(command: list[str]) -> dict[str, Any]:
    """`measure` of the second of two runs, the first of which was terminated with half of its files done."""
    source, target = Path(command[len(ENHANCE)]), Path(command[len(ENHANCE) + 1])
    process = start(command)
    while count(target) < count(source) // 2:
        if process.poll() is not None:
            raise ValueError(f"{source} has too few files to be interrupted")
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.wait()
    there = {path: path.stat().st_mtime_ns for path in target.rglob("*.wav")}
    partial = [path.name for path in target.rglob("*") if path.is_file() and path not in there]
    taken = measure([*command, "--resume"])
    again = sum(path.stat().st_mtime_ns != at for path, at in there.items())
    done = {"files": count(source) - len(there), "done_before": len(there), "done_again": again}
    return {**taken, **done, "left_half_written": partial}


def count(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.wav"))


def check(source: Path, target: Path) -> None:
    """ValueError unless each file is there, and as long as its source."""
    for path in source.rglob("*.wav"):
        if soundfile.info(target / path.relative_to(source)).frames != soundfile.info(path).frames:
            raise ValueError(f"{path} was not enhanced whole")


if __name__ == "__main__":
    main()
