"""Helpers of several benchmarks: speech and validation mixtures, their PESQ, time and memory of a program."""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE, PAIRS_OF_RECORDING = 16000, 5
Pair = dict[str, np.ndarray]
SPEECH = Path(__file__).parents[1] / "demo" / "speech"


def demo_speech() -> np.ndarray:
    """All of the demo's speech in a row, (time,) float32 at 16 kHz."""
    return np.concatenate([soundfile.read(path, dtype="float32")[0] for path in sorted(SPEECH.glob("*/*.ogg"))])


def validation_pairs(root: str, count: int) -> list[Pair]:
    """So many validation mixtures of a DNS folder, evenly among them."""
    from mvat_hf import load_dns

    mixtures: Any = load_dns(root, "validation")
    return [mixtures[int(index)] for index in np.linspace(0, len(mixtures) - 1, count)]


def pesq_of(pairs: list[Pair], outputs: list[np.ndarray]) -> np.ndarray:
    """PESQ-WB of each output to the clean side of its pair, (pairs,)."""
    from mvat_hf.metrics import pesq

    return np.array([pesq(pair["clean"], output, RATE) for pair, output in zip(pairs, outputs, strict=True)])


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
