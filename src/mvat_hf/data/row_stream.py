"""Pairs read row by row from a data set that is too large to be downloaded first."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Lock
from typing import Any

from torch.utils.data import get_worker_info

from ..utils.errors import extra
from .matching import SIDES, DataError, decode_pair
from .streaming import EndlessStream

with extra("data"):
    from datasets import Audio, IterableDataset

AHEAD = 32  # rows that are read before they are asked for


class RowStream(EndlessStream):
    """
    The rows of an `IterableDataset` of `datasets` with columns clean and noisy, in their order, again and again.

    In the n-th pass after the first, a row has the id ID#n, so that it is cropped at another place. Rows shuffled by
    `IterableDataset.shuffle` are shuffled anew in every pass. Every process reads all rows, and decodes its own. A
    resumed run reads earlier rows without decoding them. A thread reads ahead, instead of workers of a `DataLoader`,
    each of which would read all rows.

    Args:
        rows: their audio as columns of `datasets.Audio`, which are decoded here, or as `collator.as_item` takes it.
        sampling_rate: in Hz, of the columns that are decoded here.
        batch_size, rank, world: see `EndlessStream`.

    Raises:
        DataError: the rows have no such columns. While reading: there are no rows, or the sides differ in length.
    """

    by_workers = False

    def __init__(
        self, rows: IterableDataset, sampling_rate: int = 16000, batch_size: int = 1, rank: int = 0, world: int = 1
    ):
        super().__init__(batch_size, rank, world)
        names = rows.column_names
        if names is not None and (missing := [side for side in SIDES if side not in names]):
            raise DataError(f"the rows have no column {' and no '.join(missing)}, expected clean and noisy")
        self.encoded = [side for side in SIDES if isinstance((rows.features or {}).get(side), Audio)]
        for side in self.encoded:
            rows = rows.cast_column(side, Audio(sampling_rate=sampling_rate, decode=False))
        self.rows, self.sampling_rate = rows, sampling_rate
        self.lock = Lock()  # readings may take turns, as in training and recalibration; they share what `rows` reads by

    def items(self, indices: Iterator[int]) -> Iterator[dict]:
        if get_worker_info() is not None:
            raise DataError("a thread reads the rows of a stream: expected a DataLoader with num_workers=0")
        return ahead(self.read(indices), AHEAD)

    def read(self, indices: Iterator[int]) -> Generator[dict, None, None]:
        """`items`, read when they are asked for."""
        rows = enumerate(self.passes())
        for index in indices:
            with self.lock:
                place, (number, row) = next(rows)
                while place < index:
                    place, (number, row) = next(rows)
            yield self.item(place, number, row)

    def passes(self) -> Iterator[tuple[int, dict]]:
        """(pass, row) without end."""
        for number in count():
            self.rows.set_epoch(number)
            row = None
            for row in self.rows:
                yield number, row
            if row is None:
                raise DataError("the data set has no rows, expected at least one pair")

    def item(self, place: int, number: int, row: dict[str, Any]) -> dict[str, Any]:
        """The pair of the row at a place of the stream, in a pass."""
        name = f"row {place}" if row.get("id") is None else str(row["id"]) + (f"#{number}" if number else "")
        item = {"id": name, **{side: row.get(side) for side in SIDES}}
        if len(self.encoded) == len(SIDES):
            item |= zip(SIDES, decode_pair(item, self.sampling_rate), strict=True)
        return item

    def describe(self) -> dict[str, dict]:
        """How many rows it has, where that is known."""
        info = self.rows.info
        split = (info.splits or {}).get(str(self.rows.split))
        return {"pairs": {"rows": getattr(split, "num_examples", None) or "not counted"}}


def ahead(items: Generator[dict, None, None], number: int) -> Iterator[dict]:
    """The same items, that many of them made by a thread before they are asked for."""
    pool = ThreadPoolExecutor(1)
    try:
        waiting = deque(pool.submit(next, items, None) for _ in range(number))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, items, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()
