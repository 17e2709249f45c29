"""How many CPU cores this process may use: fewer than the machine has under `taskset` or in a container."""

import os


def usable_cores() -> int:
    """Cores that the process is allowed on, where the system tells (Linux); else all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
