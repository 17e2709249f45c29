"""Validation: whole files through the model's own forward without autocast, scored by processes beside."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..data.audio import resample
from ..data.collator import as_item
from ..metrics.scoring import FileScore, ScoringPool
from ..models.manner import MannerModel
from ..models.manner.loss_manner import MIN_SAMPLES
from ..models.modes import evaluating
from ..utils.cores import processes_here, usable_cores
from ..utils.errors import extra
from .arguments import EnhancementConfig

with extra("training"):
    from accelerate.utils import gather_object

SCORED_AT = 16000  # Hz, where PESQ-WB is defined


@dataclass
class ValidatedFile:
    """One file of a validation: its scores, L_SE (None if it is too short), and maybe (time,) enhanced and clean."""

    score: FileScore
    loss: float | None
    enhanced: np.ndarray | None = None
    clean: np.ndarray | None = None


@torch.no_grad()
def enhance_and_score(model: MannerModel, dataset: Any, args: EnhancementConfig, keep: bool) -> list[ValidatedFile]:
    """Every file of `dataset` in its order, on every rank; each rank enhances its share, and scores it at 16 kHz.

    Args:
        keep: the recordings too.
    """
    rate = model.config.sampling_rate
    rank, world = args.process_index, args.world_size
    mine = range(rank, len(dataset), world)
    if world > 1:
        for buffer in model.buffers():  # each rank's statistics are of its own last batch; rank 0's are saved
            torch.distributed.broadcast(buffer, 0)
    processes = args.scoring_processes or max(usable_cores() // processes_here(), 1)
    with ScoringPool(processes) as pool, evaluating(model), without_autocast(model):
        pending = []
        for index in tqdm(mine, "validation", disable=None if rank == 0 else True, leave=False):
            item = as_item(dataset[index], rate)
            noisy, clean = (
                torch.as_tensor(item[side])[None].to(args.device, model.dtype) for side in ("noisy", "clean")
            )
            output = model(noisy, labels=clean if clean.shape[-1] >= MIN_SAMPLES else None)
            enhanced = output.audio_values[0].float().cpu().numpy()
            kept = (enhanced, item["clean"]) if keep else (None, None)
            reference, degraded = (resample(audio[None], rate, SCORED_AT)[0] for audio in (item["clean"], enhanced))
            scoring = pool.submit(item["id"], reference, degraded, SCORED_AT)
            loss = None if output.loss is None else float(output.loss)
            pending.append((index, scoring, loss, *kept))
        done = [(index, ValidatedFile(scoring.result(), *rest)) for index, scoring, *rest in pending]
    if world > 1:
        done = gather_object(done)
    return [file for _, file in sorted(done, key=lambda pair: pair[0])]


@contextmanager
def without_autocast(model: nn.Module) -> Iterator[None]:
    """The model's own forward for the time of the context: accelerate puts one with autocast in its place."""
    put_on = take_off_autocast(model)
    try:
        yield
    finally:
        vars(model).update(put_on)


def take_off_autocast(model: nn.Module) -> dict[str, Any]:
    """Give the model its own forward; what accelerate had put on it is given back, for `vars(model).update`."""
    names = ("forward", "_original_forward", "_is_accelerate_prepared")
    if "_original_forward" not in vars(model):
        return {}
    put_on = {name: vars(model).pop(name) for name in names if name in vars(model)}
    original, of_class = put_on["_original_forward"], type(model).forward
    # what an older accelerate had put on before, and puts on again, is over that of the class, too
    if inspect.unwrap(getattr(original, "__func__", original)) is not inspect.unwrap(of_class):
        model.forward = original
    return put_on
