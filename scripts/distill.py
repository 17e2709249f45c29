"""Distil a student from a teacher checkpoint.

    accelerate launch --quiet scripts/distill.py --config scripts/recipes/distill_cpu.yaml \\
        --data_root DNS_FOLDER --teacher runs/teacher_cpu

The same command continues an interrupted run. Options after the recipe override it; `--help` lists all.
"""

import sys

from transformers import set_seed

from mvat_hf.models.manner import MannerModel
from mvat_hf.training.arguments import EnhancementArguments
from mvat_hf.training.distillation_trainer import DistillationTrainer
from mvat_hf.training.recipe import DataArguments, DistillationArguments, ModelArguments, RecipeError, parse_recipe
from mvat_hf.training.run import prepare, run
from mvat_hf.utils.errors import USER_ERRORS, one_line


def main() -> None:
    recipe = parse_recipe([EnhancementArguments, ModelArguments, DataArguments, DistillationArguments])
    args, model, data, distillation = recipe
    if not distillation.teacher:
        raise RecipeError("teacher is not set, expected a checkpoint folder or Hub id")
    teacher = MannerModel.from_pretrained(distillation.teacher)
    set_seed(args.seed)
    student = prepare(model, args, data)
    method, cache = distillation.build_method(), distillation.teacher_cache
    run(
        DistillationTrainer(teacher=teacher, method=method, beta=distillation.beta, teacher_cache=cache, **student),
        recipe,
    )


if __name__ == "__main__":
    try:
        main()
    except USER_ERRORS as error:
        sys.exit(one_line(error))
