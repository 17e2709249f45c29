"""Loading from the Hub, with checks of its files that huggingface_hub does not make; and the checkpoints inside the
package, for ids that neither the Hub nor the cache has. Loading without torch uses this module, so transformers is
imported in functions only."""

import hashlib
import re
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError

SNAPSHOTS = Path(__file__).parent / "manner" / "checkpoints"
HUB_OWNER = "mvat"
PROBE_SECONDS = 5
NOT_HAD = "{} could not be had from the Hub or the cache: using the one in mvat_hf"


class SnapshotFallback:
    """Mixin: `from_pretrained("mvat/NAME")` takes the Hub, else the cache, else the snapshot here, saying so."""

    hub_file: ClassVar[str]  # the file that the class is loaded from

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in transformers; a `revision` or `subfolder` is never replaced by the snapshot.

        Raises:
            OSError: the id is in none of the three places, or a file from the Hub is not the one that the Hub names.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).exists():
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        other = kwargs.get("revision") not in (None, "main") or kwargs.get("subfolder")
        snapshot = None if other else find_snapshot(name)
        if not kwargs.get("local_files_only") and not hub_answers(name, cls.hub_file, kwargs):
            kwargs["local_files_only"] = True
        try:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except OSError as error:
            if snapshot is None:
                hint = preset_hint(name)
                if name in str(error) and hint in str(error):
                    raise
                raise OSError(f"{name} is no folder, and the Hub did not give it{hint}: {error}") from error
            from transformers.utils import logging

            logging.get_logger(__name__).warning_once(NOT_HAD.format(name))
            loaded = super().from_pretrained(str(snapshot), *args, **kwargs)
            made = loaded[0] if isinstance(loaded, tuple) else loaded
            for named in (made, getattr(made, "config", None)):
                if hasattr(named, "name_or_path"):
                    named.name_or_path = name  # not a folder of this machine
            return loaded
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


def cached_path(name: str | Path, filename: str, options: dict[str, Any]) -> Path | None:
    """Where a file of a folder, or of what the Hub gave, lies on this machine; None if it does not.

    Args:
        options: of `from_pretrained`.
    """
    from transformers.utils import cached_file

    where = {key: options[key] for key in ("cache_dir", "revision", "subfolder") if key in options}
    path = cached_file(name, filename, local_files_only=True, _raise_exceptions_for_missing_entries=False, **where)
    return None if path is None else Path(path)


def check_content(name: str, filename: str, options: dict[str, Any]) -> None:
    """OSError if a file from the Hub has another hash than it is known by, see `hash_fault`."""
    path = cached_path(name, filename, options)
    if path is not None and (fault := hash_fault(path)):
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


def find_snapshot(name: str | Path) -> Path | None:
    """Folder of the embedded checkpoint "mvat/NAME"; None where there is none."""
    owner, _, checkpoint = str(name).partition("/")
    folder = SNAPSHOTS / checkpoint
    known = owner == HUB_OWNER and checkpoint and folder.parent == SNAPSHOTS and (folder / "config.json").is_file()
    return folder if known else None


def preset_hint(name: str) -> str:
    """For a message on what cannot be had: the id that was meant, or that a preset has no weights; or nothing."""
    from .manner.configuration_manner import PRESETS

    preset = name.removeprefix(f"{HUB_OWNER}/")
    released = [known for known in PRESETS if find_snapshot(f"{HUB_OWNER}/{known}")]
    if preset in released:
        return f" (its id is {HUB_OWNER}/{preset})" if name == preset else ""
    if preset not in PRESETS:
        return ""
    others = ", ".join(f"{HUB_OWNER}/{known}" for known in released)
    return f' (no weights of the preset "{preset}" are released, but those of {others})'
