"""Render every model card and the README's tables from their records.

python scripts/render_cards.py
"""

import json
from pathlib import Path

from mvat_hf.cards import fill_block, read_records, render_card, render_results, render_speed
from mvat_hf.models.manner.snapshot_manner import SNAPSHOTS

REPO = Path(__file__).parents[1]


def rendered() -> dict[Path, str]:
    """Every file that is rendered, with its content."""
    files = {}
    for folder in sorted(path for path in (REPO / "model_cards").iterdir() if path.is_dir()):
        files[folder / "README.md"] = render_card(folder)
        if (SNAPSHOTS / folder.name).is_dir():
            files[SNAPSHOTS / folder.name / "README.md"] = files[folder / "README.md"]
    readme = REPO / "README.md"
    _, evaluations = read_records(REPO / "model_cards" / "manner-s-8.1gf")
    speed = json.loads((REPO / "scripts" / "benchmarks" / "inference.json").read_text())
    filled = fill_block(readme.read_text(), "results", render_results(evaluations))
    files[readme] = fill_block(filled, "speed", render_speed(speed))
    return files


if __name__ == "__main__":
    for path, content in rendered().items():
        path.write_text(content)
        print(path.relative_to(REPO))
