"""Distil a student from a teacher checkpoint.

    accelerate launch --quiet scripts/distill.py --config scripts/recipes/distill_cpu.yaml \\
        --data_root DNS_FOLDER --teacher runs/teacher_cpu

The same command continues an interrupted run. Options after the recipe override it; `--help` lists all.
"""

import sys

from transformers import set_seed

from mvat_hf.distillation import build_method
from mvat_hf.training.arguments import DistillationConfig
from mvat_hf.training.distillation_trainer import DistillationTrainer
from mvat_hf.training.recipe import DataArguments, ModelArguments, RecipeError, parse_recipe
from mvat_hf.training.run import load_teacher, prepare, run
from mvat_hf.utils.errors import USER_ERRORS, one_line


def main() -> None:
    recipe = parse_recipe([DistillationConfig, ModelArguments, DataArguments])
    args, model, data = recipe
    teacher = load_teacher(args.teacher_model_name_or_path)
    set_seed(args.seed)
    student = prepare(model, args, data)
    try:
        method = build_method(args.method, **args.method_kwargs)
    except TypeError as error:  # an option that the method does not have
        raise RecipeError(f"method_kwargs of {args.method}: {error}") from error
    options = {"method": method, "beta": args.beta, "teacher_cache": args.teacher_cache}
    run(DistillationTrainer(teacher=teacher, **options, **student), recipe)


if __name__ == "__main__":
    try:
        main()
    except USER_ERRORS as error:
        sys.exit(one_line(error))
