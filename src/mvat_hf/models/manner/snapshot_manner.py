"""The checkpoint that comes inside the package, for ids that neither the Hub nor the cache can give."""

from functools import lru_cache
from pathlib import Path

from huggingface_hub import constants, get_session
from transformers.utils import logging

logger = logging.get_logger(__name__)

SNAPSHOTS = Path(__file__).parent / "checkpoints"
HUB_OWNER = "mvat"
PROBE_SECONDS = 5


class SnapshotFallback:
    """Mixin: `from_pretrained("mvat/NAME")` takes the Hub, else the cache, else the snapshot here, saying so."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in transformers; a `revision` is never replaced by the snapshot.

        Raises:
            OSError: the id is in none of the three places.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).exists():
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        if not kwargs.get("local_files_only") and not hub_answers():
            kwargs["local_files_only"] = True
        snapshot = find_snapshot(name) if kwargs.get("revision") in (None, "main") else None
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except OSError as error:
            if snapshot is None and name in str(error):
                raise
            if snapshot is None:
                raise OSError(f"{name} is no folder, and the Hub did not give it: {error}") from error
            logger.warning_once(f"{name} could not be had from the Hub or the cache: using the one in mvat_hf")
            return super().from_pretrained(str(snapshot), *args, **kwargs)


def hub_answers() -> bool:
    """Whether the Hub can be asked: spares the half minute of retries that every file costs without a network."""
    try:
        return probe_hub()
    except Exception:  # whatever goes wrong on the way to the Hub, the answer is no
        return False


@lru_cache(maxsize=1)
def probe_hub() -> bool:
    """True, remembered, once the Hub has answered anything; an exception, asked anew, where it did not."""
    get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS)
    return True


def find_snapshot(name: str) -> Path | None:
    """Folder of the embedded checkpoint "mvat/NAME"; None where there is none."""
    owner, _, checkpoint = name.partition("/")
    folder = SNAPSHOTS / checkpoint
    known = owner == HUB_OWNER and checkpoint and folder.parent == SNAPSHOTS and (folder / "config.json").is_file()
    return folder if known else None
