"""Speech quality metrics as plain functions of (reference, degraded, sampling_rate), arrays of shape (time,).

`intrusive`: PESQ, STOI, ESTOI, SI-SDR; `composite`: CSIG, CBAK, COVL and segmental SNR; `nonintrusive`: DNSMOS, which
takes no reference; `recognition`: the word error rate of a recogniser; `scoring`: the table of all, and pairs in a
process pool; `speech_metrics`: the same as a metric of `evaluate`, by class or with
`evaluate.load(mvat_hf.metrics.MODULE, "pesq")`.
"""

from pathlib import Path

from .composite import composite, segmental_snr
from .intrusive import UnscorableError, estoi, pesq, si_sdr, stoi
from .nonintrusive import dnsmos
from .recognition import word_error_rate

MODULE = str(Path(__file__).with_name("speech_metrics.py"))  # what `evaluate.load` takes

__all__ = [
    "MODULE",
    "UnscorableError",
    "composite",
    "dnsmos",
    "estoi",
    "pesq",
    "segmental_snr",
    "si_sdr",
    "stoi",
    "word_error_rate",
]
