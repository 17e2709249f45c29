"""Distil a student from a teacher checkpoint.

    accelerate launch --quiet scripts/distill.py --config scripts/recipes/release/5_student_2.2gf.yaml \\
        --data_root DNS_FOLDER --init_from mvat/manner-s-8.1gf --teacher mvat/manner-s-8.1gf

Without options it distils a small student on generated speech that the repo carries, in a minute or two, and says what
to change next. The same command continues an interrupted run. Options after the recipe override it; `--help` lists all.
"""

import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import set_seed

from mvat_hf.distillation import build_method
from mvat_hf.models import DEFAULT_MODEL
from mvat_hf.training.arguments import DistillationConfig
from mvat_hf.training.distillation_trainer import DistillationTrainer
from mvat_hf.training.recipe import DataArguments, ModelArguments, parse_recipe
from mvat_hf.training.run import load_teacher, prepare, run
from mvat_hf.utils.errors import run_script

FIRST = Path("runs/first")
NEXT = """
That was a first run: the embedded teacher, generated speech, a small student. To change next:
  --data_root DNS_FOLDER, or --dataset pairs --clean DIR --noisy DIR: your data
  --config scripts/recipes/release/4_student_5.3gf.yaml: a longer run of a larger student
  --teacher FOLDER_OR_ID, --method at, --beta 0.3: what is learnt from whom
  --output_dir runs/NAME: a run has a folder of its own
--help lists all. Listen to this student: mvat enhance NOISY_FILE CLEAN_FILE --model {student}"""


def first_run() -> list[str]:
    """Options where there are none: what `make demo` distils."""
    from demo import write_data

    if not (FIRST / "data").is_dir():
        FIRST.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=FIRST) as own:
            write_data(Path(own) / "data")
            with suppress(OSError):  # of several processes the first one's stays
                (Path(own) / "data").rename(FIRST / "data")
    recipe = Path(__file__).parent / "recipes" / "demo.yaml"
    print(f"No options: distilling a small student on generated speech, a minute or two, into {FIRST / 'student'}")
    options = {"config": recipe, "data_root": FIRST / "data" / "dns", "teacher": DEFAULT_MODEL}
    return [f"--{name}={value}" for name, value in {**options, "output_dir": FIRST / "student"}.items()]


def main() -> None:
    first = len(sys.argv) == 1
    kinds = [DistillationConfig, ModelArguments, DataArguments]
    recipe = parse_recipe(kinds, first_run() if first else None)
    args, model, data = recipe
    set_seed(args.seed)  # of the method's weights, if it has any, and again of the student's: they are the same by all
    method = build_method(args.method, **args.method_kwargs)
    taught = method is not None and args.beta > 0 and method.needs_teacher
    teacher = load_teacher(args.teacher_model_name_or_path) if taught else None
    set_seed(args.seed)
    student = prepare(model, args, data)
    run(DistillationTrainer(teacher=teacher, method=method, **student), recipe)
    if first and args.process_index == 0:
        print(NEXT.format(student=args.output_dir))


if __name__ == "__main__":
    run_script(main)
