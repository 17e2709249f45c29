"""A teacher's activations for a clip, kept on disk, so that another epoch or student need not run the teacher."""

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..distillation import DistillationMethod
from ..distillation.activations import Activations, flattened, nested
from ..utils.errors import message_of
from ..utils.files import lack_of_room, replaced_at_end
from ..utils.records import weights_hash


class TargetCache:
    """
    The activations of a teacher that a method reads, in compact form (`DistillationMethod.compact`): a file a clip.

    A clip is known by the hash of its samples, so that neither its place in the data nor the batch it comes in matters;
    it is useful if clips come again: segments on a fixed grid, or several students on the same mixtures. Files are
    written under a temporary name: any number of processes may share a folder. A file that cannot be read is made anew.
    While less than 2 GiB of the disk are free, or a file cannot be written, the clips are not kept, and a warning says
    so once.

    Args:
        folder: where to keep them, below it a folder for every teacher (by its weights and layers), method, its options
            and `how`.
        teacher: who is asked.
        method: what is kept of its activations.
        how: whatever else they depend on: how far the teacher is run, in which precision.
    """

    def __init__(self, folder: str | Path, teacher: nn.Module, method: DistillationMethod, **how):
        self.method = method
        options = ",".join(f"{name}={value}" for name, value in sorted(vars(method).items()) if name[0] != "_")
        who = f"{type(teacher).__name__} {weights_hash(teacher)} {teacher}"  # its layers, too: some have no weights
        kind = f"activations of {who} {type(method).__name__}({options}) {sorted(how.items())}"
        self.folder = Path(folder) / hashlib.sha256(kind.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.told = False  # that clips are not kept

    def __call__(self, audio: Tensor, teach: Callable[[Tensor], Activations]) -> dict[str, Any]:
        """The kept activations for `audio` (B, T); `teach` computes those of unknown clips."""
        paths = [self.path(clip) for clip in audio]
        kept = [read(path) for path in paths]
        unknown = [index for index, tensors in enumerate(kept) if tensors is None]
        if unknown:
            taught = flattened(self.method.compact(teach(audio[unknown])))
            for row, index in enumerate(unknown):
                kept[index] = {name: value[row].cpu().contiguous().clone() for name, value in taught.items()}
            self.keep({paths[index]: kept[index] for index in unknown})
        rows = [tensors for tensors in kept if tensors is not None]
        return nested({name: torch.stack([row[name] for row in rows]).to(audio.device) for name in rows[0]})

    def keep(self, clips: Mapping[Path, Any]) -> None:
        """Write the tensors of clips, each file in one piece, as long as there is room."""
        try:
            fault = lack_of_room(self.folder)
            for path, tensors in clips.items() if fault is None else ():
                with replaced_at_end(path) as partial:
                    save_file(tensors, partial)
        except (OSError, SafetensorError) as error:
            fault = message_of(error)
        if fault is not None and not self.told:
            self.told = True
            warnings.warn(
                f"not all of the teacher's activations are kept in {self.folder.parent}: {fault}. Training goes on, "
                "and asks the teacher.",
                stacklevel=3,
            )

    def path(self, clip: Tensor) -> Path:
        """The file for a clip (T,)."""
        digest = hashlib.sha256(clip.cpu().contiguous().numpy().tobytes()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:32]}.safetensors"


def read(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file; None where there is none, or one that is no whole safetensors file."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None


__all__ = ["TargetCache"]
