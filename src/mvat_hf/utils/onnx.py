"""Networks in ONNX Runtime that are not ours."""

from os import PathLike


def one_thread_session(path: str | PathLike):
    """ONNX Runtime's session of a network, on one thread: many run side by side, and timings are of one core."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    return InferenceSession(path, options)
