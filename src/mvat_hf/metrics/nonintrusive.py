"""DNSMOS: what listeners might have said of a recording, guessed by a network without a clean reference."""

from functools import cache
from pathlib import Path

import numpy as np

from ..utils.errors import extra
from ..utils.onnx import one_thread_session
from ..utils.pcm import FULL_SCALE
from .intrusive import UsageError, check_signal

RATE = 16000  # Hz


def dnsmos(degraded: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """
    {"sig", "bak", "ovrl"}, mean opinion scores of speech, background and both after ITU-T P.835 (Reddy et al. 2022),
    and {"p808"}, one of overall quality after P.808 (Reddy et al. 2021): 1 to 5, by the package `speechmos`.

    It needs no reference, and so it alone misleads: it does not see words that are lost or added, and it prefers what
    sounds clean, as spectral gating does, where PESQ and STOI fall. Means are over windows of 9.01 s with a hop of
    1 s; a shorter recording is repeated until it fills one. The scores depend on the level, unlike those of PESQ and
    STOI. Samples beyond -1 and 1 are clipped, as a file of 16 bits would.

    Args:
        degraded: (time,) at `sampling_rate` of 16000 Hz; floating, or integer PCM of 16 or 32 bits.

    Raises:
        UnscorableError: silence, NaN. UsageError: another rate. MissingExtraError: `mvat_hf[dnsmos]` is not installed.
    """
    if sampling_rate != RATE:
        raise UsageError(f"DNSMOS is defined at {RATE} Hz, got {sampling_rate} Hz")
    audio = check_signal(degraded, "degraded") / FULL_SCALE.get(np.asarray(degraded).dtype.name, 1)
    audio = audio.clip(-1, 1).astype(np.float32)
    scores = load_dnsmos()(audio, RATE, is_personalized_MOS=False)
    return {name: float(scores[f"{name}_mos"]) for name in ("sig", "bak", "ovrl", "p808")}


def check_dnsmos() -> None:
    """MissingExtraError if DNSMOS cannot be computed for want of a package."""
    with extra("dnsmos"):
        import librosa  # noqa: F401
        import onnxruntime  # noqa: F401
        import speechmos.dnsmos  # noqa: F401


@cache
def load_dnsmos():
    """The package's scorer with the networks it ships; its own sessions would take all cores in every process."""
    check_dnsmos()
    from speechmos import dnsmos as package

    class Scorer(package.DNSMOS):
        def __init__(self, folder: Path):
            self.onnx_sess = one_thread_session(folder / "sig_bak_ovr.onnx")
            self.p808_onnx_sess = one_thread_session(folder / "model_v8.onnx")

    return Scorer(Path(package.__file__).parent / "dnsmos_models")
