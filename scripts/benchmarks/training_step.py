"""Time of a distillation step and of its parts, beside the straightforward implementation, as a record and a picture.

python scripts/benchmarks/training_step.py
python scripts/benchmarks/training_step.py --threads 1 2 --batch 4 --repeats 7

A step of MV-AT: student manner-s-8.1gf, teacher manner-b, both of random weights, which cost what trained ones cost;
4 s crops, AdamW. The straightforward implementation is `baseline.py`: the teacher whole, in float32. All systems run in
one process and take turns; numbers are medians. On one thread the time is the process's own CPU time, so that other
work on the machine counts little; on more it is the time that passes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import baseline
import torch
from torch import Tensor

from mvat_hf import MannerConfig, MannerModel
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.data.mixing import Mixer, MixingOptions
from mvat_hf.figures import step_times
from mvat_hf.losses import enhancement_loss, multi_view_attention_transfer
from mvat_hf.losses.distillation import MultiViewAttentionTransfer
from mvat_hf.records import environment, write_json

STUDENT, TEACHER, BETA = "manner-s-8.1gf", "manner-b", 0.1
SPEECH = Path(__file__).parents[1] / "demo" / "speech"


class Step:
    """A distillation step in parts, to be called one after another; each keeps what the next ones need."""

    def __init__(self, batch: int, seconds: float):
        torch.manual_seed(0)
        self.student = MannerModel(MannerConfig.from_preset(STUDENT)).train()
        self.teacher = MannerModel(MannerConfig.from_preset(TEACHER)).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.student.parameters(), 1e-3)
        speech = sorted(SPEECH.glob("*/*.ogg"))
        self.mixer = Mixer(speech, speech, MixingOptions(seconds=seconds))
        self.collator = SegmentCollator(seconds)
        self.batch, self.made = batch, 0

    def parts(self) -> dict[str, Callable[[], None]]:
        return {
            "loader": self.load,
            "teacher": self.teach,
            "student forward": self.forward,
            "loss": self.distance,
            "backward": lambda: self.loss.backward(),
            "optimiser": self.update,
        }

    def load(self) -> None:
        items = [self.mixer.item(self.made + index) for index in range(self.batch)]
        self.made += self.batch
        inputs = self.collator(items)
        self.noisy, self.clean = inputs["input_values"], inputs["labels"]

    def teach(self) -> None:
        with torch.no_grad():
            _, self.taught = baseline.compute(self.teacher, self.noisy)

    def forward(self) -> None:
        self.enhanced, self.views = baseline.compute(self.student, self.noisy)

    def distance(self) -> None:
        distance = multi_view_attention_transfer(self.views, self.taught)
        self.loss: Tensor = baseline.enhancement_loss(self.enhanced, self.clean, self.noisy) + BETA * distance

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


class PackageStep(Step):
    """The same as `DistillationTrainer` does it, in float32 or with the bfloat16 of the recipes."""

    def __init__(self, batch: int, seconds: float, dtype: torch.dtype | None = None):
        super().__init__(batch, seconds)
        self.method = MultiViewAttentionTransfer()
        self.last_level = self.method.last_level(self.student.config, self.teacher.config)
        self.autocast = torch.autocast("cpu", dtype, enabled=dtype is not None)
        self.teacher.fuse(dtype)

    def teach(self) -> None:
        with torch.no_grad(), self.autocast:
            self.taught = self.teacher(self.noisy, output_view_features=True, last_level=self.last_level)

    def forward(self) -> None:
        with self.autocast:
            self.student_output = self.student(self.noisy, output_view_features=True)

    def distance(self) -> None:
        distance = self.method(self.student_output, self.taught)
        self.loss = enhancement_loss(self.student_output.audio_values, self.clean, self.noisy)[0] + BETA * distance


SYSTEMS: dict[str, Callable[[int, float], Step]] = {
    "straightforward": Step,
    "mvat_hf": PackageStep,
    "mvat_hf bfloat16": lambda batch, seconds: PackageStep(batch, seconds, torch.bfloat16),
}


def measure(batch: int, seconds: float, threads: int, repeats: int) -> list[dict[str, Any]]:
    """A row for every system: median seconds of a step and of its parts, and its ratio to the straightforward."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    steps = {system: build(batch, seconds) for system, build in SYSTEMS.items()}
    times: dict[str, list[dict[str, float]]] = {system: [] for system in steps}
    losses = {}
    for turn in range(repeats + 1):
        for system, step in steps.items():
            taken = {}
            for name, part in step.parts().items():
                start = clock()
                part()
                taken[name] = clock() - start
            if turn > 0:  # the first step is slower
                times[system].append(taken)
            else:
                losses[system] = step.loss.item()
    totals = {system: statistics.median(sum(taken.values()) for taken in found) for system, found in times.items()}
    return [
        {
            "system": system,
            "threads": threads,
            "seconds_per_step": totals[system],
            "samples_per_second": batch / totals[system],
            "ratio": totals["straightforward"] / totals[system],
            "first_loss": losses[system],
            "parts": {name: statistics.median(taken[name] for taken in found) for name in found[0]},
        }
        for system, found in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2, help="clips per step (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip (default: %(default)s)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="numbers of threads (default: 1)")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each system (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    options = parser.parse_args()
    rows = [
        row for threads in options.threads for row in measure(options.batch, options.seconds, threads, options.repeats)
    ]
    record = {
        "kind": "training step benchmark",
        "student": STUDENT,
        "teacher": TEACHER,
        "batch": options.batch,
        "seconds": options.seconds,
        "repeats": options.repeats,
        "rows": rows,
        "environment": environment(),
    }
    write_json(options.output, record)
    step_times(record, options.output.with_suffix(".png"))
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
