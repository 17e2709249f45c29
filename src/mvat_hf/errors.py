"""The errors that are about what a user gave or installed, and how commands tell them: one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError


class MissingExtraError(ImportError):
    """A package of one of the optional extras is not installed; the message says how to install it."""


# files and the Hub; values; configurations, whose strict classes have errors of their own; packages
USER_ERRORS = (OSError, ValueError, StrictDataclassError, MissingExtraError)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of packages that the extra `name` brings: MissingExtraError if one is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name} is not installed: pip install 'mvat_hf[{name}]'") from error


def one_line(error: BaseException) -> str:
    """ "error: …" without line breaks."""
    return f"error: {' '.join(str(error).split())}"
