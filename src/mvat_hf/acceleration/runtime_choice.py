"""The choice of the runtime on this CPU, from measured speeds (`measured.json`, rendered from the benchmarks)."""

import json
import os
import platform
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..utils.cores import cpu_field

CHOICES = ("torch", "onnx", "openvino")
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
VARIABLE = "MVAT_RUNTIME"  # in the environment: what "auto" means
LONG_SECONDS = 600.0  # of audio, from which on OpenVINO gains more than the seconds that it takes to compile
MEASURED = Path(__file__).with_name("measured.json")


def choose_runtime(seconds: float | None = None, fast: bool = False) -> str:
    """
    One of `CHOICES`, whatever is installed of them; the outputs agree to 1e-4 of their peak.

    On CPUs that were measured: ONNX Runtime for less than 10 minutes of audio and for an unknown length (a folder), as
    it starts at once and takes every length as it comes; for more, or without ONNX Runtime, the fastest that is
    installed, which is OpenVINO: it compiles for seconds first. On other CPUs PyTorch, if it is installed.

    Args:
        seconds: length of the audio; None if it is not known.
        fast: bfloat16 is allowed: OpenVINO on CPUs that have it.

    Raises:
        ValueError: the variable `MVAT_RUNTIME`, which decides where it is set, is none of them.
    """
    if (told := os.environ.get(VARIABLE) or "auto") != "auto":
        check_runtime(told, VARIABLE)
        return told
    speeds = measured()["speed"].get(instructions())
    there = [name for name in PACKAGES if find_spec(PACKAGES[name]) is not None]
    if not there:
        return "torch"
    if speeds is None:
        return there[0] if any(find_spec(package) is None for package in ("torch", "transformers")) else "torch"
    if fast and "openvino" in there and has_bfloat16():
        return "openvino"
    if "onnx" in there and (seconds is None or seconds < LONG_SECONDS):
        there = ["onnx"]
    return max(["torch", *there], key=lambda name: speeds[name])


def check_runtime(runtime: str, name: str = "runtime") -> None:
    """ValueError for an unknown runtime; the message calls it `name`."""
    if runtime not in ("auto", *CHOICES):
        raise ValueError(f"{name} must be auto, {', '.join(CHOICES[:-1])} or {CHOICES[-1]}, got {runtime}")


@cache
def measured() -> dict[str, Any]:
    """
    speed: {instructions: {runtime: times the straightforward graph's speed, for 10 s on one thread}}.
    bfloat16: {pesq_change, si_sdr_change (dB), pairs} of OpenVINO in bfloat16 against float32.
    """
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def instructions() -> str:
    """The CPU's instructions under PyTorch's names, "AVX512" or "AVX2"; for other families the machine's name."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return machine
    return "AVX512" if "avx512f" in cpu_flags() else "AVX2"


def has_bfloat16() -> bool:
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def cpu_flags() -> set[str]:
    """Flags of the first CPU, on Linux; none on other systems."""
    return set(cpu_field("flags").split())


__all__ = ["CHOICES", "check_runtime", "choose_runtime", "has_bfloat16", "measured"]
