"""What tests of the Hub share: a checkpoint fit to publish, and how the Hub's user loads one."""

import json
import sys
from pathlib import Path

from mvat_hf.models.manner import MannerModel
from mvat_hf.utils.records import weights_hash

HF = Path(sys.executable).with_name("hf")


def write_card(folder: Path, **metadata) -> None:
    """A card fit to publish `folder`; what is given in `metadata` replaces its part, None takes it away."""
    result = {"type": "pesq", "value": 2.0}
    index = {"name": "x", "results": [{"task": {"type": "audio-to-audio"}, "dataset": {"type": "d", "name": "d"},
                                       "metrics": [result]}]}  # fmt: skip
    complete = {
        "license": "apache-2.0",
        "datasets": ["openslr/librispeech_asr"],
        "model-index": [index],
        "weights_sha256": weights_hash(MannerModel.from_pretrained(folder)),
    }
    kept = {name: value for name, value in (complete | metadata).items() if value is not None}
    (folder / "README.md").write_text(f"---\n{json.dumps(kept)}\n---\n\n# x\n")


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def load_hash(repo, **options) -> str:
    return weights_hash(MannerModel.from_pretrained(repo, **options))
