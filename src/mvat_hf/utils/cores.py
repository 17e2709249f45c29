"""How many CPU cores and threads this process may use: fewer than the machine has under `taskset` or in a container."""

import math
import os
import sys
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU time, or "max", and of the period


def usable_cores() -> int:
    """CPU cores that this process may use: those it is allowed on (Linux), and no more than a container's quota of CPU
    time is worth; elsewhere all."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text(encoding="utf-8").split()
        return min(allowed, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or no limit
        return allowed


def cpu_field(name: str) -> str:
    """The field `name` of the first CPU on Linux ("model name", "flags"); "" on other systems."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(name)), "").partition(":")[2].strip()


def threads_of_launcher() -> bool:
    """Whether OMP_NUM_THREADS is 1 because `accelerate launch` sets it so where its user did not: that shows in the
    environment and the command of the launcher, this process's parent, where the system lets them be read."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        return False
    import psutil  # comes with accelerate

    try:
        launcher = psutil.Process(os.getppid())
        command = launcher.cmdline()
        launched = any("accelerate" in Path(part).name for part in command)
        told = any(part.startswith(("--num_cpu_threads", "--num-cpu-threads")) for part in command)
        return launched and not told and "OMP_NUM_THREADS" not in launcher.environ()
    except (psutil.Error, OSError):
        return False


def computing_threads() -> int:
    """Threads that a network runs on: PyTorch's number where that is loaded, else OMP_NUM_THREADS, else all cores."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(told) if told.isdecimal() and int(told) else usable_cores()


def processes_here() -> int:
    """How many processes a launcher started on this machine, this one among them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))
