"""The stream: who makes a mixture, in how many workers and processes, changes nothing; it goes on where it stopped."""

from itertools import islice

import numpy as np
import pytest
import soundfile
from torch.utils.data import DataLoader

from mvat_hf.data.mixing import Mixer, MixingOptions
from mvat_hf.data.streaming import MixtureStream


@pytest.fixture(scope="module")
def mixer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for name in ("c0", "c1", "n0", "n1"):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(1600), 16000)
    files = [sorted(folder.glob(f"{kind}*.wav")) for kind in "cn"]
    return Mixer(*files, MixingOptions(seconds=0.01), seed=5)


def ids(stream, count, workers=0):
    """Numbers of the mixtures in the first `count` batches."""
    loader = DataLoader(stream, stream.batch_size, collate_fn=list, num_workers=workers)
    return [[int(item["id"].removeprefix("mixture_")) for item in batch] for batch in islice(loader, count)]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_batches_do_not_depend_on_workers(workers, mixer):
    loader = DataLoader(MixtureStream(mixer, 3), 3, collate_fn=list, num_workers=workers)
    for number, batch in enumerate(islice(loader, 9)):
        for item, index in zip(batch, range(3 * number, 3 * number + 3), strict=True):
            assert item["id"] == f"mixture_{index}"
            clean, noisy = mixer.mixture(index)
            np.testing.assert_array_equal(item["clean"], clean)
            np.testing.assert_array_equal(item["noisy"], noisy)


@pytest.mark.parametrize("workers", [0, 4])
def test_steps_do_not_depend_on_processes(workers, mixer):
    alone = ids(MixtureStream(mixer, 4), 6, workers)
    shares = [ids(MixtureStream(mixer).split(2, rank, 2), 6, workers) for rank in (0, 1)]
    assert [first + second for first, second in zip(*shares, strict=True)] == alone


def test_a_loader_of_another_batch_size_loses_and_doubles_nothing(mixer):
    loader = DataLoader(MixtureStream(mixer), 2, collate_fn=list, num_workers=2)
    seen = [item["id"] for batch in islice(loader, 6) for item in batch]
    assert sorted(seen) == sorted(f"mixture_{n}" for n in range(12))


@pytest.mark.parametrize("stop", [0, 1, 4, 5])
def test_a_state_goes_on_with_the_next_item(stop, mixer):
    one, other = MixtureStream(mixer, 4), MixtureStream(mixer, 4)
    items = iter(one)
    assert [next(items)["id"] for _ in range(stop)] == [f"mixture_{n}" for n in range(stop)]
    other.load_state_dict(one.state_dict())
    assert other.state_dict() == one.state_dict()
    expected = [list(range(stop, stop + 4)), list(range(stop + 4, stop + 8))]
    for workers in (0, 0, 2):  # iterating begins at the state loaded
        assert ids(other, 2, workers) == expected


@pytest.mark.parametrize(("workers", "world"), [(2, 1), (0, 2), (2, 2)])
def test_a_run_goes_on_with_other_workers_and_processes(workers, world, mixer):
    stream = MixtureStream(mixer, 4)
    assert ids(stream, 3)[-1] == [8, 9, 10, 11]
    shares = []
    for rank in range(world):
        share = stream.split(4 // world, rank, world)
        share.load_state_dict(stream.state_dict())
        shares.append(ids(share, 2, workers))
    steps = [[number for part in parts for number in part] for parts in zip(*shares, strict=True)]
    assert steps == [[12, 13, 14, 15], [16, 17, 18, 19]]


def test_a_worker_goes_on_with_its_own_share(mixer):
    """As torchdata's StatefulDataLoader resumes: the copy of each worker is given the state that it had."""
    stream = MixtureStream(mixer, 2)
    stream.load_state_dict({"items": 6, "taken": 3})
    # each worker had given its batch of 2 and the first of its next: (6, 7), 10 and (8, 9), 12
    loader = DataLoader(stream, 1, collate_fn=list, num_workers=2)
    assert [item["id"] for (item,) in islice(loader, 4)] == [f"mixture_{n}" for n in (11, 13, 14, 16)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0,), "batch_size must be at least 1, got 0"),
        ((1, 2, 2), "rank must be from 0 to 1, got 2"),
    ],
)
def test_shares_that_cannot_be(arguments, says, mixer):
    with pytest.raises(ValueError, match=says):
        MixtureStream(mixer, *arguments)


def test_a_place_between_processes_is_refused(mixer):
    with pytest.raises(ValueError, match="cannot begin after 3 items with 2 processes"):
        MixtureStream(mixer, 1, 0, 2).load_state_dict({"items": 3, "taken": 0})
