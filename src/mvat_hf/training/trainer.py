"""`EnhancementTrainer`: transformers' Trainer with this task's loss, logging and validation.

The losses themselves are in `losses`; distilling is in `distillation_trainer`.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import Trainer

from ..acceleration.convolutions import use_training_convolutions
from ..data.collator import SegmentCollator
from ..data.formatting import decoded
from ..data.streaming import MixtureStream
from ..losses import compressed_spectral_loss, pesq_loss, snr_loss
from ..metrics.scoring import QUICK, FileScore, ScoringPool, check_metrics, mean_scores
from ..models.manner import MannerModel, MannerOutput
from ..models.manner.chunking_manner import evaluating
from ..utils.cores import processes_here, usable_cores
from ..utils.errors import extra
from ..utils.records import weights_hash, write_text
from .arguments import LOSS_TERMS, EnhancementConfig
from .callbacks import CropAnew, FollowFolder, FollowStream
from .muon import Muon

with extra("training"):
    from accelerate.utils import gather_object
    from datasets import Dataset


NEGATIVE = {"snr": snr_loss, "pesq": pesq_loss}  # terms whose quantity is to rise; it is logged as it is


class EnhancementTrainer(Trainer):
    """
    Trains on L_SE (`MannerModel(labels=…)`), logs its terms, validates by PESQ, STOI and SI-SDR on whole files. What
    losses and scores compare with is told by `MannerModel.heard`.

    Args:
        model: the model to train.
        args: `EnhancementConfig`.
        train_dataset, eval_dataset: items {"id", "clean", "noisy"}, as `load_valentini` and `load_dns` give; to train,
            a `MixtureStream` too, which needs `max_steps`.
        data_collator: a `SegmentCollator`.
        kwargs: as of transformers' Trainer.
    """

    args: EnhancementConfig

    def __init__(self, model: MannerModel, args: EnhancementConfig, data_collator: SegmentCollator, **kwargs):
        for name in ("train_dataset", "eval_dataset"):
            kwargs[name] = as_items(kwargs.get(name), model.config.sampling_rate)
        if args.eval_strategy != "no":
            check_metrics(QUICK)  # now, not when the first steps are done
        super().__init__(model=use_training_convolutions(model), args=args, data_collator=data_collator, **kwargs)
        self.add_callback(CropAnew(data_collator))
        self.add_callback(FollowFolder())
        if isinstance(self.train_dataset, MixtureStream):
            args.ignore_data_skip = True
            self.add_callback(FollowStream())
        self.logged_terms: dict[str, torch.Tensor] = {}
        self.logged_batches = 0
        self.statistics: dict[str, torch.Tensor] = {}  # as `recalibrate` left them, and of which weights
        self.statistics_of: str | None = None

    def get_train_dataloader(self) -> DataLoader:
        """transformers' own, but for a stream: it splits itself, where accelerate would let one process make it all."""
        if not isinstance(self.train_dataset, MixtureStream):
            return super().get_train_dataloader()
        args, batch_size = self.args, self._train_batch_size
        return DataLoader(
            self.train_dataset.split(batch_size, args.process_index, args.world_size),
            batch_size=batch_size,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            pin_memory=args.dataloader_pin_memory,
        )

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
                f"{self._get_learning_rate():.3g}: try a lower one, or a lower max_grad_norm"
            )
        return loss

    def _get_learning_rate(self) -> float:
        """That of AdamW, where Muon has another: the one that the arguments call learning_rate."""
        if not isinstance(getattr(self.optimizer, "optimizer", self.optimizer), Muon):
            return super()._get_learning_rate()
        optimizer: Any = self.optimizer
        return optimizer.param_groups[-1]["lr"]

    def compute_loss(self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch=None):
        if self.args.frozen_statistics:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.eval()
        outputs: MannerOutput = model(**inputs)
        loss = self.total_loss(model, inputs, outputs)
        return (loss, outputs) if return_outputs else loss

    def total_loss(self, model: nn.Module, inputs: dict, outputs: MannerOutput) -> torch.Tensor:
        """The scalar to minimise."""
        loss, terms = self.enhancement_loss(inputs, outputs)
        self.note_terms(terms)
        return loss

    def enhancement_loss(self, inputs: dict, outputs: MannerOutput) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """L_SE, with the weights of the arguments the terms beside it; and the terms to log."""
        loss, terms = outputs["loss"], dict(outputs["loss_components"])
        enhanced, clean = outputs["audio_values"], self.accelerator.unwrap_model(self.model).heard(inputs["labels"])
        weights: Any = self.args.loss_weights
        for name in LOSS_TERMS:  # in their order, whatever that of the weights
            if weights.get(name, 0) > 0:
                term = self.term(name, enhanced, clean)
                loss = loss + weights[name] * term
                terms[name] = -term if name in NEGATIVE else term
        return loss, terms

    def term(self, name: str, enhanced: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """A term of `loss_weights` for (B, T) and (B, T), a scalar to minimise."""
        if name == "compressed":
            return compressed_spectral_loss(enhanced, clean, self.args.compressed_log)
        return NEGATIVE[name](enhanced, clean)

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

    def chosen_validation(self) -> dict[str, float] | None:
        """The log entry that validated the weights that are saved; None if none did."""
        state = self.state
        best = self.args.load_best_model_at_end and state.best_model_checkpoint is not None
        step = state.best_global_step if best else state.global_step
        validations = (entry for entry in state.log_history if "eval_pesq" in entry)
        return next((entry for entry in validations if entry["step"] == step), None)

    def create_model_card(self, *args, **options) -> None:
        """Write the card that `push_to_hub` pushes: what the model is, how it validated, that it is not measured."""
        if self.is_world_process_zero():
            from ..hub.cards import render_run_card

            model: Any = self.accelerator.unwrap_model(self.model)
            folder = Path(str(self.args.output_dir))
            card = render_run_card(self.hub_model_id or folder.name, model.config, self.chosen_validation())
            write_text(folder / "README.md", card)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Mean PESQ, STOI and SI-SDR over whole files, in float32; unscorable files are counted. It changes nothing."""
        rate = self.accelerator.unwrap_model(self.model).config.sampling_rate
        dataset = self.eval_dataset if eval_dataset is None else as_items(eval_dataset, rate)
        with self.recalibrated():
            scores = self.score(dataset)
        means = mean_scores(scores)
        if not means:
            raise ValueError(
                f"none of {len(scores)} validation files can be scored: {scores[0].id}: {scores[0].failure}"
            )
        metrics: dict[str, float] = {f"{metric_key_prefix}_{name}": mean for name, mean in means.items()}
        metrics[f"{metric_key_prefix}_unscorable"] = sum(score.failure is not None for score in scores)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """As in transformers; where batch norms are recalibrated for validation, as they were then."""
        if state_dict is not None:  # gathered from elsewhere: it is not the state of the model at hand
            return super()._save(output_dir, state_dict)
        with self.recalibrated():
            super()._save(output_dir)

    @contextmanager
    def recalibrated(self) -> Iterator[None]:
        """
        The model as it is validated and saved, for the time of the context: with the statistics of `recalibrate`, if
        the arguments ask for them, and those of rank 0 in all processes. Then every buffer is as it was.
        """
        model: Any = self.accelerator.unwrap_model(self.model)
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        try:
            if self.args.recalibration_batches > 0:
                self.recalibrate()
            yield
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(before[name])

    def recalibrate(self) -> None:
        """Replace the running statistics of the batch norms by their mean over some batches, the same every time.

        A running mean over ten small batches or so is noisy, and lags behind the weights while they still move.
        """
        size = self.args.train_batch_size
        wanted = self.args.recalibration_batches * size
        dataset: Any = self.train_dataset
        model: Any = self.accelerator.unwrap_model(self.model)
        state = weights_hash(nn.ParameterList(model.parameters()))
        if state == self.statistics_of:
            model.load_state_dict(self.statistics, strict=False)
            return
        items = training_items(dataset, wanted, self.args.seed)
        collator: Any = copy.copy(self.data_collator)
        collator.epoch = 0
        batches = (collator(items[start : start + size]) for start in range(0, len(items), size))
        inputs = (batch["input_values"] for batch in batches)
        with self.compute_loss_context_manager():
            update_bn(inputs, model, self.args.device)
        self.statistics_of = state
        self.statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}

    @torch.no_grad()
    def score(self, dataset) -> list[FileScore]:
        """Scores of every file of `dataset` in its order, on every rank; each rank enhances and scores its share."""
        model: MannerModel = self.accelerator.unwrap_model(self.model)
        rate = model.config.sampling_rate
        rank, world = self.args.process_index, self.args.world_size
        mine = range(rank, len(dataset), world)
        if world > 1:
            for buffer in model.buffers():  # each rank's statistics are of its own last batch; rank 0's are saved
                torch.distributed.broadcast(buffer, 0)
        processes = self.args.scoring_processes or max(usable_cores() // processes_here(), 1)
        with ScoringPool(processes) as pool, evaluating(model), without_autocast(model):
            pending = []
            for index in tqdm(mine, "validation", disable=None if rank == 0 else True, leave=False):
                item = dataset[index]
                noisy = torch.as_tensor(item["noisy"])[None].to(self.args.device)
                enhanced = model(noisy).audio_values[0].cpu().numpy()
                pending.append((index, pool.submit(item["id"], item["clean"], enhanced, rate)))
            scored = [(index, future.result()) for index, future in pending]
        if world > 1:
            scored = gather_object(scored)
        return [score for _, score in sorted(scored, key=lambda pair: pair[0])]


def training_items(dataset: Any, wanted: int, seed: int) -> list[dict]:
    """`wanted` items of training data, or all if there are fewer; the same ones every time."""
    if isinstance(dataset, MixtureStream):
        return [dataset.mixer.item(index) for index in range(wanted)]
    order = np.random.default_rng(seed).permutation(len(dataset))
    return [dataset[int(index)] for index in order[:wanted]]


@contextmanager
def without_autocast(model: nn.Module) -> Iterator[None]:
    """The model's own forward for the time of the context: accelerate puts one with autocast in its place."""
    wrapped = vars(model).get("forward")
    if "_original_forward" not in vars(model):
        yield
        return
    model.forward = vars(model)["_original_forward"]
    try:
        yield
    finally:
        model.forward = wrapped  # type: ignore[assignment]


def as_items(dataset: Any, sampling_rate: int) -> Any:
    """A data set of `datasets` with its audio decoded, see `data.formatting.decoded`; anything else as it is."""
    return decoded(dataset, sampling_rate) if isinstance(dataset, Dataset) else dataset


__all__ = ["EnhancementTrainer"]
