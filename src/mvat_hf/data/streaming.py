"""An endless stream of mixtures that knows its place: resumable, and split by process and worker.

It is torch's `IterableDataset`, not that of `datasets`: the latter splits by shards, so that the order of what is seen
would depend on the number of workers.
"""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from .mixing import Mixer


class MixtureStream(IterableDataset):
    """
    Mixtures 0, 1, 2, … of a mixer, {"id", "clean", "noisy"}, without end.

    Every `world x batch_size` successive mixtures are one step: the first `batch_size` of them are the batch of process
    0, the next that of process 1, and so on. The workers of a `DataLoader` make its batches in turn. So the mixtures of
    a step depend neither on the number of workers nor, at an equal `world x batch_size`, on that of processes.

    Iterating begins at the state last loaded. `state_dict` after n items, loaded into another stream of the same mixer,
    makes that one go on with item n, whatever its workers and processes. The workers of a `DataLoader` hold copies, and
    only these advance: there, load {"mixtures": steps done x world x batch_size, "taken": 0}, as `EnhancementTrainer`
    does, or use the `StatefulDataLoader` of torchdata, with the same number of workers.

    Args:
        mixer: makes a mixture of its index.
        batch_size: that of the `DataLoader`; with another one the mixtures are the same, but how workers batch them is
            not.
        rank, world: of which process, among how many, this is the share. Leave them where something else splits the
            stream by process, as accelerate does with a prepared `DataLoader`.

    Raises:
        ValueError: a batch size, rank or position that cannot be.
    """

    def __init__(self, mixer: Mixer, batch_size: int = 1, rank: int = 0, world: int = 1):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be from 0 to {world - 1}, got {rank}")
        self.mixer, self.batch_size, self.rank, self.world = mixer, batch_size, rank, world
        self.start = 0  # items of this process before those that its workers share
        self.skip = 0  # items after `start` that this worker had already given when the state was taken
        self.taken = 0  # items after `start` that this worker has given

    def split(self, batch_size: int, rank: int, world: int) -> "MixtureStream":
        """A process's share of the same mixtures, from their beginning."""
        return MixtureStream(self.mixer, batch_size, rank, world)

    def __iter__(self) -> Iterator[dict]:
        self.taken = self.skip
        while True:
            self.taken += 1
            yield self.mixer.item(self.index(self.taken - 1))

    def index(self, number: int) -> int:
        """Which mixture the item after `number` items of this worker is."""
        worker = get_worker_info()
        workers, own = (1, 0) if worker is None else (worker.num_workers, worker.id)
        batch, place = divmod(number, self.batch_size)
        batch, place = divmod(self.start + (batch * workers + own) * self.batch_size + place, self.batch_size)
        return (batch * self.world + self.rank) * self.batch_size + place

    def state_dict(self) -> dict[str, Any]:
        """{"mixtures": those of all processes up to here, "taken": items that this worker has given since}."""
        if get_worker_info() is None:
            return {"mixtures": (self.start + self.taken) * self.world, "taken": 0}
        return {"mixtures": self.start * self.world, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration at `state`."""
        start, rest = divmod(state["mixtures"], self.world)
        if rest or start < 0:
            raise ValueError(f"cannot begin after {state['mixtures']} mixtures with {self.world} processes")
        self.start, self.skip, self.taken = start, state["taken"], state["taken"]

    def describe(self) -> dict[str, dict]:
        """As of the mixer."""
        return self.mixer.describe()
