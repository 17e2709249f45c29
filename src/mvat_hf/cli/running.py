"""How commands run: their errors in one line, and signals that end them like an error."""

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from ..utils.errors import USER_ERRORS, not_installed, one_line
from ..utils.imports import when_imported


class Finished(Exception):
    """A command has run; `status` is its exit status."""

    def __init__(self, status: int) -> None:
        self.status = status


def reporting(command: Callable[..., int], extra: str) -> Callable[..., None]:
    """`command` for typer, which drops what a command returns: it ends with Finished, see `run`."""

    @wraps(command)
    def reported(**options: Any) -> None:
        raise Finished(run(command, extra, options))

    return reported


def run(command: Callable[..., int], extra: str, options: dict[str, Any]) -> int:
    """The exit status of a command. Whatever goes wrong is one line on standard error and status 1."""
    when_imported(hide_progress, "transformers.utils.logging")
    try:
        with warnings.catch_warnings(), printing_any_name():
            warnings.showwarning = show_warning
            return command(**options)
    except BrokenPipeError:  # whoever reads the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail when Python ends
        return 141  # what a shell says of a program that SIGPIPE ended
    except (*USER_ERRORS, RuntimeError, OverflowError) as error:  # of torch: out of memory, or beyond what it can count
        print(one_line(error), file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: {not_installed(error.name, extra)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # of a file or a configuration that no one foresaw: its kind says more than its words
        kind = f"{type(error).__name__}: " if str(error) else ""
        print(one_line(error).replace("error: ", f"error: {kind}", 1), file=sys.stderr)
        return 1


def hide_progress() -> None:
    """No progress bars of transformers in the process of a command: models load at once."""
    from transformers.utils import logging

    logging.disable_progress_bar()


@contextmanager
def printing_any_name() -> Iterator[None]:
    """File names that are not Unicode, or not in the terminal's alphabet, are printed and end nothing."""
    with ExitStack() as stack:
        if isinstance(sys.stdout, io.TextIOWrapper):
            stack.callback(sys.stdout.reconfigure, errors=sys.stdout.errors)
            sys.stdout.reconfigure(errors="backslashreplace")
        yield


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the process like an error, so that nothing half written stays; handlers are put back."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, signal.SIGTERM)  # Windows knows no SIGHUP
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # as nohup leaves it; not set from Python
                before.setdefault(number, signal.signal(number, lambda number, _: sys.exit(128 + number)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line on standard error, without the line of code that warned."""
    print(f"warning: {message}", file=sys.stderr)
