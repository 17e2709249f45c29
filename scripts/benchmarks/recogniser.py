"""Whether enhancing helps a speech recogniser, by signal-to-noise ratio and share of the input, into a record.

    python scripts/benchmarks/recogniser.py --data_root DNS_FOLDER
    python scripts/render_cards.py          # the table of the card from the record

Speech is the validation part of the DNS folder, cut to a few seconds, each with a noise of the types that are held out
of training, at every ratio. The word error rate is to what the same recogniser hears in the clean speech, all edits by
all words; an interval is over recordings drawn anew with replacement.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RATE, validation_pairs

from mvat_hf import MannerModel, enhance
from mvat_hf.metrics.recognition import check_recogniser, transcribe, word_errors
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.errors import run_script
from mvat_hf.utils.records import environment, weights_hash, write_json

SNRS, SHARES = (-5, 0, 5, 10, 20), (0.0, 0.1, 0.2)  # dB; of the input
DRAWS = 2000
RECORD = Path(__file__).parents[2] / "model_cards" / "manner-s-8.1gf" / "recogniser.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_root", required=True, help="folder of DNS data")
    parser.add_argument("--model", default=str(SNAPSHOTS / "manner-s-8.1gf"), help="folder or Hub id")
    parser.add_argument("--recordings", type=int, default=40, help="of speech (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each, at most (default: %(default)s)")
    parser.add_argument("--snrs", nargs="+", type=float, default=SNRS, help="in dB (default: -5 0 5 10 20)")
    parser.add_argument("--output", type=Path, default=RECORD, help="record to write")
    options = parser.parse_args()
    check_recogniser()
    torch.set_num_threads(1)
    model = MannerModel.from_pretrained(options.model)
    pairs = read_pairs(options.data_root, options.recordings, round(options.seconds * RATE))
    heard = [transcribe(clean, RATE) for clean, _ in pairs]
    rows = []
    for snr in options.snrs:
        noisy = [mix(clean, noise, snr) for clean, noise in pairs]
        for share in (1.0, *SHARES):
            outputs = [enhance(model, audio, RATE, dry=share) for audio in noisy]
            errors = [
                word_errors(words, transcribe(output, RATE)) for words, output in zip(heard, outputs, strict=True)
            ]
            rows.append({"snr": snr, "dry": share, **rate_of(errors, [len(words) for words in heard])})
            print(rows[-1], flush=True)
    record = {
        "model": Path(options.model).name,
        "weights_sha256": weights_hash(model),
        "recordings": len(pairs),
        "seconds": sum(len(clean) for clean, _ in pairs) / RATE,
        "words": sum(len(words) for words in heard),
        "rows": rows,
        "environment": environment(),
    }
    print(write_json(options.output, record))


def read_pairs(root: str, count: int, samples: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Speech and noise (time,) of validation mixtures, evenly among them."""
    items = validation_pairs(root, count)
    clean, noisy = ([np.asarray(item[side])[:samples] for item in items] for side in ("clean", "noisy"))
    return [(speech, mixed - speech) for speech, mixed in zip(clean, noisy, strict=True)]


def mix(clean: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """`clean` in as much `noise` as makes `snr` dB."""
    return clean + noise * np.float32(np.sqrt(np.square(clean).sum() / np.square(noise).sum() / 10 ** (snr / 10)))


def rate_of(errors: list[int], words: list[int]) -> dict[str, Any]:
    """The word error rate, and an interval that holds it 95 times of 100."""
    counts = np.array([errors, words])
    drawn = np.random.default_rng(0).integers(len(errors), size=(DRAWS, len(errors)))
    edits, all_words = counts[:, drawn].sum(axis=2)
    low, high = np.quantile(edits / all_words, (0.025, 0.975))
    return {"word_error_rate": counts[0].sum() / counts[1].sum(), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    run_script(main)
