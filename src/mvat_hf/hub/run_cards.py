"""The card of a run that was not measured on a test set: a trainer's push, or a draft."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..models.complexity import complexity
from ..models.manner import MannerConfig
from ..utils.records import environment
from .cards import (
    CITATION,
    DISTILLED_TAGS,
    HUB_METADATA,
    TAGS,
    TEMPLATES,
    USAGE,
    of_the_hub,
)
from .sections import render_validation, render_versions


def render_run_card(
    repo: str,
    config: MannerConfig,
    chosen: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    *,
    tags: str | Sequence[str] | None = None,
    dataset: str | Sequence[str] | None = None,
    begun_at: str | None = None,
    **metadata: Any,
) -> str:
    """
    The card of weights that were not measured on a test set; it says so.

    Args:
        chosen: the entry of the run's log for the validation that chose the weights.
        facts: facts of the run by name (data, teacher, hyperparameters); None for "none".
        tags: more tags than those of every card.
        dataset: ids or names of the data sets it was trained on.
        begun_at: id or folder of the first weights; an id becomes the card's base model.
        metadata: license, language and other metadata of the Hub's cards; None is left out.
    """
    cost, facts, sets = complexity(config), dict(facts or {}), listed(dataset)
    known = TAGS + (DISTILLED_TAGS if facts.get("teacher") else [])
    data = ModelCardData(
        tags=[*known, *(tag for tag in listed(tags) if tag not in known)],
        datasets=sets or None,
        **HUB_METADATA,
        **of_the_hub("base_model", begun_at, but=repo),
        **{key: value for key, value in metadata.items() if value is not None},
    )
    lines = [f"- data sets: {', '.join(sets) or 'not named'}"]
    lines += [f"- {name}: {'none' if value is None else value}" for name, value in facts.items()]
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATES / "run.md"),
        name=repo.rpartition("/")[2],
        summary=f"MANNER for speech enhancement at {config.sampling_rate} Hz: hidden size {config.hidden_size}, depth "
        f"{config.depth}, {cost.parameters:,} parameters.",
        validation="" if chosen is None else render_validation(chosen),
        usage=USAGE.format(repo=repo),
        training="\n".join(lines if facts or sets else ["Not recorded."]),
        versions=render_versions(environment()["versions"]),
        citation=CITATION,
    )
    return f"{card.content.rstrip()}\n"


# options of a run that its card always names, beside the weights of its losses
HYPERPARAMETERS = (
    "learning_rate", "muon_learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "max_steps",
    "num_train_epochs", "lr_scheduler_type", "weight_decay", "bf16", "seed",
)  # fmt: skip


def hyperparameters(options: Mapping[str, Any]) -> dict[str, str]:
    """The options of a run's trainer that its card names, as one fact."""
    names = [*HYPERPARAMETERS, *sorted(name for name in options if name.endswith("_weight"))]
    told = [f"{name} {getattr(options[name], 'value', options[name])}" for name in names if name in options]
    told += [f"{name} {weight} in the loss" for name, weight in (options.get("loss_weights") or {}).items()]
    return {"hyperparameters": ", ".join(told)}


def listed(names: str | Sequence[str] | None) -> list[str]:
    """One name, several or none as a list."""
    return [names] if isinstance(names, str) else list(names or [])
