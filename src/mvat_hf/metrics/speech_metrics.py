"""The metrics as a metric of Hugging Face `evaluate`: by class, or by path, which copies this file."""

import math

import datasets
import evaluate

from mvat_hf.metrics.scoring import DNSMOS, FULL, METRICS, QUICK, check_metrics, mean_scores, score_pair

COMPOSITE = ("csig", "cbak", "covl", "llr", "wss", "ssnr")
SETS = {"default": QUICK, "full": FULL, "composite": ("pesq", *COMPOSITE), "dnsmos": DNSMOS}

INPUTS = """
Args:
    predictions: recordings to score, a list of arrays (time,), of any lengths.
    references: their clean references, of the same lengths; left out for "dnsmos", which takes none.
    sampling_rate: of all of them in Hz; PESQ, the composite measures and DNSMOS are defined at 16000.

Returns:
    The mean of every metric by its key (NaN if no pair has one), "scored", the number of pairs it is over, and
    "failures", a list of {"index", "reason"} of those that a metric is not defined for, silence for example.
"""

PAPERS = {
    "pesq": "ITU-T P.862 (2001) and P.862.2 (2007): Perceptual evaluation of speech quality",
    "stoi": "Taal, Hendriks, Heusdens, Jensen: An algorithm for intelligibility prediction of time-frequency weighted "
    "noisy speech, IEEE TASLP 2011",
    "estoi": "Jensen, Taal: An algorithm for predicting the intelligibility of speech masked by modulated noise "
    "maskers, IEEE/ACM TASLP 2016",
    "composite": "Hu, Loizou: Evaluation of objective quality measures for speech enhancement, IEEE TASLP 2008",
    "si_sdr": "Le Roux, Wisdom, Erdogan, Hershey: SDR - half-baked or well done?, ICASSP 2019",
    "dnsmos": "Reddy, Gopal, Cutler: DNSMOS P.835: A non-intrusive perceptual objective speech quality metric to "
    "evaluate noise suppressors, ICASSP 2022",
    "word_error_rate": "Huggins-Daines, Kumar, Chan, Black, Ravishankar, Rudnicky: PocketSphinx: a free, real-time "
    "continuous speech recognition system for hand-held devices, ICASSP 2006",
}


class SpeechMetrics(evaluate.Metric):
    """
    Speech quality of degraded recordings against clean references.

    Args:
        config_name: a key of `mvat_hf.metrics.scoring.METRICS` such as "pesq", or a set of them: by default PESQ-WB,
            STOI and SI-SDR, "full" (what papers report), "composite" or "dnsmos".
        options: of `evaluate.Metric`.

    Raises:
        ValueError: unknown `config_name`. MissingExtraError: the extra of DNSMOS or the recogniser is
            not installed.

    >>> import evaluate, mvat_hf
    >>> import numpy as np
    >>> clean = np.random.default_rng(0).standard_normal(48000)
    >>> noise = np.random.default_rng(1).standard_normal(48000)
    >>> metric = evaluate.load(mvat_hf.metrics.MODULE, "si_sdr")
    >>> scores = metric.compute(
    ...     predictions=[clean + 0.1 * noise, np.zeros(16000)], references=[clean, clean[:16000]], sampling_rate=16000
    ... )
    >>> round(scores["si_sdr"]), scores["scored"], scores["failures"]
    (20, 1, [{'index': 1, 'reason': 'the degraded is silent'}])
    """

    def __init__(self, config_name: str | None = None, **options):
        name = config_name or "default"
        self.metrics = check_metrics(SETS.get(name, (name,)))
        super().__init__(config_name=name, **options)

    def _info(self) -> evaluate.MetricInfo:
        inputs = ["predictions"] if set(self.metrics) <= set(DNSMOS) else ["predictions", "references"]
        titles = ", ".join(METRICS[key].title for key in self.metrics)
        info = evaluate.MetricInfo(
            description=f"{titles} of recordings of speech.",
            citation="\n".join(PAPERS[paper] for paper in dict.fromkeys(map(paper_of, self.metrics))),
            inputs_description=INPUTS,
            features=datasets.Features({name: datasets.Sequence(datasets.Value("float32")) for name in inputs}),
        )
        info.format = "numpy"  # spares a Python float a sample; as an argument it is refused for anything but scalars
        return info

    def _compute(self, *, sampling_rate: int, predictions=None, references=None) -> dict:
        pairs = zip(predictions if references is None else references, predictions, strict=True)
        scores = [score_pair(str(index), *pair, sampling_rate, self.metrics) for index, pair in enumerate(pairs)]
        failures = [
            {"index": index, "reason": score.failure} for index, score in enumerate(scores) if score.failure is not None
        ]
        means = mean_scores(scores) or dict.fromkeys(self.metrics, math.nan)
        return {**means, "scored": len(scores) - len(failures), "failures": failures}


def paper_of(key: str) -> str:
    """Entry of `PAPERS` that a metric is of."""
    if key in COMPOSITE:
        return "composite"
    return "dnsmos" if key in DNSMOS else key.removesuffix("_nb")
