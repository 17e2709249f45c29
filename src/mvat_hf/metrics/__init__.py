"""Speech quality metrics as plain functions of (reference, degraded, sampling_rate), arrays of shape (time,).

`intrusive`: PESQ, STOI, SI-SDR; `scoring`: many pairs in a process pool.
"""

from .intrusive import UnscorableError, pesq, si_sdr, stoi

__all__ = ["UnscorableError", "pesq", "si_sdr", "stoi"]
