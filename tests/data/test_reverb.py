"""Rooms: the target stands where the speech stood, is part of what is heard, and simulated rooms sound as asked."""

import numpy as np
import pytest
import soundfile

from mvat_hf.data.reverb import ResponseFiles, Rooms, direct_path, response_files, reverberate, simulate_rooms


def noise(length=4000, seed=0):
    return np.random.default_rng(seed).standard_normal(length).astype(np.float32)


def response(delay=300, length=2000):
    """A direct path after `delay` samples, and a decaying tail that begins 20 samples after it."""
    tail = 0.2 * noise(length, 1) * np.exp(-np.arange(length) / 400)
    tail[: delay + 20] = 0
    tail[delay] = 0.8
    return tail


def test_what_is_heard_is_the_convolution_without_the_delay():
    speech, room = noise(), response()
    heard, target = reverberate(speech, room, 0)
    np.testing.assert_allclose(heard, np.convolve(speech, room)[300 : 300 + len(speech)], atol=1e-4)
    np.testing.assert_allclose(target, 0.8 * speech, atol=1e-5)
    assert heard.dtype == target.dtype == np.float32


def test_early_reflections_may_belong_to_the_target():
    speech, room = noise(), response()
    for early in (19, 100):
        _, target = reverberate(speech, room, early)
        expected = np.convolve(speech, room[: 300 + early + 1])[300 : 300 + len(speech)]
        np.testing.assert_allclose(target, expected, atol=1e-4)
    heard, everything = reverberate(speech, room, 5000)
    np.testing.assert_allclose(heard, everything, atol=1e-5)


@pytest.fixture(scope="module")
def rooms():
    pytest.importorskip("pyroomacoustics")
    return Rooms(room_count=6, rt60_low=0.2, rt60_high=0.3)


def test_simulated_rooms_depend_on_the_seed_alone(rooms):
    first, again, other = simulate_rooms(rooms, 16000), simulate_rooms(rooms, 16000), simulate_rooms(rooms, 16000, 1)
    for one, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert one.dtype == np.float32 and not np.array_equal(one, different)


def test_simulated_rooms_reverberate_as_long_as_asked_for(rooms):
    """Schroeder's backward integration, extrapolated from -5 to -25 dB (T20 of ISO 3382-1)."""
    for room in simulate_rooms(rooms, 16000):
        decay = 10 * np.log10(np.cumsum(np.square(room[::-1], dtype=np.float64))[::-1] / np.sum(np.square(room)))
        seconds = 3 * float(np.argmax(decay < -25) - np.argmax(decay < -5)) / 16000
        assert 0.12 < seconds < 0.45
        assert direct_path(room) < 600  # a few metres


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"room_count": 0}, "room_count must be at least 1, got 0"),
        ({"rt60_low": 0.5, "rt60_high": 0.3}, "rt60_low <= rt60_high in seconds, got 0.5 and 0.3"),
        ({"room_low": 9.0}, "room_low <= room_high in m, got 9.0 and 8.0"),
    ],
)
def test_rooms_that_cannot_be(options, says):
    with pytest.raises(ValueError, match=says):
        Rooms(**options)


def test_responses_come_from_files_of_any_rate_and_channels(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([response(), -response(900)], axis=1), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", response(900, 3 * 48000), 48000, subtype="FLOAT")
    soundfile.write(tmp_path / "RVB2014_type1_noise_room_1.wav", noise(), 16000)
    files = response_files(tmp_path, 16000)
    assert isinstance(files, ResponseFiles) and [path.name for path in files.files] == ["a.wav", "b.wav"]
    np.testing.assert_allclose(files[0], response(), atol=1e-6)  # the channels are not averaged
    assert direct_path(files[1]) == 300 and len(files[1]) == 2 * 16000
