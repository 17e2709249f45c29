"""Augmentation of batches: what is kept is kept to the bit, what is changed can be measured, ids decide."""

import numpy as np
import pytest
import torch

from mvat_hf.data.batch_augmentation import AugmentingCollator, BatchAugmentation, band_stop, random_band, remix, shift
from mvat_hf.data.collator import SegmentCollator


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def items(count=4, length=4000):
    return [{"id": str(n), "clean": noise(length, seed=n), "noisy": noise(length, seed=100 + n)} for n in range(count)]


def collator(epoch=0, **options):
    return AugmentingCollator(0.2, 16000, 3, epoch, augmentation=BatchAugmentation(**options))


@pytest.mark.parametrize("length", [1000, 3200, 4000])
def test_without_options_it_is_the_plain_collator(length):
    plain, augmenting = SegmentCollator(0.2, 16000, 3)(items(length=length)), collator()(items(length=length))
    for name, value in plain.items():
        assert torch.equal(value, augmenting[name])


@pytest.mark.parametrize("options", [{"remix_probability": 1}, {"shift_seconds": 0.05}, {"band_mask": 0.2}])
def test_batches_depend_on_seed_epoch_and_ids_alone(options):
    plain, first, again = collator()(items()), collator(**options)(items()), collator(**options)(items())
    other = collator(epoch=1, **options)(items())
    for name, value in first.items():
        assert value.shape == (4, 3200) and value.dtype == torch.float32
        assert torch.equal(value, again[name]) and not torch.equal(value, other[name])
    assert not torch.equal(first["input_values"], plain["input_values"])


def test_remix_keeps_every_speech_and_every_noise():
    clean, noisy = noise(6, 500), noise(6, 500, seed=1)
    mixed = remix(clean, noisy, np.random.default_rng(0)) - clean
    places = [int(np.abs(noisy - clean - row).sum(axis=1).argmin()) for row in mixed]
    assert sorted(places) == list(range(6)) and places != list(range(6))
    np.testing.assert_allclose(mixed, (noisy - clean)[places], atol=1e-5)
    batch, plain = collator(remix_probability=1)(items()), collator()(items())
    assert torch.equal(batch["labels"], plain["labels"])


def test_shift_moves_speech_and_noise_apart():
    (item,) = items(1)
    interference, moved = item["noisy"] - item["clean"], set()
    for seed in range(40):
        shifted = shift(item, 100, np.random.default_rng(seed))
        (of_speech,) = np.flatnonzero(item["clean"] == shifted["clean"][0])
        np.testing.assert_array_equal(shifted["clean"], item["clean"][of_speech : of_speech + 3900])
        own = shifted["noisy"] - shifted["clean"]
        of_noise = int(np.abs(interference[:101] - own[0]).argmin())
        np.testing.assert_allclose(own, interference[of_noise : of_noise + 3900], atol=1e-5)
        moved.add(int(of_speech) - of_noise)
    assert min(moved) < -30 and max(moved) > 30


def test_shift_goes_as_far_as_the_item_is_long():
    exact = items(length=3200)
    assert torch.equal(collator(shift_seconds=1)(exact)["input_values"], collator()(exact)["input_values"])


def test_a_stop_band_takes_its_tone_and_leaves_the_others():
    time = np.arange(16000) / 16000
    for hertz, left in ((500, 1), (950, 1), (1100, 0), (1400, 0), (1550, 1), (6000, 1)):
        tone = np.sin(2 * np.pi * hertz * time)
        stopped = band_stop(tone, 1000 / 16000, 1500 / 16000)[2000:-2000]  # away from its ends
        assert np.abs(stopped - left * tone[2000:-2000]).max() < 0.02


def test_bands_take_their_share_of_the_mel_scale():
    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    lows = []
    for seed in range(200):
        low, high = (16000 * edge for edge in random_band(0.2, 16000, np.random.default_rng(seed)))
        assert mel(high) - mel(low) == pytest.approx(0.2 * (mel(8000) - mel(40)))
        assert 39.9 < low < high < 8000.1
        lows.append(low)
    assert min(lows) < 100 and max(lows) > 3500


def test_the_same_band_is_taken_from_both_sides():
    batch, plain = collator(band_mask=0.3)(items()), collator()(items())
    for row in range(4):
        taken = [np.abs(np.fft.rfft((plain[name] - batch[name])[row])) for name in ("input_values", "labels")]
        bands = [np.flatnonzero(spectrum > 0.3 * spectrum.max()) for spectrum in taken]
        assert abs(int(bands[0].min()) - int(bands[1].min())) < 60 and abs(int(bands[0].max()) - bands[1].max()) < 60


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"remix_probability": 2}, "remix_probability must be from 0 to 1, got 2"),
        ({"band_mask": -1}, "band_mask must be from 0 to 1, got -1"),
        ({"shift_seconds": -1}, "shift_seconds must be at least 0, got -1"),
    ],
)
def test_options_that_cannot_be(options, says):
    with pytest.raises(ValueError, match=says):
        BatchAugmentation(**options)
