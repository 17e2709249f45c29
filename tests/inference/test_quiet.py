"""Quiet recordings come out as loud ones do, only quieter; those that are loud enough are not touched."""

import numpy as np
import pytest

from fake_model import SHORT, Fake, noise
from mvat_hf import MannerModel, StreamingEnhancer, enhance
from mvat_hf.models.manner import chunking_manner
from mvat_hf.models.manner.chunking_manner import heard_deviation, lift
from mvat_hf.models.snapshots import SNAPSHOTS


@pytest.fixture(scope="module")
def manner():
    return MannerModel.from_pretrained(SNAPSHOTS / "manner-s-8.1gf")


def at(level, audio):
    """Audio of an RMS in dB of full scale."""
    return (audio * (10 ** (level / 20) / audio.std())).astype(np.float32)


def loudness(audio):
    return 20 * np.log10(audio.std())


@pytest.mark.parametrize("level", [-50, -60, -70, -100])
def test_a_quiet_recording_is_a_loud_one_turned_down(manner, speech, level):
    expected = enhance(manner, at(-25, speech[0]), 16000)
    quiet = enhance(manner, at(level, speech[0]), 16000)
    turned_down = expected * 10 ** ((level + 25) / 20)
    assert loudness(quiet) == pytest.approx(loudness(turned_down), abs=0.1)
    assert loudness(quiet - turned_down) < loudness(turned_down) - 35


@pytest.mark.parametrize("level", [-44.5, -30, -10])
def test_from_the_threshold_up_nothing_changes(manner, speech, level, monkeypatch):
    audio = at(level, speech[0][:16000])
    output = enhance(manner, audio, 16000)
    monkeypatch.setattr(chunking_manner, "lift", lambda deviation: np.ones_like(deviation))
    np.testing.assert_array_equal(output, enhance(manner, audio, 16000))


def test_the_lift_has_no_step_and_an_end():
    levels = np.linspace(-45, -60, 1501)
    gains = 20 * np.log10(lift(10 ** (levels / 20)))
    assert abs(gains[0]) < 0.01 and np.diff(gains).min() > 0 and np.diff(gains).max() < 0.06
    assert levels[-1] + gains[-1] == pytest.approx(-20, abs=1e-3)
    extreme = lift(np.array([0, 1e-320, 1e-30, 0.0057, 0.1, 10]))
    assert extreme.tolist() == [1, pytest.approx(1e6), pytest.approx(1e6), 1, 1, 1]


def test_silence_and_what_is_next_to_it(manner):
    for peak in (0, 1e-38, 1e-9, 2**-15):
        output = enhance(manner, peak * np.sign(noise(2, 8000)), 16000)
        assert np.isfinite(output).all() and np.abs(output).max() <= 2 * peak


def test_rumble_that_the_model_does_not_hear_makes_nothing_loud(manner, speech):
    quiet = at(-60, speech[0])
    rumble = (0.05 * np.sin(2 * np.pi * 20 * np.arange(len(quiet)) / 16000) + 0.1).astype(np.float32)
    assert loudness(enhance(manner, quiet + rumble, 16000)) == pytest.approx(
        loudness(enhance(manner, quiet, 16000)), abs=1
    )


def test_deviation_is_that_of_what_is_heard():
    time = np.arange(16000) / 16000
    audio = np.stack([np.sin(2 * np.pi * hertz * time) for hertz in (50, 440)]) + 3
    np.testing.assert_allclose(heard_deviation(audio, 16000, 70)[:, 0], [0, 0.5**0.5], atol=1e-6)
    np.testing.assert_allclose(heard_deviation(audio, 16000, 0)[:, 0], audio.std(axis=1), atol=1e-6)
    assert not heard_deviation(audio[:, :1], 16000, 70).any()


@pytest.mark.parametrize(("level", "offset"), [(-60, 0.1), (-86, 0.9), (-86, -0.9)])
def test_speech_beside_an_offset_is_lifted_as_without_it(manner, speech, level, offset):
    quiet = at(level, speech[0])
    beside = quiet + np.float32(offset)
    deviations = [heard_deviation(audio[None], 16000, 70)[0, 0] for audio in (quiet, beside)]
    assert deviations[1] == pytest.approx(deviations[0], rel=1e-2) and deviations[0] > 0
    outputs = [enhance(manner, audio, 16000) for audio in (quiet, beside)]
    assert loudness(outputs[1]) == pytest.approx(loudness(outputs[0]), abs=0.1)


@pytest.mark.parametrize("offset", [0.7, -1e-3])
def test_an_offset_alone_is_not_lifted(offset):
    """What is left of it beside the offset is rounding."""
    audio = np.full(4001, offset, np.float32)
    assert not heard_deviation(audio[None], 16000, 0).any()
    model = Fake()
    enhance(model, audio, 16000)
    assert np.abs(model.chunks[0]).max() == pytest.approx(abs(offset))


def test_every_channel_and_chunk_is_lifted_by_itself():
    audio = np.concatenate([at(-60, noise(2, 8000)), at(-30, noise(2, 8000))], axis=1)
    audio[1] = audio[1, ::-1]
    model = Fake()
    output = enhance(model, audio, 16000, **SHORT)
    np.testing.assert_allclose(output, audio, rtol=1e-5, atol=1e-9)
    first, last = model.chunks[0], model.chunks[-1]
    assert [loudness(first[0]), loudness(last[1])] == pytest.approx([-20, -20], abs=0.3)
    np.testing.assert_array_equal(first[1], audio[1, :4000])


def test_live_audio_too(manner, speech):
    outputs = []
    for level in (-25, -60):
        live = StreamingEnhancer(manner)
        outputs.append(np.concatenate([live.feed(at(level, speech[0][:24000])), live.flush()]))
    assert loudness(outputs[1]) == pytest.approx(loudness(outputs[0]) - 35, abs=0.2)
