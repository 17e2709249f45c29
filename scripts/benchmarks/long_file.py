"""Memory and time of `mvat enhance` as a file gets longer, and what a kill leaves, into a record.

    python scripts/benchmarks/long_file.py
    python scripts/render_cards.py          # the sentence of the README beside it from the record

The input is the demo's speech, again and again, with white noise, as 48 kHz stereo; a name as `180.mp3` says how many
minutes of it, and how they are coded. Every runtime is measured on files up to ten minutes, the chosen one on all.
Memory is the largest resident size of the command's process, libraries included; time is that process's own CPU time on
one thread, start included, so that other work on the machine counts little.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from common import demo_speech, taken_by

from mvat_hf.acceleration.runtime_choice import CHOICES
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.records import environment, write_json

RATE, CHANNELS = 48000, 2
FILES = ["1.wav", "10.wav", "60.wav", "180.mp3"]
SHORT_MINUTES = 10  # on files up to these all runtimes are measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", nargs="+", default=FILES, help=f"minutes and format (default: {' '.join(FILES)})")
    parser.add_argument("--model", default=str(SNAPSHOTS / "manner-s-8.1gf"), help="folder or Hub id")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    parser.add_argument("--runtimes", nargs="+", default=["auto", *CHOICES], help="see mvat enhance (default: all)")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.files:
            for path in Path(folder).iterdir():  # the file before
                path.unlink()
            source, minutes = Path(folder) / f"long{Path(name).suffix}", float(Path(name).stem)
            target = source.with_stem("enhanced")
            write_recording(source, minutes)
            for runtime in options.runtimes if minutes <= SHORT_MINUTES else ["auto"]:
                taken = measure(source, target, options.model, runtime)
                rows.append({"minutes": minutes, "format": source.suffix[1:], "runtime": runtime, **taken})
                print(rows[-1], flush=True)
                target.unlink()
        left = left_by_kill(source, target, options.model)
    about = {"model": Path(options.model).name, "sampling_rate": RATE, "channels": CHANNELS, "threads": 1}
    print(write_json(options.output, {**about, "rows": rows, "left_by_sigterm": left, "environment": environment()}))


def write_recording(path: Path, minutes: float) -> None:
    """Noisy speech of that length, both channels with noise of their own, written minute by minute."""
    rng = np.random.default_rng(0)
    minute = np.resize(soxr.resample(demo_speech(), 16000, RATE), 60 * RATE)
    with soundfile.SoundFile(path, "w", RATE, CHANNELS) as file:
        for part in np.split(minute, [round(minutes % 1 * 60 * RATE)])[:1] + [minute] * int(minutes):
            file.write(part[:, None] + 0.02 * rng.standard_normal((len(part), CHANNELS)))


def start(source: Path, target: Path, model: str, runtime: str = "auto") -> subprocess.Popen:
    command = [sys.executable, "-m", "mvat_hf", "enhance", str(source), str(target), "--model", model]
    return subprocess.Popen([*command, "--runtime", runtime], env={**os.environ, "OMP_NUM_THREADS": "1"})


def measure(source: Path, target: Path, model: str, runtime: str) -> dict[str, Any]:
    """Memory and CPU time of one run; ValueError unless it wrote as many frames as it read."""
    process = start(source, target, model, runtime)
    taken = taken_by(process)
    if soundfile.info(target).frames != soundfile.info(source).frames:
        raise ValueError(f"{source} was not enhanced whole")
    return {**taken, "real_time_factor": taken["cpu_seconds"] / soundfile.info(source).duration}


def left_by_kill(source: Path, target: Path, model: str) -> list[str]:
    """Files beside the source after a run was terminated in the midst of writing."""
    process = start(source, target, model)
    while not any(path.suffix == ".partial" and path.stat().st_size > 2**20 for path in source.parent.iterdir()):
        if process.poll() is not None:
            raise ValueError(f"{source} is too short to be interrupted")
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.wait()
    return sorted(path.name for path in source.parent.iterdir() if path != source)


if __name__ == "__main__":
    main()
