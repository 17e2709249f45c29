"""Pairs that are read from the rows of a data set as they come: one that is too large to be downloaded first."""

import copy
from collections.abc import Iterator
from itertools import count
from typing import Any

from datasets import Audio, IterableDataset

from .matching import SIDES, DataError, decode_pair
from .streaming import EndlessStream


class RowStream(EndlessStream):
    """
    The rows of an `IterableDataset` of `datasets` with columns clean and noisy, in their order, again and again.

    A row of the n-th pass after the first is called ID#n, so that it is cropped at another place. What
    `IterableDataset.shuffle` shuffles it shuffles anew in every pass. Every process and every worker reads all rows,
    and decodes its own; a run that goes on reads, and does not decode, what it had before.

    Args:
        rows: their audio as columns of `datasets.Audio`, which are decoded here, or as `collator.as_item` takes it.
        sampling_rate: in Hz, of the columns that are decoded here.
        batch_size, rank, world: see `EndlessStream`.

    Raises:
        DataError: the rows have no such columns; while it is read: there are none, or sides of unlike lengths.
    """

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

    def items(self, indices: Iterator[int]) -> Iterator[dict]:
        rows = enumerate(self.passes())
        for index in indices:
            for place, (number, row) in rows:
                if place == index:
                    yield self.item(place, number, row)
                    break

    def passes(self) -> Iterator[tuple[int, dict]]:
        """(pass, row) without end."""
        for number in count():
            rows = copy.deepcopy(self.rows)  # several may read at a time, and one reading keeps its place in it
            rows.set_epoch(number)
            row = None
            for row in rows.iter(1):  # as `iter(rows)`, which would leave a worker its shards only
                yield number, {name: values[0] for name, values in row.items()}
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
