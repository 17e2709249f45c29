"""`EnhancementConfig`, `DistillationConfig`: transformers' TrainingArguments with this task's defaults and options."""

import json
import math
import sys
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from ..losses import TERMS

# options that count things, and must be at least 1
COUNTS = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "scoring_processes",
    "threads",
)  # fmt: skip
Config = TypeVar("Config", bound="EnhancementConfig")


@dataclass
class EnhancementConfig(TrainingArguments):
    """TrainingArguments with this task's defaults: validate and save by steps, keep the checkpoint of the best PESQ."""

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "loss_weights"]  # noqa: RUF012

    output_dir: str = field(default="runs/default", metadata={"help": "Folder of checkpoints, curves and results."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay false: the items are not tensors."})
    eval_strategy: str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "When to validate: no, steps or epoch; by default as save_strategy, or steps."}
    )
    eval_steps: float | None = field(
        default=None,
        metadata={"help": "Steps between validations; by default save_steps, or logging_steps if not saved by steps."},
    )
    save_strategy: str | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "When to save a checkpoint: no, steps or epoch; by default as eval_strategy, or steps."},
    )
    save_total_limit: int | None = field(
        default=2, metadata={"help": "How many checkpoints are kept, the best one among them."}
    )
    load_best_model_at_end: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "End with the best validated checkpoint; by default where it validates and saves."},
    )
    metric_for_best_model: str | None = field(
        default="pesq", metadata={"help": "pesq, stoi, si_sdr or loss of validation; NAME_pesq of the data set NAME."}
    )
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "By default true, and false for a metric whose name ends in loss."}
    )
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    one_cycle: bool = field(
        default=False,
        metadata={"help": "torch's OneCycleLR in place of lr_scheduler_type; it moves adam_beta1 too."},
    )
    muon_learning_rate: float = field(
        default=0.0, metadata={"help": "Learning rate of Muon for matrices, with AdamW for the rest; 0: optim for all."}
    )
    logging_steps: float = field(default=25, metadata={"help": "Steps between two lines of losses."})
    # the argument parser needs the types in this order
    report_to: None | str | list[str] = field(  # noqa: RUF036
        default="none", metadata={"help": "Logging services, none by default."}
    )
    dataloader_num_workers: int = field(default=1, metadata={"help": "Processes that read and mix audio."})
    loss_weights: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Weights of terms beside L_SE, as in '{\"snr\": 0.5}': snr (negative, dB), compressed (spectral "
            "distance), pesq (negative PESQ-WB in a form with a gradient)."
        },
    )
    compressed_log: bool = field(
        default=False, metadata={"help": "compressed: take the logarithm of the distance: all SNRs then count alike."}
    )
    recalibration_batches: int = field(
        default=0,
        metadata={"help": "Training batches that batch-norm statistics are averaged over before a validation."},
    )
    frozen_statistics: bool = field(
        default=False,
        metadata={"help": "Batch norms keep their statistics; for trained weights and small batches."},
    )
    threads: int | None = field(
        default=None,
        metadata={"help": "CPU threads of a process; by default OMP_NUM_THREADS where you set it, else all cores."},
    )
    scoring_processes: int | None = field(
        default=None, metadata={"help": "Processes of each rank that compute PESQ and STOI; by default one per core."}
    )

    def __post_init__(self):
        for name in COUNTS:
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must be false: it takes the audio away that the collator crops")
        if self.eval_strategy is None:
            self.eval_strategy = "epoch" if self.save_strategy == "epoch" else "steps"
        if self.save_strategy is None:
            self.save_strategy = "epoch" if self.eval_strategy == "epoch" else "steps"
        if self.load_best_model_at_end is None:
            self.load_best_model_at_end = "no" not in (self.eval_strategy, self.save_strategy)
        if self.disable_tqdm is None:
            self.disable_tqdm = not sys.stderr.isatty()
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = False  # every weight is used in every pass
        if self.eval_strategy == self.save_strategy == "steps" and not self.eval_steps:
            self.eval_steps = self.save_steps  # a validation between checkpoints has no weights to choose
        check_json(loss_weights=self.loss_weights)
        super().__post_init__()
        self.loss_weights = checked_weights(self.loss_weights)
        if self.frozen_statistics and self.recalibration_batches > 0:
            raise ValueError(
                "frozen_statistics keeps what recalibration_batches replaces: expected one of them, got both "
                f"(recalibration_batches {self.recalibration_batches})"
            )
        if self.one_cycle and self.warmup_steps:
            raise ValueError(
                f"one_cycle beside warmup_steps {self.warmup_steps}: expected one of them, a cycle warms up"
            )
        if self.muon_learning_rate > 0 and self.optim != self.default_optim:
            raise ValueError(
                f"muon_learning_rate {self.muon_learning_rate} beside optim {OptimizerNames(self.optim).value}: "
                "expected one of them"
            )
        if self.dataloader_persistent_workers:  # they would keep the collator, and with it the epoch, they began with
            raise ValueError("dataloader_persistent_workers must be false: every epoch would crop at the same places")

    @property
    def n_gpu(self) -> int:
        """At most one: a process trains on one GPU, `accelerate launch` starts a process for each. Transformers would
        spread a single process over all that it sees by `DataParallel`, without mixed precision."""
        return min(super().n_gpu, 1)


