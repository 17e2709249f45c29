"""How fast mixtures are made, beside how fast training uses them up.

    python scripts/benchmarks/loader.py --data_root DNS_FOLDER

Writes `loader.json` beside this file. Batches of 8 x 2 s; a training step is one of manner-s-8.1gf in float32: forward,
L_SE, backward, Adam. Rates and ratios are of CPU time, workers included, so that programs that run beside
hardly move them; on one core that is how many times faster mixing is than training.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from mvat_hf import MannerConfig, MannerModel, load_dns
from mvat_hf.data.augment import Augmentation
from mvat_hf.data.batch_augmentation import AugmentingCollator, BatchAugmentation
from mvat_hf.data.mixing import MixingOptions
from mvat_hf.data.streaming import MixtureStream
from mvat_hf.utils.cores import usable_cores
from mvat_hf.utils.errors import run_script
from mvat_hf.utils.records import environment, write_json

BATCH, SECONDS, RATE, PRESET = 8, 2.0, 16000, "manner-s-8.1gf"
WORKERS = (0, 1, 2)
OFF = BatchAugmentation()
# what is switched on: changes to the mixtures, and to the batches
VARIANTS = {
    "plain": (Augmentation(), OFF),
    "augmented": (
        Augmentation(speed_change=0.1, equaliser_probability=1, second_noise_probability=0.5),
        BatchAugmentation(remix_probability=1, band_mask=0.2),
    ),
    "reverberant": (Augmentation(reverb_probability=1), OFF),
}


def batches(stream: MixtureStream, augmentation: BatchAugmentation, workers: int) -> Iterator[dict[str, torch.Tensor]]:
    """The stream as training reads it."""
    collator = AugmentingCollator(SECONDS, RATE, augmentation=augmentation)
    return iter(DataLoader(stream, BATCH, collate_fn=collator, num_workers=workers))


def cpu_seconds() -> float:
    """CPU time of this process and of its finished workers."""
    return sum(os.times()[:4])


def timed(prepare: Callable[[], Callable[[], object]], count: int) -> dict[str, float]:
    """Rates over `count` calls of what `prepare` gives, each of which makes or uses one batch."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    action = prepare()
    for _ in range(count):
        action()
    wall = time.perf_counter() - wall
    del action  # workers end, and what they made ahead of need counts
    cpu = cpu_seconds() - cpu
    return {
        "wall_seconds_per_batch": wall / count,
        "cpu_seconds_per_batch": cpu / count,
        "mixtures_per_cpu_second": BATCH * count / cpu,
        "audio_seconds_per_cpu_second": BATCH * SECONDS * count / cpu,
    }


def training_step(model: MannerModel, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> None:
    optimizer.zero_grad()
    model(**batch).loss.backward()
    optimizer.step()


def measure(root: str, count: int) -> dict:
    """The record: times of a batch from the loader alone, of a training step alone, and of the two together."""
    streams, made_in = {}, {}
    for name, (augmentation, _) in VARIANTS.items():
        start = time.perf_counter()
        mixing = MixingOptions(SECONDS, augmentation=augmentation)
        streams[name] = load_dns(root, "train", mixing=mixing, streaming=True, batch_size=BATCH)
        made_in[name] = time.perf_counter() - start

    model = MannerModel(MannerConfig.from_preset(PRESET)).train()
    optimizer = torch.optim.Adam(model.parameters())
    batch = next(batches(streams["plain"], OFF, 0))
    training_step(model, optimizer, batch)  # the first one allocates
    step = timed(lambda: partial(training_step, model, optimizer, batch), max(count // 8, 3))

    rows = []
    for name, (_, of_batch) in VARIANTS.items():
        for workers in WORKERS:
            alone = timed(lambda: partial(next, batches(streams[name], of_batch, workers)), count)  # noqa: B023
            ratio = step["cpu_seconds_per_batch"] / alone["cpu_seconds_per_batch"]
            rows.append({"variant": name, "workers": workers, **alone, "times_training": ratio})
            print(rows[-1], flush=True)

    def step_with_loader() -> Callable[[], None]:
        loader = batches(streams["augmented"], VARIANTS["augmented"][1], 1)
        return lambda: training_step(model, optimizer, next(loader))

    together = timed(step_with_loader, max(count // 8, 3))
    slower = together["cpu_seconds_per_batch"] / step["cpu_seconds_per_batch"]
    return {
        "kind": "loader benchmark",
        "batch": BATCH,
        "seconds_per_mixture": SECONDS,
        "variants": {name: {"mixing": vars(one), "batch": vars(other)} for name, (one, other) in VARIANTS.items()},
        "cores_used": usable_cores(),
        "load_average": os.getloadavg(),
        "seconds_to_open": made_in,
        "loader": rows,
        "training": {"preset": PRESET, **step},
        "training_with_augmented_loader": {"workers": 1, **together, "times_step_alone": slower},
        "environment": environment(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_root", required=True, help="folder of DNS data")
    parser.add_argument("--batches", type=int, default=48, help="timed for each number")
    parser.add_argument("--output", default=Path(__file__).with_suffix(".json"), type=Path)
    options = parser.parse_args()
    torch.set_num_threads(usable_cores())
    write_json(options.output, measure(options.data_root, options.batches))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    run_script(main)
