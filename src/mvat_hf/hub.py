"""Checkpoints as folders, and on the Hub."""

import os
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi
from safetensors import SafetensorError, safe_open

from .models.manner import MannerConfig, MannerFeatureExtractor, MannerModel

CHECKPOINT_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")


def save_checkpoint(model: MannerModel, folder: str | Path) -> Path:
    """Write model, feature extractor and their code to a new folder that `from_pretrained` loads.

    Raises:
        FileExistsError: the folder exists and is not empty; nothing of it is touched.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder, expected a new one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.save_pretrained(partial)
        MannerFeatureExtractor(sampling_rate=model.config.sampling_rate).save_pretrained(partial)
        partial.chmod(0o755)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def push_checkpoint(folder: str | Path, repo: str, *, private: bool = False) -> str:
    """Create the Hub repo if need be and upload a checkpoint folder; the address of the commit.

    Raises:
        ValueError: the folder is not a MANNER checkpoint that loads.
    """
    folder = Path(folder)
    missing = [name for name in CHECKPOINT_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} is not a checkpoint folder, it lacks {', '.join(missing)}")
    MannerConfig.from_pretrained(folder)
    try:
        with safe_open(folder / "model.safetensors", "pt"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{folder / 'model.safetensors'} is not a safetensors file: {error}") from error
    api = HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo, folder_path=folder, ignore_patterns=["checkpoint-*", "*.bin", "*.pt"]))