@dataclass
class DistillationConfig(EnhancementConfig):
    """`EnhancementConfig` with the teacher, and what is transferred from it."""

    _VALID_DICT_FIELDS = [*EnhancementConfig._VALID_DICT_FIELDS, "method_kwargs"]  # noqa: RUF012

    teacher_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Teacher checkpoint: folder or Hub id.", "aliases": ["--teacher"]}
    )
    method: str = field(default="mvat", metadata={"help": "What is transferred; none is plain training."})
    method_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Options of the method, as in '{\"p\": 1.0}': see its class."}
    )
    beta: float = field(default=0.1, metadata={"help": "Weight of the method's term; 0 is plain training."})
    enhancement_weight: float = field(default=1.0, metadata={"help": "Weight of L_SE and the terms beside it."})
    teacher_cache: str | None = field(
        default=None,
        metadata={"help": "Folder to keep the teacher's activations of each clip; useful if clips come again."},
    )

    def __post_init__(self):
        check_json(method_kwargs=self.method_kwargs)
        super().__post_init__()
        if self.method_kwargs is None:
            self.method_kwargs = {}
        if not isinstance(self.method_kwargs, dict):
            raise ValueError(f"method_kwargs must be a mapping of options, got {self.method_kwargs!r}")
        self.beta = checked_weight("beta", self.beta)
        self.enhancement_weight = checked_weight("enhancement_weight", self.enhancement_weight)


def check_json(**options: Any) -> None:
    """ValueError that names an option whose string begins as a mapping and is none."""
    for name, value in options.items():
        if isinstance(value, str) and value.startswith("{"):
            try:
                json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError(f"{name} must be JSON, with names in double quotes, got {value}: {error}") from error


def checked_weights(weights: Any) -> dict[str, float]:
    """`loss_weights` as a mapping; ValueError for an unknown term, or a weight that is no number from 0."""
    if weights is None:
        return {}
    if not isinstance(weights, dict):
        raise ValueError(f"loss_weights must be a mapping of terms to weights, got {json.dumps(weights, default=str)}")
    if unknown := sorted(weights.keys() - set(TERMS)):
        raise ValueError(f"loss_weights has no term {', '.join(unknown)}, expected of {', '.join(TERMS)}")
    return {name: checked_weight(f"loss_weights: {name}", weight) for name, weight in weights.items()}


def checked_weight(name: str, weight: Any) -> float:
    """`weight` as a number; ValueError for what is no number from 0."""
    try:
        number = float(weight)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number, got {weight!r}") from error
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be at least 0, got {weight}")
    return number


def as_config(args: TrainingArguments | None, kind: type[Config]) -> Config:
    """`args` themselves if they are a `kind`, else a `kind` with their values; without fields that a `kind` lacks, and
    with all columns, which our collators need."""
    if args is None:
        return kind()
    if not isinstance(args, TrainingArguments):
        raise ValueError(f"args must be of class {kind.__name__}, got {type(args).__name__}")
    if isinstance(args, DistillationConfig) and not issubclass(kind, DistillationConfig):
        raise ValueError(
            "EnhancementTrainer has no teacher, got a DistillationConfig: expected DistillationTrainer, or an "
            "EnhancementConfig"
        )
    if isinstance(args, kind):
        return args
    known = {option.name for option in fields(kind) if option.init}  # `args` may be of a class with more
    given = {option.name: getattr(args, option.name) for option in fields(args) if option.name in known}
    return kind(**{**given, "remove_unused_columns": False})
