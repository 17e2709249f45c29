"""Which files a checkpoint is, and the hash that identifies it: found without torch and transformers."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.snapshots import NOT_HAD, SNAPSHOTS, find_snapshot, hash_fault, hub_answers

CONFIG, WEIGHTS = "config.json", "model.safetensors"
ADAPTER = "adapter_config.json"  # what transformers adds to the weights beside it
# fields of a configuration that change nothing in what a float32 model computes
IRRELEVANT_FIELDS = (
    "_name_or_path", "architectures", "auto_map", "custom_pipelines", "dtype", "initializer_scale", "torch_dtype",
    "transformers_version",
)  # fmt: skip

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The configuration and the weights of a model, each a file that is there."""

    config: Path
    weights: Path

    def fields(self) -> dict[str, Any]:
        """Fields of the configuration; ValueError if it has none."""
        fields = json.loads(self.config.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise ValueError(f"{self.config}: expected the fields of a configuration, got {type(fields).__name__}")
        return fields

    def attends_deepest_at_most(self) -> bool:
        """Whether no level above the deepest has attention."""
        fields = self.fields()
        return fields.get("attention_levels", "all") in ("deepest", "none", [], [fields.get("depth", 4) - 1])

    def sha256(self) -> str:
        """Over what a model is computed from: the fields of the configuration that matter, and the file of weights."""
        heard = {name: value for name, value in self.fields().items() if name not in IRRELEVANT_FIELDS}
        digest = hashlib.sha256(json.dumps(heard, sort_keys=True).encode())
        with open(self.weights, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def find_checkpoint(
    model: str | Path, revision: str | None = None, token: str | bool | None = None
) -> Checkpoint | None:
    """
    The files of a folder or a Hub id: from the Hub, else its cache, else the package, as `from_pretrained` takes them.

    None for what `from_pretrained` has to look at: weights in several files, adapters, what is damaged or not there.
    """
    if Path(model).exists():
        found = in_folder(Path(model))
        return None if (Path(model) / ADAPTER).exists() else found
    try:
        return from_hub(str(model), revision, token)
    except Exception:  # of the network, the Hub and names that it does not allow: `from_pretrained` tells it
        return None


def alike_in_package(checkpoint_sha256: str) -> list[Path]:
    """Folders of embedded checkpoints with that hash."""
    found = {path: in_folder(path) for path in sorted(SNAPSHOTS.glob("*"))}
    return [path for path, files in found.items() if files is not None and files.sha256() == checkpoint_sha256]


def in_folder(folder: Path) -> Checkpoint | None:
    files = folder / CONFIG, folder / WEIGHTS
    return Checkpoint(*files) if all(path.is_file() for path in files) else None


def from_hub(name: str, revision: str | None, token: str | bool | None) -> Checkpoint | None:
    from huggingface_hub import hf_hub_download

    options: dict[str, Any] = {"revision": revision, "token": token}
    options["local_files_only"] = not hub_answers(name, CONFIG, options)
    try:
        config = Path(hf_hub_download(name, CONFIG, **options))
    except Exception:
        snapshot = find_snapshot(name) if revision in (None, "main") else None
        if snapshot is None:
            raise
        logger.warning(NOT_HAD.format(name))
        return in_folder(snapshot)
    found = Checkpoint(config, Path(hf_hub_download(name, WEIGHTS, **options)))
    return None if hash_fault(found.config) or hash_fault(found.weights) else found


__all__ = ["Checkpoint", "alike_in_package", "find_checkpoint"]
