"""Time of a distillation step and of its parts, beside the straightforward implementation, as a record and a picture.

python scripts/benchmarks/training_step.py
python scripts/benchmarks/training_step.py --threads 1 2 --batch 4 --repeats 7
python scripts/benchmarks/training_step.py --device cuda --batch 16 --output scripts/benchmarks/training_step_gpu.json

A step of MV-AT: student manner-s-8.1gf, teacher manner-b, both of random weights, which cost what trained ones cost;
4 s crops, AdamW. The straightforward implementation is `baseline.py`: the teacher whole, in float32. All systems run in
one process and take turns; numbers are medians. On one thread the time is the process's own CPU time, so that other
work on the machine counts little; on more, and on a GPU, it is the time that passes. For the parts, each waits for the
GPU to end; the time of a step on a GPU is that of steps that do not wait, without the loader, whose part worker
processes do in training. TensorFloat-32 is off where it is not named.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import baseline
import numpy as np
import torch
from common import SPEECH
from matplotlib.figure import Figure
from torch import Tensor

from mvat_hf import MannerConfig, MannerModel
from mvat_hf.acceleration.training_layers import use_training_layers
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.data.mixing import Mixer, MixingOptions
from mvat_hf.distillation import MultiViewAttentionTransfer, multi_view_attention_transfer
from mvat_hf.losses import enhancement_loss
from mvat_hf.utils.records import environment, write_json

STUDENT, TEACHER, BETA = "manner-s-8.1gf", "manner-b", 0.1
STEPS_TOGETHER = 5


def build(preset: str, device: str) -> Any:
    """A model of random weights on `device`."""
    model: Any = MannerModel(MannerConfig.from_preset(preset))
    return model.to(device)


class Step:
    """A distillation step in parts, to be called one after another; each keeps what the next ones need."""

    def __init__(self, batch: int, seconds: float, device: str):
        torch.manual_seed(0)
        self.device, self.tf32 = device, False
        self.student = build(STUDENT, device).train()
        self.teacher = build(TEACHER, device).eval().requires_grad_(False)
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
        self.noisy, self.clean = inputs["input_values"].to(self.device), inputs["labels"].to(self.device)

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

    def __init__(
        self,
        batch: int,
        seconds: float,
        device: str,
        dtype: torch.dtype | None = None,
        tf32: bool = False,
        compiled: bool = False,
    ):
        super().__init__(batch, seconds, device)
        use_training_layers(self.student)
        self.tf32 = tf32
        self.method = MultiViewAttentionTransfer()
        self.last_level = self.method.last_level(self.student.config, self.teacher.config)
        self.autocast = torch.autocast(device, dtype, enabled=dtype is not None)
        if device == "cpu":
            self.teacher.fuse(dtype)
        if compiled:
            self.student, self.teacher = torch.compile(self.student), torch.compile(self.teacher)

    def teach(self) -> None:
        with torch.no_grad(), self.autocast:
            self.taught = self.teacher(self.noisy, output_view_features=True, last_level=self.last_level)

    def forward(self) -> None:
        with self.autocast:
            self.student_output = self.student(self.noisy, output_view_features=True)

    def distance(self) -> None:
        distance = sum(self.method(self.student_output, self.taught, {}).values())
        self.loss = enhancement_loss(self.student_output.audio_values, self.clean, self.noisy)[0] + BETA * distance


BFLOAT16: dict[str, Any] = {"dtype": torch.bfloat16}
SYSTEMS: dict[str, Callable[..., Step]] = {
    "straightforward": Step,
    "mvat_hf": PackageStep,
    "mvat_hf bfloat16": partial(PackageStep, **BFLOAT16),
}
GPU_SYSTEMS: dict[str, Callable[..., Step]] = {
    "mvat_hf TensorFloat-32": partial(PackageStep, tf32=True),
    "mvat_hf bfloat16, TensorFloat-32": partial(PackageStep, **BFLOAT16, tf32=True),
    "mvat_hf bfloat16, TensorFloat-32, compiled": partial(PackageStep, **BFLOAT16, tf32=True, compiled=True),
}


def measure(batch: int, seconds: float, threads: int, repeats: int, device: str) -> list[dict[str, Any]]:
    """A row for every system: median seconds of a step and of its parts, and its ratio to the straightforward."""
    torch.set_num_threads(threads)
    on_gpu = device == "cuda"
    clock = time.process_time if threads == 1 and not on_gpu else time.perf_counter
    systems = SYSTEMS | GPU_SYSTEMS if on_gpu else SYSTEMS
    steps = {system: build(batch, seconds, device) for system, build in systems.items()}
    times: dict[str, list[dict[str, float]]] = {system: [] for system in steps}
    losses = {}
    for turn in range(repeats + 1):
        for system, step in steps.items():
            allow_tf32(step.tf32)
            taken = {}
            for name, part in step.parts().items():
                start = clock()
                part()
                if on_gpu:
                    torch.cuda.synchronize()
                taken[name] = clock() - start
            if turn > 0:  # the first step is slower
                times[system].append(taken)
            else:
                losses[system] = step.loss.item()
    together = {system: run_together(step, repeats) if on_gpu else {} for system, step in steps.items()}
    totals = {
        system: together[system].get("seconds_per_step") or statistics.median(sum(taken.values()) for taken in found)
        for system, found in times.items()
    }
    return [
        {
            "system": system,
            "threads": threads,
            "seconds_per_step": totals[system],
            "samples_per_second": batch / totals[system],
            "ratio": totals["straightforward"] / totals[system],
            "first_loss": losses[system],
            "parts": {name: statistics.median(taken[name] for taken in found) for name in found[0]},
            **together[system],
        }
        for system, found in times.items()
    ]


def run_together(step: Step, repeats: int) -> dict[str, float]:
    """Steps on a GPU that do not wait for each other, on one batch: median seconds, memory, and how busy the GPU is."""
    allow_tf32(step.tf32)
    torch.cuda.reset_peak_memory_stats()
    parts = [part for name, part in step.parts().items() if name != "loader"]
    taken, busy = [], []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(STEPS_TOGETHER):
            for part in parts:
                part()
        busy.append(torch.cuda.utilization())  # of the last sixth of a second or so
        torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) / STEPS_TOGETHER)
    return {
        "seconds_per_step": statistics.median(taken),
        "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9,
        "utilisation_percent": statistics.median(busy),
    }


def allow_tf32(allowed: bool) -> None:
    """Let a GPU round the factors of float32 products and convolutions to 10 bits, or not."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def step_times(record: Mapping[str, Any], path: str | Path) -> None:
    """Seconds of the parts of a training step, a bar a system (a record of `scripts/benchmarks/training_step.py`)."""
    rows = list(reversed(record["rows"]))
    figure = Figure(figsize=(9, 1.2 + 0.6 * len(rows)), layout="constrained")
    axis = figure.subplots()
    names = [f"{row['system']}, threads: {row['threads']}" for row in rows]
    start = np.zeros(len(rows))
    for part in rows[0]["parts"]:
        seconds = np.array([row["parts"][part] for row in rows])
        axis.barh(names, seconds, left=start, label=part)
        start += seconds
    axis.set(xlabel=f"seconds per step of {record['batch']} x {record['seconds']} s")
    axis.legend(fontsize="small", ncols=len(rows[0]["parts"]), loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2, help="clips per step (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip (default: %(default)s)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="numbers of threads (default: 1)")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each system (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (default: %(default)s)")
    options = parser.parse_args()
    rows = [
        row
        for threads in options.threads
        for row in measure(options.batch, options.seconds, threads, options.repeats, options.device)
    ]
    record = {
        "kind": "training step benchmark",
        "device": options.device,
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
