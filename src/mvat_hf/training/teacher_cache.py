"""What a teacher gave for a clip, kept on disk: the next epoch, or another student, need not run the teacher for it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..distillation import DistillationMethod
from ..models.manner import MannerModel
from ..utils.files import replaced_at_end
from ..utils.records import weights_hash


class TargetCache:
    """
    A method's targets (`DistillationMethod.targets`) by clip, one safetensors file each.

    A clip is known by the hash of its samples, so that neither its place in the data nor the batch it comes in matters;
    it pays where clips come again: segments on a fixed grid, or several students on the same mixtures. Files are
    written under a temporary name: any number of processes may share a folder.

    Args:
        folder: where to keep them, below it a folder for every teacher (by its weights), method, its options and `how`.
        teacher: who gives the targets.
        method: what is kept of its output.
        how: whatever else the targets depend on: how far the teacher is run, in which precision.
    """

    def __init__(self, folder: str | Path, teacher: MannerModel, method: DistillationMethod, **how):
        options = ",".join(f"{name}={value}" for name, value in sorted(vars(method).items()) if name[0] != "_")
        kind = f"{weights_hash(teacher)} {type(method).__name__}({options}) {sorted(how.items())}"
        self.folder = Path(folder) / hashlib.sha256(kind.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, noisy: Tensor, teach: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The targets for `noisy` (B, T), for whose unknown clips `teach` is asked."""
        paths = [self.path(clip) for clip in noisy]
        unknown = [index for index, path in enumerate(paths) if not path.exists()]
        if unknown:
            taught = teach(noisy[unknown])
            for row, index in enumerate(unknown):
                keep(paths[index], {name: target[row] for name, target in taught.items()})
        kept = [load_file(path) for path in paths]
        return {name: torch.stack([targets[name] for targets in kept]).to(noisy.device) for name in kept[0]}

    def path(self, clip: Tensor) -> Path:
        """Where the targets of a clip (T,) are kept."""
        digest = hashlib.sha256(clip.cpu().contiguous().numpy().tobytes()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:32]}.safetensors"


def keep(path: Path, targets: dict[str, Tensor]) -> None:
    """Write `targets` to `path` in one piece."""
    with replaced_at_end(path) as partial:
        save_file({name: target.cpu().contiguous() for name, target in targets.items()}, partial)


__all__ = ["TargetCache"]
