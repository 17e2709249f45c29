"""What tests of exports share: the runtimes installed, noisy speech, and how far two outputs are apart."""

from importlib.util import find_spec

import numpy as np
import pytest

from mvat_hf.acceleration.runtime import RUNTIMES
from mvat_hf.models.snapshots import SNAPSHOTS

# importing OpenVINO is left to the package
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
INSTALLED = [runtime for runtime in RUNTIMES if runtime != "openvino" or find_spec("openvino")]
EMBEDDED = SNAPSHOTS / "manner-s-8.1gf"


def noisy(length, speech):
    audio = np.resize(np.concatenate(speech), length)
    return audio + 0.02 * np.random.default_rng(0).standard_normal(length).astype(np.float32)


def relative_error(output, expected):
    peak = np.abs(expected).max()  # 0 of a single sample, whose mean the high-pass filter takes away
    return np.abs(output - expected).max() / (peak or 1)
