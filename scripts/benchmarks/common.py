"""What several benchmarks use: the demo's speech, and what a program took."""

import os
import subprocess
from pathlib import Path

import numpy as np
import soundfile

SPEECH = Path(__file__).parents[1] / "demo" / "speech"


def demo_speech() -> np.ndarray:
    """All of the demo's speech in a row, (time,) float32 at 16 kHz."""
    return np.concatenate([soundfile.read(path, dtype="float32")[0] for path in sorted(SPEECH.glob("*/*.ogg"))])


def taken_by(process: subprocess.Popen) -> dict[str, float]:
    """Wait for a program's end: CPU time in s, its own and its children's, and the largest memory of one of them in MB.

    Raises:
        CalledProcessError: it failed.
    """
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return {
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory_mb": usage.ru_maxrss / 1024,  # kilobytes on Linux
    }
