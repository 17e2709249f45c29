"""Short runs of the distillation trainer, with a method and a teacher as a reader would write them."""

import torch
from torch import nn

from mvat_hf.data.collator import SegmentCollator
from mvat_hf.distillation import DistillationMethod
from mvat_hf.training.arguments import DistillationConfig
from mvat_hf.training.distillation_trainer import DistillationTrainer
from training_runs import small_model


def pairs(count: int, samples: int = 3000) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    clean = [torch.randn(samples, generator=generator).cumsum(0) / 300 for _ in range(count)]
    return [
        {
            "id": str(index),
            "clean": speech.numpy(),
            "noisy": (speech + 0.05 * torch.randn(samples, generator=generator)).numpy(),
        }
        for index, speech in enumerate(clean)
    ]


ITEMS = pairs(6)


def distilling(
    folder, method, beta=1.0, teacher="another", callbacks=None, student=None, optimizers=(None, None), **options
):
    defaults = {
        "max_steps": 3, "per_device_train_batch_size": 2, "eval_strategy": "no", "save_strategy": "no",
        "load_best_model_at_end": False, "logging_steps": 1, "learning_rate": 1e-3, "use_cpu": True,
        "dataloader_num_workers": 0, "disable_tqdm": True,
    }  # fmt: skip
    teacher = small_model(1, hidden_size=8, depth=3, attention_levels="all") if teacher == "another" else teacher
    named = {"method": method} if isinstance(method, str) else {}
    torch.manual_seed(3)
    return DistillationTrainer(
        small_model() if student is None else student,
        teacher=teacher,
        method=None if named else method,
        args=DistillationConfig(str(folder), beta=beta, **{**defaults, **named, **options}),
        data_collator=SegmentCollator(0.1),
        train_dataset=ITEMS,
        callbacks=callbacks,
        optimizers=optimizers,
    )


class Filtering(nn.Module):
    """A teacher of another kind: a convolution of the waveform, (B, T) to (B, T)."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv1d(1, 5, 8, stride=4)
        self.outer = nn.ConvTranspose1d(5, 1, 8, stride=4)

    def forward(self, audio):
        hidden = self.outer(self.inner(audio[:, None]).relu())[:, 0]
        return nn.functional.pad(hidden, (0, audio.shape[-1] - hidden.shape[-1]))


class Scaled(DistillationMethod):
    """A method with one option and one trained parameter, as a reader would write it."""

    def __init__(self, start: float = 0.5):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(start))

    def forward(self, student, teacher, inputs):
        return {"scaled": (self.scale * student["audio_values"] - teacher["audio_values"]).pow(2).mean()}
