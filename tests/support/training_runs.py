"""Short runs of a small model, for the tests of the trainers."""

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback

from mvat_hf.data.collator import SegmentCollator
from mvat_hf.models.manner import MannerConfig, MannerModel
from mvat_hf.training.arguments import DistillationConfig, EnhancementConfig
from mvat_hf.training.distillation_trainer import DistillationTrainer
from mvat_hf.training.trainer import EnhancementTrainer

SECONDS = 0.25


def pairs(count: int, seconds: float = SECONDS) -> Dataset:
    rng = np.random.default_rng(0)
    clean = [np.cumsum(rng.standard_normal(round(seconds * 16000))).astype(np.float32) / 300 for _ in range(count)]
    noisy = [speech + 0.05 * rng.standard_normal(len(speech)).astype(np.float32) for speech in clean]
    return Dataset.from_dict({"id": [str(n) for n in range(count)], "clean": clean, "noisy": noisy}).with_format(
        "numpy"
    )


def small_model(seed: int = 0, **options) -> MannerModel:
    torch.manual_seed(seed)
    return MannerModel(MannerConfig(**{"hidden_size": 6, "depth": 2, "attention_levels": "deepest", **options}))


def arguments(folder, kind=EnhancementConfig, **options) -> EnhancementConfig:
    defaults = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "dataloader_num_workers": 0,
        "scoring_processes": 1,
        "disable_tqdm": True,
    }
    return kind(**{**defaults, **options})


def plain(folder, callbacks=None, model=None, **options) -> EnhancementTrainer:
    return EnhancementTrainer(
        model or small_model(),
        arguments(folder, **options),
        SegmentCollator(0.2),
        train_dataset=pairs(6),
        eval_dataset=pairs(1, seconds=1.5),
        callbacks=callbacks,
    )


def rumble(count: int) -> np.ndarray:
    """A tone of 20 Hz that swells and fades, (time,)."""
    return (np.hanning(count) * np.sin(2 * np.pi * 20 * np.arange(count) / 16000)).astype(np.float32)


def distilling(
    folder, method: str, beta: float, teacher: MannerModel | None = None, student=None, **options
) -> DistillationTrainer:
    return DistillationTrainer(
        student or small_model(),
        teacher=teacher or small_model(1, hidden_size=8, depth=3, attention_levels="all"),
        args=arguments(folder, DistillationConfig, method=method, beta=beta, **options),
        data_collator=SegmentCollator(0.2),
        train_dataset=pairs(6),
    )


def without_times(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "per_second" not in name and "runtime" not in name}


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in one.state_dict().items())


class StopAt(TrainerCallback):
    """Dies right after the checkpoint of a step, as a killed run does."""

    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt
