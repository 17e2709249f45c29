"""The checkpoint that comes inside the package, for ids that neither the Hub nor the cache can give; and what a Hub
gives, checked where huggingface_hub takes its word."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from safetensors import safe_open

if TYPE_CHECKING:  # what loads a checkpoint without torch asks here where it is
    from torch import Tensor, nn

SNAPSHOTS = Path(__file__).parent / "checkpoints"
HUB_OWNER = "mvat"
PROBE_SECONDS = 5
NOT_HAD = "{} could not be had from the Hub or the cache: using the one in mvat_hf"


class CheckpointError(Exception):
    """Weights that are not those of the Hub or the configuration; `from_pretrained` makes an OSError of it."""


class SnapshotFallback:
    """Mixin: `from_pretrained("mvat/NAME")` takes the Hub, else the cache, else the snapshot here, saying so."""

    hub_file: ClassVar[str]  # what the class is loaded from

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in transformers; a `revision` is never replaced by the snapshot.

        Raises:
            OSError: the id is in none of the three places, or the Hub lies about what it gives.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).exists():
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        snapshot = find_snapshot(name) if kwargs.get("revision") in (None, "main") else None
        if not kwargs.get("local_files_only") and not hub_answers(name, cls.hub_file, kwargs):
            kwargs["local_files_only"] = True
        try:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except OSError as error:
            if snapshot is None and name in str(error):
                raise
            if snapshot is None:
                raise OSError(f"{name} is no folder, and the Hub did not give it: {error}") from error
            from transformers.utils import logging

            logging.get_logger(__name__).warning_once(NOT_HAD.format(name))
            return super().from_pretrained(str(snapshot), *args, **kwargs)
        if cls.hub_file.endswith(".json"):  # weights are checked before they are loaded
            check_content(name, cls.hub_file, kwargs)
        return loaded


def hub_answers(name: str, filename: str, options: dict[str, Any]) -> bool:
    """Whether the Hub can be asked for a file: spares the half minute of retries that every file costs without it.

    Args:
        options: of `from_pretrained`.

    Raises:
        OSError: it gives the file a name that would be written outside the cache.
    """
    try:
        url = hf_hub_url(name, filename, subfolder=options.get("subfolder"), revision=options.get("revision"))
        answer = get_hf_file_metadata(url, token=options.get("token"), timeout=PROBE_SECONDS)
    except HfHubHTTPError as error:
        return error.response.status_code < 500
    except Exception:  # whatever goes wrong on the way to the Hub, the answer is no
        return False
    for given in (answer.etag, answer.commit_hash):
        if given is not None and not re.fullmatch(r"[\w-]+", given):
            raise OSError(f"{name}: the Hub gives {filename} the hash {given!r}, which is none")
    return True


def check_content(name: str, filename: str, options: dict[str, Any]) -> None:
    """OSError if a file from the Hub has another hash than it is known by, see `hash_fault`."""
    from transformers.utils import cached_file

    where = {key: options[key] for key in ("cache_dir", "revision", "subfolder") if key in options}
    path = cached_file(name, filename, local_files_only=True, _raise_exceptions_for_missing_entries=False, **where)
    if path is not None and (fault := hash_fault(Path(path))):
        raise OSError(f"{name}: {fault}")


def hash_fault(path: Path) -> str | None:
    """That a file in the Hub's cache has another hash than it is known by: huggingface_hub compares the size only.

    A large file is known by its SHA-256, a small one by git's SHA-1, which goes over a header too.
    """
    blob = path.resolve()
    hashes = {40: ("SHA-1", hashlib.sha1(b"blob %d\0" % blob.stat().st_size)), 64: ("SHA-256", hashlib.sha256())}
    if len(blob.name) not in hashes or blob.parent.name != "blobs" or not re.fullmatch("[0-9a-f]+", blob.name):
        return None
    kind, digest = hashes[len(blob.name)]
    with open(blob, "rb") as file:
        got = hashlib.file_digest(file, lambda: digest).hexdigest()
    if got == blob.name:
        return None
    return f"{path.name} has the {kind} {got}, but the Hub says {blob.name}: force_download=True?"


def check_weights(model: Any, state: "dict[str, Tensor] | None", paths: Iterable[str], sharded: Any) -> None:
    """
    Compare what is to be loaded with a model that has no memory yet, by the hash and the header of each file.

    Args:
        state, paths: the weights themselves, or the safetensors files that hold them.
        sharded: of transformers, what the index of several files says.

    Raises:
        CheckpointError: a file of another hash or from another folder; weights that are missing, left over, of another
            shape, or integers where numbers with a fraction are expected.
    """
    outside = [shard for shard in set((sharded or {}).get("weight_map", {}).values()) if Path(shard).name != shard]
    if outside:
        raise CheckpointError(f"the index names {min(outside)}, expected names of files beside it")
    if state is not None:
        found = {name: (tuple(tensor.shape), tensor.dtype.is_floating_point) for name, tensor in state.items()}
    else:
        found = {}
        for path in map(Path, paths):
            if fault := hash_fault(path):
                raise CheckpointError(fault)
            found |= read_header(path)
    wanted = {name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in model.state_dict().items()}
    if fault := header_fault(found, wanted):
        raise CheckpointError(fault)


def read_header(path: Path) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Of each tensor in a safetensors file its shape, and whether its type is a floating one."""
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        return {
            name: (tuple(part.get_shape()), part.get_dtype().startswith(("F", "BF"))) for name, part in slices.items()
        }


def header_fault(found: dict[str, tuple], wanted: dict[str, tuple]) -> str | None:
    """What is wrong with weights of those shapes and types; None if nothing is."""
    if missing := sorted(wanted.keys() - found.keys()):
        return f"it lacks {len(missing)} weights that the configuration expects, {missing[0]} for example"
    if unknown := sorted(found.keys() - wanted.keys()):
        return f"it has {len(unknown)} weights that the configuration has no place for, {unknown[0]} for example"
    if other := [name for name in sorted(wanted) if found[name][0] != wanted[name][0]]:
        got, expected = (shapes[other[0]][0] for shapes in (found, wanted))
        return (
            f"{len(other)} weights have another shape than the configuration says: {other[0]} is {got}, "
            f"expected {expected}"
        )
    if integers := [name for name in sorted(wanted) if wanted[name][1] and not found[name][1]]:
        return f"{len(integers)} weights are integers or the like, {integers[0]} for example, expected floating point"
    return None


def weights_fault(model: "nn.Module") -> str | None:
    """The first parameter or buffer that holds NaN, infinity or a negative variance; None if there is none."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.isfinite().all():
            return f"the weights {name} hold NaN or infinity, expected finite numbers"
        if name.endswith("running_var") and (tensor < 0).any():
            return f"the weights {name} hold a negative variance"
    return None


def find_snapshot(name: str | Path) -> Path | None:
    """Folder of the embedded checkpoint "mvat/NAME"; None where there is none."""
    owner, _, checkpoint = str(name).partition("/")
    folder = SNAPSHOTS / checkpoint
    known = owner == HUB_OWNER and checkpoint and folder.parent == SNAPSHOTS and (folder / "config.json").is_file()
    return folder if known else None
