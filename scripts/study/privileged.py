"""Scores of a teacher that hears the same speech at better signal-to-noise ratios (method mvat-privileged).

    python scripts/study/privileged.py --data_root DNS_FOLDER
    python scripts/render_cards.py          # renders the table of README.md

The released model enhances validation mixtures whose noise is turned down; scores are against the clean recordings.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from mvat_hf import MannerModel, enhance, load_dns
from mvat_hf.data.mixing import MixingOptions
from mvat_hf.distillation import build_method
from mvat_hf.metrics.scoring import QUICK, ScoringPool, mean_scores
from mvat_hf.models import DEFAULT_MODEL
from mvat_hf.utils.errors import run_script
from mvat_hf.utils.records import environment, weights_hash, write_json

GAINS = (0, 2.5, 5, 10, 20)  # dB
SNR_DB, RATE = (-5, 20), 16000  # of the mixtures, as the recipes of students have them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_root", required=True, help="folder of DNS data")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    options = parser.parse_args()
    model = MannerModel.from_pretrained(options.model).fuse()
    mixtures: Any = load_dns(options.data_root, "validation", mixing=MixingOptions(snr_db=SNR_DB))
    rows = []
    for gain in GAINS:
        method: Any = build_method("mvat-privileged", snr_gain=gain)
        with ScoringPool(1) as pool:
            pending = []
            for item in mixtures:
                noisy, clean = (torch.from_numpy(item[side]) for side in ("noisy", "clean"))
                heard = method.teacher_input({"input_values": noisy, "labels": clean}).numpy()
                pending.append(pool.submit(item["id"], item["clean"], enhance(model, heard, RATE), RATE))
            scores = [score.result() for score in pending]
        rows.append({"snr_gain": gain, **{key: mean_scores(scores)[key] for key in QUICK}})
        print(rows[-1], flush=True)
    record = {
        "model": options.model,
        "weights_sha256": weights_hash(model),
        "mixtures": len(mixtures),
        "rows": rows,
        "environment": environment(),
    }
    print(write_json(options.output, record))


if __name__ == "__main__":
    run_script(main)
