"""Checkpoints as folders, and on the Hub. Before publishing they are loaded, and must have been measured."""

import os
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from ..acceleration.runtime import OnnxManner
from ..models.manner import MannerModel
from ..utils.records import weights_hash

CHECKPOINT_FILES = ("config.json", "model.safetensors")
# files of a checkpoint folder that are pushed; a run's folder also holds pickles and optimizer states
OF_WEIGHTS = ("*.onnx", "results.json", "recipe.yaml", "training_curve.png")  # files that belong to these weights alone
COMPANIONS = ("README.md", "LICENSE", *OF_WEIGHTS)


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
        partial.chmod(0o755)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def push_checkpoint(folder: str | Path, repo: str, *, private: bool = False, draft: bool = False) -> str:
    """Create the Hub repo if need be and upload a checkpoint with its card and code; the address of the commit. ONNX
    files and records of weights that were there before go.

    Args:
        folder: a checkpoint with a card, as in `model_cards/`: its licence, data and results, measured on its weights,
            from which its ONNX files are exported too.
        repo: Hub id, "owner/name"; a name alone is of the user.
        private: create the repo as a private one, or refuse one that is public.
        draft: push whatever loads, with a card that says that it is not measured if there is none; private repos only.

    Raises:
        OSError: the checkpoint does not load, or the Hub refuses it.
        ValueError: it is no checkpoint or not fit to publish, or a draft would be public.
    """
    from .cards import publish_faults  # it brings what scores with it, which saving does not need
    from .run_cards import render_run_card

    folder = Path(folder)
    missing = [name for name in CHECKPOINT_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} is not a checkpoint folder, it lacks {', '.join(missing)}")
    model = MannerModel.from_pretrained(folder)
    weights = weights_hash(model)
    if faults := export_faults(folder, weights):
        raise ValueError(f"{folder} is not fit to push: {'; '.join(faults)}")
    if faults := [] if draft else publish_faults(folder / "README.md", weights):
        raise ValueError(f"{folder} is not fit to publish: {'; '.join(faults)} (--draft pushes to a private repo)")
    with tempfile.TemporaryDirectory() as parent:
        release = save_checkpoint(model, Path(parent) / "release")
        for path in (path for pattern in COMPANIONS for path in folder.glob(pattern)):
            shutil.copy(path, release)
        try:
            repo = create_repo(repo, private or draft)
            if not (release / "README.md").exists():
                (release / "README.md").write_text(render_run_card(repo, model.config), encoding="utf-8")
            return str(HfApi().upload_folder(repo_id=repo, folder_path=release, delete_patterns=list(OF_WEIGHTS)))
        except (HTTPError, RuntimeError) as error:  # of the network, and of huggingface_hub when a file was not taken
            raise OSError(f"{repo} could not be pushed: {error.__cause__ or error}") from error


def export_faults(folder: Path, weights_sha256: str) -> list[str]:
    """Why ONNX files of a checkpoint cannot be pushed: each must run, and be exported from its weights."""
    faults = []
    for path in sorted(folder.glob("*.onnx")):
        try:
            exported = OnnxManner(path).metadata.get("weights_sha256")
        except ValueError as error:
            faults.append(str(error))
            continue
        if exported != weights_sha256:
            faults.append(f"{path.name} is exported from weights {exported}, expected {weights_sha256}")
    return faults


def create_repo(repo: str, private: bool) -> str:
    """Create the repo if need be; its id as the Hub gives it, with its owner. ValueError: it is not `private`."""
    api = HfApi()
    repo = api.create_repo(repo, private=private, exist_ok=True).repo_id
    if private and not api.model_info(repo).private:
        raise ValueError(f"{repo} is public, expected a private repo")
    return repo
