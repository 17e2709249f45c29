"""What a search for hyperparameters goes by, and what its trials may change."""

from collections.abc import Callable

from .arguments import DistillationConfig, EnhancementConfig, checked_weight, checked_weights


def objective(args: EnhancementConfig) -> tuple[Callable[[dict[str, float]], float], str]:
    """What a search takes from the metrics of a validation, `metric_for_best_model`; and "maximize" or "minimize"."""
    metric = (args.metric_for_best_model or "loss").removeprefix("eval_")
    greater = not metric.endswith("loss") if args.greater_is_better is None else args.greater_is_better

    def of(metrics: dict[str, float]) -> float:
        if f"eval_{metric}" not in metrics:
            raise ValueError(f"metric_for_best_model: no eval_{metric} in the validation, got {', '.join(metrics)}")
        return metrics[f"eval_{metric}"]

    return of, "maximize" if greater else "minimize"


def check_trial(args: EnhancementConfig) -> None:
    """ValueError where a trial has set a weight that has no sense."""
    args.loss_weights = checked_weights(args.loss_weights)
    if isinstance(args, DistillationConfig):
        args.beta = checked_weight("beta", args.beta)
        args.enhancement_weight = checked_weight("enhancement_weight", args.enhancement_weight)
