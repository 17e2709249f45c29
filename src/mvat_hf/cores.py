"""How many CPU cores this process may use: fewer than the machine has under `taskset` or in a container."""

import os
from os import PathLike


def usable_cores() -> int:
    """Cores that the process is allowed on, where the system tells (Linux); else all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread_session(path: str | PathLike):
    """ONNX Runtime's session of a network, on one thread: many run side by side, and timings are of one core."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    return InferenceSession(path, options)
