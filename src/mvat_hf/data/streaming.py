"""Endless streams of pairs that know their place: resumable, and split by process and worker.

`MixtureStream` makes its items, `row_stream.RowStream` reads them. They are torch's `IterableDataset`, not that of
`datasets`: the latter splits by shards, so that the order of what is seen would depend on the number of workers.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterator
from itertools import count
from typing import Any, Self

from torch.utils.data import IterableDataset, get_worker_info

from .mixing import Mixer


class EndlessStream(IterableDataset):
    """
    Items 0, 1, 2, … {"id", "clean", "noisy"}, without end.

    Every `world x batch_size` successive items are one step: the first `batch_size` of them are the batch of process
    0, the next that of process 1, and so on. The workers of a `DataLoader` make its batches in turn. So the items of
    a step depend neither on the number of workers nor, at an equal `world x batch_size`, on that of processes.

    Iterating begins at the state last loaded. `state_dict` after n items, loaded into another stream of the same,
    makes that one go on with item n, whatever its workers and processes. The workers of a `DataLoader` hold copies, and
    only these advance: there, load {"items": steps done x world x batch_size, "taken": 0}, as `EnhancementTrainer`
    does, or use the `StatefulDataLoader` of torchdata, with the same number of workers.

    Args:
        batch_size: that of the `DataLoader`; with another one the items are the same, but workers batch them otherwise.
        rank, world: number of the process whose share this is, and the number of processes. Leave them if something
            else splits the stream by process, as accelerate does with a prepared `DataLoader`.

    Raises:
        ValueError: a batch size, rank or position that cannot be.
    """

    by_workers = True  # whether the workers of a `DataLoader` may make its items

    def __init__(self, batch_size: int = 1, rank: int = 0, world: int = 1):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be from 0 to {world - 1}, got {rank}")
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.start = 0  # items of this process before those that its workers share
        self.skip = 0  # items after `start` that this worker had already given when the state was taken
        self.taken = 0  # items after `start` that this worker has given

    @abstractmethod
    def items(self, indices: Iterator[int]) -> Iterator[dict]:
        """The items of rising `indices`."""

    @abstractmethod
    def describe(self) -> dict[str, dict]:
        """Its sources, for the record of a run."""

    def split(self, batch_size: int, rank: int, world: int) -> Self:
        """A process's share of the same items, from their beginning."""
        share = copy.copy(self)
        EndlessStream.__init__(share, batch_size, rank, world)
        return share

    def first(self, wanted: int) -> list[dict]:
        """The first `wanted` items."""
        return list(self.items(iter(range(wanted))))

    def __iter__(self) -> Iterator[dict]:
        self.taken = self.skip
        for item in self.items(map(self.index, count(self.skip))):
            self.taken += 1
            yield item

    def index(self, number: int) -> int:
        """Index of the item that this worker gives after `number` others."""
        worker = get_worker_info()
        workers, own = (1, 0) if worker is None else (worker.num_workers, worker.id)
        batch, place = divmod(number, self.batch_size)
        batch, place = divmod(self.start + (batch * workers + own) * self.batch_size + place, self.batch_size)
        return (batch * self.world + self.rank) * self.batch_size + place

    def state_dict(self) -> dict[str, Any]:
        """{"items": those of all processes up to here, "taken": items that this worker has given since}."""
        if get_worker_info() is None:
            return {"items": (self.start + self.taken) * self.world, "taken": 0}
        return {"items": self.start * self.world, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration at `state`."""
        start, rest = divmod(state["items"], self.world)
        if rest or start < 0:
            raise ValueError(f"cannot begin after {state['items']} items with {self.world} processes")
        self.start, self.skip, self.taken = start, state["taken"], state["taken"]


class MixtureStream(EndlessStream):
    """
    Mixtures 0, 1, 2, … of a mixer.

    Args:
        mixer: makes a mixture of its index.
        batch_size, rank, world: see `EndlessStream`.
    """

    def __init__(self, mixer: Mixer, batch_size: int = 1, rank: int = 0, world: int = 1):
        super().__init__(batch_size, rank, world)
        self.mixer = mixer

    def items(self, indices: Iterator[int]) -> Iterator[dict]:
        return map(self.mixer.item, indices)

    def describe(self) -> dict[str, dict]:
        """As in the mixer."""
        return self.mixer.describe()
