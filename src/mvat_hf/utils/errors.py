"""The errors that are about what a user gave or installed, and how commands tell them: one line."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from huggingface_hub.errors import StrictDataclassError

from .files import DISK_ERRORS


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
        raise MissingExtraError(not_installed(error.name, name)) from error


def need(name: str, *packages: str) -> None:
    """Before work that takes `packages` of the extra `name`: MissingExtraError if one is not there."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(not_installed(package, name))


def not_installed(package: str | None, name: str) -> str:
    """The message for a missing package of the extra `name`; "" for a dependency of mvat_hf itself."""
    what = f"'mvat_hf[{name}]'" if name else "mvat_hf"
    return f"{package} is not installed: pip install {what}"


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; what a user did wrong ends it with one line on standard error, and status 1."""
    try:
        main()
    except USER_ERRORS as error:
        sys.exit(one_line(error))


def one_line(error: BaseException) -> str:
    """ "error: …", see `message_of`."""
    return f"error: {message_of(error)}"


def message_of(error: BaseException) -> str:
    """What an error says, without line breaks: of the system's, without number and quotes; of one in a worker of a
    `DataLoader`, without the worker's traceback; of one that says nothing, its name."""
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, (str, bytes, os.PathLike)):
        # a copy names what is read, and then what is written, where there is no room
        name = error.filename2 if error.errno in DISK_ERRORS and error.filename2 else error.filename
        words = f"{os.fsdecode(name)}: {error.strerror}"
    else:
        words = without_traceback(str(error)) or type(error).__name__
    return " ".join(words.split())


def without_traceback(message: str) -> str:
    """The message that an error had in a worker, of "Caught AudioError in DataLoader worker process 0. Original
    Traceback …" as torch raises it again; any other as it is."""
    caught = re.match(r"'?Caught (\w+) in DataLoader worker process \d+\.\s+Original Traceback", message)
    if caught is None:
        return message
    told = list(re.finditer(rf"^(?:\w+\.)*{caught[1]}(?:: |$)", message, re.MULTILINE))
    return (message[told[-1].end() :].strip() if told else "") or caught[1]
