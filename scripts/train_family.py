"""Train the whole family from data alone: the recipes of `scripts/recipes/release`, one after the other.

    accelerate launch --quiet scripts/train_family.py --data_root DNS_FOLDER

Options go to every stage; `--help` of `scripts/distill.py` lists them. The same command continues an interrupted run:
what is finished is left as it is.
"""

import runpy
import sys
from pathlib import Path

import yaml

SCRIPTS = Path(__file__).parent


def main() -> None:
    options = sys.argv[1:]
    for recipe in sorted((SCRIPTS / "recipes" / "release").glob("*.yaml")):
        distils = "method" in yaml.safe_load(recipe.read_text(encoding="utf-8"))
        script = SCRIPTS / ("distill.py" if distils else "train.py")
        sys.argv = [str(script), "--config", str(recipe), *options]
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
