"""Run a study: distil every student, measure it, and render table and picture; it continues where it was stopped.

    python scripts/study/run.py --dns_root DNS_FOLDER --valentini_root VALENTINI_FOLDER

Runs are kept below `--folder`. The record (there too, or `--output`) and the picture (quality against FLOPs, or
validation over steps for a single size) are written after every cell. A cell in the record is not run again, even if
its run is missing; `--again` runs it. `--cells TEXT` runs the cells whose path (PRESET/METHOD/seedN) holds the text.
"""

import argparse
from pathlib import Path

from cells import collect, read_record, read_study, recorded, run_cell
from figures import quality_by_method, validation_by_method
from tables import render_study

from mvat_hf import load_dns, load_valentini
from mvat_hf.training.recipe import read_recipe
from mvat_hf.utils.errors import run_script
from mvat_hf.utils.records import write_json

RECIPES = Path(__file__).parents[1] / "recipes" / "study"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=RECIPES / "cpu.yaml", help="the study")
    parser.add_argument("--dns_root", type=Path, required=True, help="DNS folder, to train, validate and test on")
    parser.add_argument("--valentini_root", type=Path, required=True, help="Valentini folder, for its test set")
    parser.add_argument("--folder", type=Path, default=Path("runs/study"), help="of the runs (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="record to write (default: study.json in the folder)")
    parser.add_argument("--cells", default="", help="only cells whose path holds this text")
    parser.add_argument("--again", action="store_true", help="run also cells that the record has and the folder lacks")
    options = parser.parse_args()
    cells, title = read_study(options.config), read_recipe(options.config)["title"]
    several = len({cell.preset for cell in cells}) > 1
    draw = quality_by_method if several else validation_by_method
    # what a method reads of the teacher is the same for students of all sizes, and takes gigabytes
    cache = options.folder / "teacher" if several else None
    test_sets = {
        "dns test": load_dns(options.dns_root, "test"),
        "valentini test": load_valentini(options.valentini_root, "test"),
    }
    output = options.output or options.folder / "study.json"
    record = read_record(output, test_sets)
    done = set() if options.again else recorded(cells, record).keys()
    for cell in cells:
        if options.cells in cell.path and cell.path not in done:
            print(cell.path, flush=True)
            run_cell(cell, options.folder, options.dns_root, test_sets, cache)
            record = collect(cells, options.folder, title, record, test_sets)
            write_json(output, record)
            draw(record, output.with_suffix(".png"))
    print(render_study(collect(cells, options.folder, title, record, test_sets)))


if __name__ == "__main__":
    run_script(main)
