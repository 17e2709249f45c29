"""`EnhancementArguments`: transformers' TrainingArguments with this task's defaults and options."""

import sys
from dataclasses import dataclass, field

from transformers import TrainingArguments

# options that are numbers of things, of which there must be one
COUNTS = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "scoring_processes",
)  # fmt: skip


@dataclass
class EnhancementArguments(TrainingArguments):
    """TrainingArguments with this task's defaults: validate and save by steps, keep the checkpoint of the best PESQ."""

    output_dir: str = field(default="runs/default", metadata={"help": "Folder of checkpoints, curves and results."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay false: the items are not tensors."})
    eval_strategy: str = field(default="steps", metadata={"help": "When to validate: no, steps or epoch."})
    save_strategy: str = field(default="steps", metadata={"help": "When to save a checkpoint: no, steps or epoch."})
    save_total_limit: int | None = field(
        default=2, metadata={"help": "How many checkpoints are kept, the best one among them."}
    )
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best validated checkpoint."})
    metric_for_best_model: str | None = field(default="pesq", metadata={"help": "pesq, stoi or si_sdr of validation."})
    greater_is_better: bool | None = field(default=True, metadata={"help": "True for all three metrics."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    one_cycle: bool = field(
        default=False,
        metadata={"help": "torch's OneCycleLR in place of lr_scheduler_type; it moves adam_beta1 too."},
    )
    muon_learning_rate: float = field(
        default=0.0, metadata={"help": "Learning rate of Muon for matrices, AdamW for the rest; 0: optim for all."}
    )
    logging_steps: float = field(default=25, metadata={"help": "Steps between two lines of losses."})
    # the order of the types is what the argument parser understands
    report_to: None | str | list[str] = field(  # noqa: RUF036
        default="none", metadata={"help": "Logging services, none by default."}
    )
    dataloader_num_workers: int = field(default=1, metadata={"help": "Processes that read and mix audio."})
    snr_weight: float = field(default=0.0, metadata={"help": "Weight of negative SNR (dB) beside L_SE."})
    compressed_weight: float = field(
        default=0.0, metadata={"help": "Weight of the compressed spectral distance beside L_SE."}
    )
    compressed_log: bool = field(
        default=False, metadata={"help": "Take the logarithm of that distance: all SNRs then count alike."}
    )
    pesq_weight: float = field(
        default=0.0, metadata={"help": "Weight of the negative PESQ-WB, in a form with a gradient, beside L_SE."}
    )
    recalibration_batches: int = field(
        default=0,
        metadata={"help": "Training batches that batch-norm statistics are averaged over before a validation."},
    )
    frozen_statistics: bool = field(
        default=False,
        metadata={"help": "Batch norms keep their statistics: to go on from trained weights in small batches."},
    )
    scoring_processes: int | None = field(
        default=None, metadata={"help": "Processes of each rank that compute PESQ and STOI; by default one per core."}
    )

    def __post_init__(self):
        for name in COUNTS:
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if self.disable_tqdm is None:
            self.disable_tqdm = not sys.stderr.isatty()
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = False  # every weight is used in every pass
        super().__post_init__()
        if self.frozen_statistics and self.recalibration_batches > 0:
            raise ValueError(
                "frozen_statistics keeps what recalibration_batches replaces: expected one of them, got both "
                f"(recalibration_batches {self.recalibration_batches})"
            )
        if self.dataloader_persistent_workers:  # they would keep the collator, and with it the epoch, they began with
            raise ValueError("dataloader_persistent_workers must be false: every epoch would crop at the same places")

    @property
    def n_gpu(self) -> int:
        """At most one: a process trains on one GPU, `accelerate launch` starts a process for each. Transformers would
        spread a single process over all that it sees by `DataParallel`, without mixed precision."""
        return min(super().n_gpu, 1)
