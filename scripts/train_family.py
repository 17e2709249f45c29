"""Train the whole family from data alone: the recipes of `scripts/recipes/release`, one after the other.

    accelerate launch --quiet scripts/train_family.py --data_root DNS_FOLDER

Options go to every stage; `--help` of `scripts/train.py` lists them. Each stage has its recipe's folder, where those
after it find it. The same command continues an interrupted run: what is finished is left as it is.
"""

import re
import runpy
import sys
from pathlib import Path

import yaml

from mvat_hf.utils.errors import run_script

SCRIPTS = Path(__file__).parent


def main() -> None:
    options = sys.argv[1:]
    for option in options:
        if re.match("--(output[_-]dir|config)\\b", option):
            raise ValueError(f"every stage has a folder and a recipe of its own, got {option}")
    for recipe in sorted((SCRIPTS / "recipes" / "release").glob("*.yaml")):
        distils = "method" in yaml.safe_load(recipe.read_text(encoding="utf-8"))
        script = SCRIPTS / ("distill.py" if distils else "train.py")
        sys.argv = [str(script), "--config", str(recipe), *options]
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    run_script(main)
