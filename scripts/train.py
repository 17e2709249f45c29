"""Train a teacher or a baseline on noisy and clean speech.

    accelerate launch --quiet scripts/train.py --config scripts/recipes/release/1_plain.yaml --data_root DNS_FOLDER

The same command continues an interrupted run. Options after the recipe override it; `--help` lists all.
"""

from transformers import set_seed

from mvat_hf.training.arguments import EnhancementConfig
from mvat_hf.training.recipe import DataArguments, ModelArguments, parse_recipe
from mvat_hf.training.run import prepare, run
from mvat_hf.training.trainer import EnhancementTrainer
from mvat_hf.utils.errors import run_script


def main() -> None:
    recipe = parse_recipe([EnhancementConfig, ModelArguments, DataArguments])
    args, model, data = recipe
    set_seed(args.seed)
    run(EnhancementTrainer(**prepare(model, args, data)), recipe)


if __name__ == "__main__":
    run_script(main)
