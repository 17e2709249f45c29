"""Work on many files at once, in threads: reading, resampling and writing audio let other Python threads run."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from tqdm.contrib.concurrent import thread_map

from ..utils.cores import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], title: str) -> list[Result]:
    """`function` of every item, in their order, by one thread per core; a bar if standard error is a terminal.

    The first error, in their order, ends it.
    """
    shown = {"desc": title, "unit": "file", "disable": None, "delay": 1}
    return thread_map(function, items, max_workers=usable_cores(), **shown)
