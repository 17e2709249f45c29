"""Crops: at one place for clean and noisy, a place that (seed, epoch, id) alone decides."""

import numpy as np
import pytest
import soundfile
import torch

from mvat_hf.data.collator import SegmentCollator, as_item
from mvat_hf.data.matching import DataError


def item(name="a", length=1000, offset=0):
    """Samples that tell their own place; the noisy side is the clean one plus a half."""
    clean = np.arange(offset, offset + length, dtype=np.float32)
    return {"id": name, "clean": clean, "noisy": clean + 0.5}


def starts(collator, names, length=1000):
    return [int(value) for value in collator([item(name, length) for name in names])["labels"][:, 0]]


NAMES = [f"p226_{number:03d}" for number in range(40)]


@pytest.fixture
def collator():
    return SegmentCollator(seconds=0.01)  # 160 samples


def test_batches_are_model_input(collator):
    batch = collator([item("a"), item("b", 500)])
    assert set(batch) == {"input_values", "labels"}
    assert all(values.shape == (2, 160) and values.dtype == torch.float32 for values in batch.values())


def test_clean_and_noisy_are_cropped_alike_and_whole(collator):
    batch = collator([item(name, 1000, 2000 * number) for number, name in enumerate(NAMES)])
    assert torch.equal(batch["input_values"], batch["labels"] + 0.5)
    first = batch["labels"][:, :1]
    assert torch.equal(batch["labels"], first + torch.arange(160))
    assert all(2000 * n <= start <= 2000 * n + 840 for n, start in enumerate(first[:, 0].tolist()))


def test_the_place_depends_on_seed_epoch_and_id_alone(collator):
    expected = dict(zip(NAMES, starts(collator, NAMES), strict=True))
    again = SegmentCollator(seconds=0.01)
    assert [starts(again, [name])[0] for name in reversed(NAMES)] == [expected[name] for name in reversed(NAMES)]
    assert starts(collator, NAMES) == list(expected.values())  # a second call is no second draw
    for other in (SegmentCollator(seconds=0.01, seed=1), SegmentCollator(seconds=0.01, epoch=1)):
        moved = starts(other, NAMES)
        assert sum(one != two for one, two in zip(moved, expected.values(), strict=True)) > 35
    assert len(set(expected.values())) > 30  # and on the id


def test_seed_and_epoch_are_not_added_up():
    assert starts(SegmentCollator(0.01, seed=0, epoch=1), NAMES) != starts(
        SegmentCollator(0.01, seed=1, epoch=0), NAMES
    )


def test_a_new_epoch_crops_anew_and_can_be_taken_back(collator):
    first = starts(collator, NAMES)
    collator.epoch = 5
    assert starts(collator, NAMES) != first
    collator.epoch = 0
    assert starts(collator, NAMES) == first


def test_every_place_is_possible(collator):
    """Four samples to spare: five places, both ends among them."""
    found = {starts(SegmentCollator(seconds=0.01, epoch=epoch), ["a"], length=164)[0] for epoch in range(60)}
    assert found == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("length", [1, 100, 159, 160])
def test_short_items_are_padded_on_the_right(length, collator):
    batch = collator([item("a", length, offset=1), item("b")])
    for name, added in (("labels", 0.0), ("input_values", 0.5)):
        values = batch[name][0]
        assert torch.equal(values[:length], torch.arange(1, length + 1) + added)
        assert not values[length:].any()


def test_length_follows_seconds_and_rate():
    collate = SegmentCollator(seconds=0.5, sampling_rate=8000)
    assert collate([item(length=9000)])["labels"].shape == (1, 4000)
    assert SegmentCollator()([item(length=10)])["labels"].shape == (1, 64000)


def test_lists_and_other_types_are_fine(collator):
    """As items come from a data set without a format."""
    lists = {"id": "a", "clean": item()["clean"].tolist(), "noisy": item()["noisy"].astype(np.float64)}
    batch, expected = collator([lists]), collator([item()])
    assert all(torch.equal(batch[name], expected[name]) and batch[name].dtype == torch.float32 for name in expected)


@pytest.mark.parametrize(("kind", "scale"), [(np.int16, 2**15), (np.int32, 2**31)])
def test_integer_samples_are_divided_by_their_full_scale(kind, scale):
    samples = (np.array([-1, -0.5, 0, 0.25]) * scale).astype(kind)
    batch = SegmentCollator(4 / 16000)([{"clean": samples, "noisy": {"array": samples, "sampling_rate": 16000}}])
    for values in batch.values():
        assert values.tolist() == [[-1, -0.5, 0, 0.25]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones(4, np.int64), "clean has samples of int64, expected floating, int16 or int32: divide them"),
        ([1, 2, 3, 4], "clean has samples of int64"),
        (np.ones(4, np.uint8), "clean has samples of uint8"),
        ("a.wav", r'clean is a string, "a.wav", expected samples: .*cast_column\("clean", Audio\(\)\)'),
    ],
)
def test_what_is_no_audio_is_named(value, message):
    with pytest.raises(DataError, match=message):
        as_item({"clean": value, "noisy": np.ones(4)}, 16000)


def test_an_item_without_names_is_refused():
    with pytest.raises(DataError, match="an item is of class tuple, expected a mapping with clean and noisy"):
        as_item((torch.zeros(4), torch.zeros(4)), 16000)


def test_encoded_audio_is_decoded(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(800, 0.5), 8000)
    encoded = [{"bytes": None, "path": str(path)}, {"bytes": path.read_bytes(), "path": None}]
    item = as_item(dict(zip(("clean", "noisy"), encoded, strict=True)), 8000)
    assert all(np.allclose(item[side], 0.5, atol=1e-3) and len(item[side]) == 800 for side in ("clean", "noisy"))
