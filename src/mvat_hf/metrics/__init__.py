"""Speech quality metrics as plain functions of (reference, degraded, sampling_rate), arrays of shape (time,).

`intrusive`: PESQ, STOI, SI-SDR; `composite`: CSIG, CBAK, COVL and segmental SNR; `scoring`: pairs in a process pool.
"""

from .composite import composite, segmental_snr
from .intrusive import UnscorableError, pesq, si_sdr, stoi

__all__ = ["UnscorableError", "composite", "pesq", "segmental_snr", "si_sdr", "stoi"]
