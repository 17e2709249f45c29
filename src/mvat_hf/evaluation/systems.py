"""The systems that an evaluation compares: models, peers from other packages, and folders of enhanced files.

A system is called with an item of a data set and the sampling rate and returns the enhanced audio (time,); `describe`
tells a record what it is.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..acceleration.runtime import OnnxManner
from ..data.audio import AudioError, find_audio, read_mono
from ..inference.enhancer import Enhancer, load_model
from ..inference.enhancing import enhance
from ..models.complexity import complexity
from ..models.manner import MannerConfig, MannerModel
from ..utils.records import weights_hash
from .peers import PEERS, load_peer

RECORDED_SECONDS = 4.0  # what FLOPs are counted for


class System(Protocol):
    """A row of the table."""

    def __call__(self, item: Mapping[str, Any], sampling_rate: int) -> np.ndarray:
        """Enhanced audio (time,) of an item {"id", "name" of the noisy file, "noisy"}; AudioError where it has none."""
        ...

    def describe(self) -> dict[str, Any]:
        """Its description in the record; the same description means the same output."""
        ...


class NoisyInput:
    """The noisy input as it is: what every system must beat."""

    def __call__(self, item: Mapping[str, Any], sampling_rate: int) -> np.ndarray:
        return item["noisy"]

    def describe(self) -> dict[str, Any]:
        return {"kind": "input"}


class ModelSystem:
    """
    A MANNER model.

    Args:
        model: loaded, what `from_pretrained` takes, or a file of `mvat export`.
        device: where it is moved; None leaves it.
        options: of `enhance`.
    """

    def __init__(self, model: Enhancer | str | Path, device: str | None = None, **options):
        exported = isinstance(model, OnnxManner) or str(model).endswith(".onnx")
        self.model: Any = load_model(model, device, "auto" if exported else "torch")
        self.options = options

    def __call__(self, item: Mapping[str, Any], sampling_rate: int) -> np.ndarray:
        return np.asarray(enhance(self.model, item["noisy"], sampling_rate, **self.options))

    def describe(self) -> dict[str, Any]:
        exported = self.model.metadata if isinstance(self.model, OnnxManner) else None
        config = MannerConfig.from_dict(json.loads(exported["config"])) if exported else self.model.config
        cost = complexity(config, RECORDED_SECONDS)
        described = {"kind": "model", "parameters": cost.parameters, "flops_4s": cost.flops, "options": self.options}
        described["device"] = self.model.device.type
        if exported:  # its weights are inside a graph, folded and perhaps rounded
            return {**described, "precision": exported["precision"], "exported_sha256": exported["weights_sha256"]}
        return {**described, "weights_sha256": weights_hash(self.model)}


class PeerSystem:
    """Another package's enhancer, by its name in `peers.PEERS`; raises as `load_peer`."""

    def __init__(self, name: str):
        self.name, self.enhance = name, load_peer(name)

    def __call__(self, item: Mapping[str, Any], sampling_rate: int) -> np.ndarray:
        return self.enhance(np.asarray(item["noisy"]), sampling_rate)

    def describe(self) -> dict[str, Any]:
        package = PEERS[self.name].package
        return {"kind": "peer", "peer": self.name, "package": package, "version": version(package)}


class FolderSystem:
    """
    Files that were enhanced before, found by the item's id (path below the folder, or "fileid_N"), else by the name of
    the noisy file; what is in a sub-folder, "a/001", by its whole id alone.

    Args:
        folder: with audio files of any suffix and rate, at any depth.

    Raises:
        AudioError: no audio file below `folder`.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        files = find_audio(self.folder)
        if not files:
            raise AudioError(f"{folder} holds no audio files, expected the enhanced ones")
        self.by_path: dict[str, list[Path]] = {}
        self.by_name: dict[str, list[Path]] = {}
        for path in files:
            fileid = re.search(r"fileid_\d+", path.stem)
            below = path.relative_to(self.folder).with_suffix("").as_posix()
            self.by_path.setdefault(unicodedata.normalize("NFC", below), []).append(path)
            for key in {path.stem, fileid[0] if fileid else path.stem}:
                self.by_name.setdefault(unicodedata.normalize("NFC", key), []).append(path)

    def __call__(self, item: Mapping[str, Any], sampling_rate: int) -> np.ndarray:
        names = [item["id"]] if "/" in item["id"] else [item["id"], item["name"]]
        keys = [unicodedata.normalize("NFC", name) for name in names]
        found = next((files[key] for key in keys for files in (self.by_path, self.by_name) if key in files), [])
        if len(found) != 1:
            named = f"{len(found)} files" if found else "no file"
            raise AudioError(f"{self.folder} has {named} named {' or '.join(dict.fromkeys(keys))}, expected one")
        audio = read_mono(found[0], sampling_rate)
        if len(audio) != len(item["noisy"]):
            raise AudioError(f"{found[0]} has {len(audio)} samples, the noisy file {len(item['noisy'])}")
        return audio

    def describe(self) -> dict[str, Any]:
        files = sorted(path for found in self.by_path.values() for path in found)
        found = [path.stat() for path in files]
        size, changed = sum(status.st_size for status in found), max(status.st_mtime_ns for status in found)
        return {"kind": "folder", "folder": self.folder.name, "files": len(files), "bytes": size, "changed": changed}


def build_system(entry: Any, device: str | None = None) -> System:
    """A system as it is; a model; or, given a path, a model folder, a Hub id or a folder of enhanced files.

    Raises:
        ValueError: none of these, or no model; and as of `FolderSystem` and `load_model`.
    """
    if isinstance(entry, (str, Path)) and Path(entry).is_dir() and not (Path(entry) / "config.json").exists():
        return FolderSystem(entry)
    if isinstance(entry, (str, Path, MannerModel, OnnxManner)):
        return ModelSystem(entry, device)
    if not (callable(entry) and hasattr(entry, "describe")):
        kinds = "a model, a Hub id, a folder or a callable with a method describe"
        raise ValueError(f"a system must be {kinds}, got {type(entry).__name__}")
    return entry
