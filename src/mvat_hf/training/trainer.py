"""`EnhancementTrainer`: transformers' Trainer with this task's loss, logging and validation.

The losses themselves are in `losses`; distilling is in `distillation_trainer`.
"""

import copy
import math
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer, TrainingArguments
from transformers.trainer_utils import PredictionOutput, speed_metrics

from ..acceleration.training_layers import use_training_layers
from ..data.collator import SegmentCollator
from ..data.streaming import EndlessStream
from ..losses import enhancement_loss, with_terms
from ..metrics.scoring import QUICK, check_metrics, mean_scores
from ..models.manner import MannerFeatureExtractor, MannerModel, MannerOutput
from ..utils.records import write_text
from .arguments import EnhancementConfig, as_config
from .callbacks import CropEpochCallback, MovedFolderCallback, StreamResumeCallback, check_reporters, step_of
from .checks import advice, check_batch, check_given, check_trainable, warn_of_unused
from .items import (
    as_items,
    count_of,
    inputs_of,
    items_to_validate,
    network_of,
    noisy_batches,
    training_items,
    unwrapped,
)
from .muon import Muon
from .recalibration import Recalibration, kept_buffers
from .search import check_trial, objective
from .validation import ValidatedFile, enhance_and_score, take_off_autocast


class EnhancementTrainer(Trainer):
    """
    Trains on L_SE, that of `MannerModel(labels=…)`, logs its terms, validates by PESQ, STOI and SI-SDR on whole files.
    `MannerModel.high_passed` says what losses and scores compare with.

    Args:
        model: the model to train; None where `model_init` makes it.
        args: `EnhancementConfig`, its defaults by default. Plain `TrainingArguments` are taken over into one.
        train_dataset, eval_dataset: items {"clean", "noisy"} as `data.collator.as_item` takes them, as `load_valentini`
            and `load_dns` give them, or a data set of `datasets`; to train, an `EndlessStream` or `IterableDataset`
            too, which need `max_steps`. To validate, a mapping of names to data sets too: each is scored, and their
            mean.
        data_collator: makes {"input_values", "labels"} of items; a `SegmentCollator` by default.
        kwargs: as of transformers' Trainer. `compute_loss_func` takes the place of L_SE; `compute_metrics` has lists of
            arrays (time,), the enhanced and the clean recordings.
    """

    args: EnhancementConfig
    config_class: type[EnhancementConfig] = EnhancementConfig

    def __init__(
        self,
        model: MannerModel | None = None,
        args: TrainingArguments | None = None,
        data_collator: Any = None,
        **kwargs,
    ):
        args = as_config(args, self.config_class)
        if model is None and kwargs.get("model_init") is None:
            raise ValueError("expected a model or model_init, got neither")
        if args.eval_strategy != "no":
            check_metrics(QUICK)  # now, not when the first steps are done
        check_reporters(args.report_to)
        if args.threads is not None:
            torch.set_num_threads(args.threads)
        network = network_of(model, kwargs.get("model_init"))
        rate = network.config.sampling_rate
        check_given(args, kwargs, rate)
        warn_of_unused(args, kwargs)
        if kwargs.get("train_dataset") is not None:
            check_trainable(network)
        for name in ("train_dataset", "eval_dataset"):
            kwargs[name] = as_items(kwargs.get(name), rate, name)
        if kwargs.get("processing_class") is None:
            kwargs["processing_class"] = MannerFeatureExtractor(sampling_rate=rate)
        if data_collator is None:
            data_collator = SegmentCollator(sampling_rate=rate, seed=args.seed)
        if model is not None:
            use_training_layers(model)
        super().__init__(model=model, args=args, data_collator=data_collator, **kwargs)
        if isinstance(data_collator, SegmentCollator):
            self.add_callback(CropEpochCallback(data_collator))
        self.add_callback(MovedFolderCallback())
        if isinstance(self.train_dataset, EndlessStream):
            if self.accelerator.split_batches:
                raise ValueError("split_batches cannot be with a stream: its batches are made by each process")
            args.ignore_data_skip = True
            self.add_callback(StreamResumeCallback())
        self.stream_resumed_from: str | None = None
        self.items_in_batch: Any = None
        self.logged_terms: dict[str, torch.Tensor] = {}
        self.logged_batches = 0
        self.recalibration = Recalibration()
        self.autocast_forward: dict[str, Any] = {}
        self.l_se: Any = enhancement_loss
        if args.torch_compile:
            options: Any = {"backend": args.torch_compile_backend, "mode": args.torch_compile_mode}
            self.l_se = torch.compile(enhancement_loss, **options)

    @property
    def network(self) -> MannerModel:
        """The model itself, without what compiles it, adapts it or spreads it over processes."""
        return cast(MannerModel, unwrapped(self.accelerator.unwrap_model(self.model)))

    def train(self, *args, **kwargs):
        """As in transformers; then the model computes as it is saved, without the autocast of mixed precision."""
        vars(self.network).update(self.autocast_forward)
        try:
            return super().train(*args, **kwargs)
        finally:
            self.autocast_forward = take_off_autocast(self.network)

    def call_model_init(self, trial=None):
        """As in transformers, with the layers for training."""
        return use_training_layers(super().call_model_init(trial))

    def hyperparameter_search(
        self, hp_space=None, compute_objective=None, n_trials=20, direction=None, backend=None, hp_name=None, **kwargs
    ):
        """As in transformers; by default for the best `metric_for_best_model`. `direction` of an objective of one's own
        is "minimize" by default."""
        by_default, way = objective(self.args)
        if direction is None:
            direction = way if compute_objective is None else "minimize"
        chosen = compute_objective or by_default
        return super().hyperparameter_search(hp_space, chosen, n_trials, direction, backend, hp_name, **kwargs)

    def _hp_search_setup(self, trial: Any) -> None:
        super()._hp_search_setup(trial)
        check_trial(self.args)

    def get_train_dataloader(self) -> DataLoader:
        """As in transformers, except for a stream: it splits itself; accelerate would let one process make it all."""
        if not isinstance(self.train_dataset, EndlessStream):
            return super().get_train_dataloader()
        args, batch_size = self.args, self._train_batch_size
        workers = args.dataloader_num_workers if self.train_dataset.by_workers else 0
        return DataLoader(
            self.train_dataset.split(batch_size, args.process_index, args.world_size),
            batch_size=batch_size,
            collate_fn=self.data_collator,
            num_workers=workers,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
            pin_memory=args.dataloader_pin_memory,
        )

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """As in transformers; of a stream anew once its workers have drawn their seed, see `get_batch_samples`."""
        super()._load_rng_state(checkpoint)
        if isinstance(self.train_dataset, EndlessStream):
            self.stream_resumed_from = checkpoint

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """As in transformers; the first batch of a resumed stream finds the random numbers where the run had left."""
        if self.stream_resumed_from is not None:
            super()._load_rng_state(self.stream_resumed_from)
            self.stream_resumed_from = None
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def create_optimizer(self, model=None):
        """As in transformers, or `Muon`."""
        args = self.args
        if self.optimizer is None and args.muon_learning_rate > 0:
            betas, decay = (args.adam_beta1, args.adam_beta2), args.weight_decay
            options: dict[str, Any] = {"betas": betas, "eps": args.adam_epsilon, "weight_decay": decay}
            trained = self.model if model is None else model
            self.optimizer = Muon(trained, args.learning_rate, args.muon_learning_rate, **options)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """As in transformers, or OneCycleLR, which its names of schedules leave out."""
        if not self.args.one_cycle:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            stepped: Any = optimizer or self.optimizer
            peaks = [group["lr"] for group in stepped.param_groups]
            cycle: Any = OneCycleLR(stepped, max_lr=peaks, total_steps=num_training_steps)
            self.lr_scheduler, self._created_lr_scheduler = cycle, True
        return self.lr_scheduler

    def training_step(self, model: nn.Module, inputs: dict, num_items_in_batch=None) -> torch.Tensor:
        """As in transformers; ValueError at the first loss that is no number."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss).all():
            raise ValueError(
                f"the loss is {loss.item()} in step {self.state.global_step + 1}, at a learning rate of "
                f"{self._get_learning_rate():.3g}: {advice(inputs)}"
            )
        return loss

    def _get_learning_rate(self) -> float:
        """That of AdamW, where Muon has another: the one that the arguments call learning_rate."""
        if not isinstance(getattr(self.optimizer, "optimizer", self.optimizer), Muon):
            return super()._get_learning_rate()
        optimizer: Any = self.optimizer
        return optimizer.param_groups[-1]["lr"]

    def compute_loss(self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch=None):
        check_batch(inputs)
        if self.args.frozen_statistics:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.eval()
        self.items_in_batch = num_items_in_batch
        outputs: MannerOutput = model(**inputs_of(self.network, inputs))
        loss = self.total_loss(inputs, outputs) / self.undivided_batches
        return (loss, outputs) if return_outputs else loss

    @property
    def undivided_batches(self) -> int:
        """Batches of a step by which transformers does not divide the loss, as that of `compute_loss_func` is a sum
        over them; else 1."""
        by_function = self.compute_loss_func is not None and getattr(self, "loss_is_scaled_for_ga", None) is not False
        return getattr(self, "current_gradient_accumulation_steps", 1) if by_function else 1

    def total_loss(self, inputs: dict, outputs: MannerOutput) -> torch.Tensor:
        """The scalar to minimise."""
        loss, terms = self.enhancement_loss(inputs, outputs)
        self.note_terms(terms)
        return loss

    def enhancement_loss(self, inputs: dict, outputs: MannerOutput) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L_SE, with the weights of the arguments the terms beside it; and the terms to log."""
        enhanced, model = outputs["audio_values"], self.network
        noisy, labels = inputs["input_values"], inputs["labels"]
        clean = model.high_passed(labels)
        if self.compute_loss_func is None:
            loss, terms = self.l_se(enhanced, clean, model.high_passed(noisy))
        else:
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch=self.items_in_batch)
            if self.args.average_tokens_across_devices and self.items_in_batch is not None:
                loss = loss * self.accelerator.num_processes  # the items are those of all, gradients are averaged
            loss = loss * self.undivided_batches  # a sum over batches: beside the terms that are means
            terms = {"loss_func": loss}
        weights: Any = self.args.loss_weights
        loss, beside = with_terms(loss, enhanced, clean, weights, self.args.compressed_log)
        return loss, {**terms, **beside}

    def note_terms(self, terms: dict[str, torch.Tensor]) -> None:
        """Add this batch's loss terms to the running sums, on the device."""
        for name, value in terms.items():
            self.logged_terms[name] = self.logged_terms.get(name, 0) + value.detach()
        self.logged_batches += 1

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self.logged_batches:
            sums = torch.stack(list(self.logged_terms.values())) / self.logged_batches
            means: Any = self.accelerator.reduce(sums, "mean")  # over processes, as the loss is
            logs |= dict(zip(self.logged_terms, means.tolist(), strict=True))
            self.logged_terms, self.logged_batches = {}, 0
            if self.args.muon_learning_rate > 0 and self.optimizer is not None:
                logs["muon_learning_rate"] = self.optimizer.param_groups[0]["lr"]
        super().log(logs, start_time)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """As in transformers, of the validations whose weights are saved: a run can end with no others."""
        args = self.args
        if args.load_best_model_at_end and args.save_strategy != "best" and not self.control.should_save:
            return False
        return super()._determine_best_metric(metrics, trial)

    def chosen_validation(self) -> dict[str, float] | None:
        """The log entry that validated the weights that are saved; None if none did."""
        state = self.state
        best = state.best_model_checkpoint if self.args.load_best_model_at_end else None
        step = state.global_step if best is None else step_of(Path(best))
        validations = (entry for entry in state.log_history if "eval_pesq" in entry)
        return next((entry for entry in validations if entry["step"] == step), None)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write the card that `push_to_hub` pushes: what the model is, its data, teacher and hyperparameters, how it
        validated, that it is not measured. `tasks` and `dataset_args` are transformers': they say nothing here."""
        if self.is_world_process_zero():
            from ..hub.run_cards import render_run_card

            model = self.network
            folder = Path(str(self.args.output_dir))
            repo = self.hub_model_id or model_name or folder.name
            metadata = {"language": language, "license": license, "tags": tags, "dataset": dataset or dataset_tags}
            begun_at = finetuned_from or model.name_or_path
            card = render_run_card(
                repo, model.config, self.chosen_validation(), self.run_facts(), begun_at=begun_at, **metadata
            )
            write_text(folder / "README.md", card)

    def run_facts(self) -> dict[str, Any]:
        """Facts of the run for its card, by name: data, teacher and hyperparameters."""
        from ..hub.run_cards import hyperparameters

        sizes = {
            name: count_of(data) if hasattr(data, "__len__") else "without end"
            for name, data in (("items to train", self.train_dataset), ("files to validate", self.eval_dataset))
            if data is not None
        }
        options = hyperparameters(vars(self.args))
        return {**sizes, "steps done": self.state.global_step, "teacher": None, **options}

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """
        Mean PESQ, STOI and SI-SDR over whole files, in float32, L_SE as the loss, and the time taken. The model is not
        changed. Unscorable files are counted; if all are, the scores are NaN, with a warning. Files that are too short
        for L_SE are not in its mean.

        For a mapping of data sets: these scores for each (EVAL_NAME_pesq), and their means (EVAL_pesq).
        """
        dataset = items_to_validate(self.eval_dataset, eval_dataset, self.network.config.sampling_rate)
        start = time.time()
        with self.recalibrated():
            if isinstance(dataset, Mapping):
                measured = {name: self.measured(one) for name, one in dataset.items()}
                found = {f"{name}_{key}": value for name, one in measured.items() for key, value in one.items()}
                shared = set.intersection(*(set(one) for one in measured.values()))
                found |= {key: float(np.mean([one[key] for one in measured.values()])) for key in sorted(shared)}
                found["unscorable"] = sum(one["unscorable"] for one in measured.values())
            else:
                found = self.measured(dataset)
        metrics: dict[str, float] = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        metrics |= speed_metrics(metric_key_prefix, start, num_samples=count_of(dataset))
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix: str = "test") -> PredictionOutput:
        """Whole files, as in `evaluate`: lists of arrays (time,), the enhanced and the clean recordings, and the same
        metrics. `ignore_keys` is transformers' and not used."""
        start = time.time()
        dataset = as_items(test_dataset, self.network.config.sampling_rate, "test_dataset")
        with self.recalibrated():
            files = self.validated(dataset, keep=True)
        metrics: dict[str, float] = {f"{metric_key_prefix}_{key}": one for key, one in self.metrics_of(files).items()}
        metrics |= speed_metrics(metric_key_prefix, start, num_samples=len(files))
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, metrics)
        enhanced: Any = [file.enhanced for file in files]
        clean: Any = [file.clean for file in files]
        return PredictionOutput(enhanced, clean, metrics)

    def measured(self, dataset: Any) -> dict[str, float]:
        """The metrics of `evaluate` for one data set, by their names without prefix."""
        return self.metrics_of(self.validated(dataset, keep=self.compute_metrics is not None))

    def metrics_of(self, files: list[ValidatedFile]) -> dict[str, float]:
        """The metrics of `evaluate` for validated files, by their names without prefix."""
        scores = [file.score for file in files]
        means = mean_scores(scores)
        if not means:
            reason = f"{scores[0].id}: {scores[0].failure}" if scores else "there are none"
            warnings.warn(f"none of {len(scores)} validation files can be scored: {reason}", stacklevel=2)
            means = dict.fromkeys(QUICK, math.nan)
        losses = [file.loss for file in files if file.loss is not None]
        found: dict[str, float] = {**means, "loss": float(np.mean(losses)) if losses else math.nan}
        found["unscorable"] = sum(score.failure is not None for score in scores)
        if self.compute_metrics is not None:
            sides: Any = ([file.enhanced for file in files], [file.clean for file in files])
            own = self.compute_metrics(EvalPrediction(*sides))
            if not isinstance(own, Mapping):
                raise ValueError(f"compute_metrics gave {own!r}, expected a mapping of names to numbers")
            found |= own
        return found

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """As in transformers; where batch norms are recalibrated for validation, as they were then."""
        if state_dict is not None:  # gathered from elsewhere: it is not the state of the model at hand
            return super()._save(output_dir, state_dict)
        with self.recalibrated():
            super()._save(output_dir)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """As in transformers, with the code, which loads the weights where this package is not installed."""
        if self.is_world_process_zero():
            for code in Path(checkpoint_folder).glob("*.py"):
                shutil.copy(code, str(self.args.output_dir))
        super()._push_from_checkpoint(checkpoint_folder)

    @contextmanager
    def recalibrated(self) -> Iterator[None]:
        """
        The model as it is validated and saved, for the time of the context: with recalibrated statistics, if the
        arguments ask for them, and those of rank 0 in all processes. Then every buffer is as it was.
        """
        with kept_buffers(self.network):
            if self.args.recalibration_batches > 0 and self.train_dataset is not None:
                self.recalibrate()
            yield

    def recalibrate(self) -> None:
        """Replace the running statistics of the batch norms by their mean over some batches, the same every time."""
        with self.compute_loss_context_manager():
            self.recalibration.apply(self.network, self.recalibration_inputs, self.args.device)

    def recalibration_inputs(self) -> Iterator[torch.Tensor]:
        """Noisy audio (B, T) of training batches, the same every time."""
        size = self.args.train_batch_size
        items = training_items(self.train_dataset, self.args.recalibration_batches * size, self.args.seed)
        collator: Any = self.data_collator
        if isinstance(collator, SegmentCollator):
            collator = copy.copy(collator)
            collator.epoch = 0  # it crops anew every epoch
        yield from noisy_batches(items, collator, size)

    def validated(self, dataset: Any, keep: bool = False) -> list[ValidatedFile]:
        """`enhance_and_score` of this trainer's model."""
        return enhance_and_score(self.network, dataset, self.args, keep)


__all__ = ["EnhancementTrainer"]
