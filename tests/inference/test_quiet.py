"""Quiet recordings come out as loud ones do, only quieter; those that are loud enough are not touched."""

import numpy as np
import pytest

from fake_model import SHORT, Fake, noise
from mvat_hf import MannerModel, StreamingEnhancer, enhance
from mvat_hf.models.manner import chunking_manner
from mvat_hf.models.manner.leveling_manner import evening, heard_deviation, lift
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


def talkers(apart, voice=None):
    """Two in turn, 2 s each over 8 s, the second so many dB lower, with noise 10 dB below that one; (speech, noisy,
    where the second talks)."""
    voice = modulated_speech() if voice is None else at(-25, np.resize(voice, 8 * 16000))
    second = np.arange(len(voice)) // 32000 % 2 == 1
    speech = np.where(second, voice * 10 ** (-apart / 20), voice).astype(np.float32)
    return speech, speech + noise(len(voice), seed=3) * voice.std() * 10 ** (-(apart + 10) / 20) / 0.1, second


def modulated_speech():
    """8 s of a voice-like sound at -25 dB of full scale: harmonics of 120 Hz in syllables of a quarter of a second."""
    time = np.arange(8 * 16000) / 16000
    harmonics = sum(np.sin(2 * np.pi * 120 * order * time + order**2) / order for order in range(1, 25))
    return at(-25, harmonics * np.sin(np.pi * 4 * time) ** 4)


def kept(output, speech):
    """How much of the speech is in the output, in dB."""
    return 20 * np.log10(np.dot(output, speech) / np.dot(speech, speech))


def test_a_quiet_talker_beside_a_loud_one_is_kept(manner, speech, monkeypatch):
    """30 dB apart, in one chunk. Alone, the model all but removes the second."""
    clean, noisy, second = talkers(30, np.concatenate(speech[:3]))
    output = enhance(manner, noisy, 16000)
    monkeypatch.setattr(chunking_manner, "evening", lambda chunk, *_: np.ones((len(chunk), 1), np.float32))
    alone = enhance(manner, noisy, 16000)
    assert kept(output[second], clean[second]) > kept(alone[second], clean[second]) + 3
    assert kept(output[~second], clean[~second]) == pytest.approx(kept(alone[~second], clean[~second]), abs=0.2)


def test_speech_far_below_its_chunk_is_brought_near_without_a_step():
    for apart, expected in ((0, 0), (15, 0), (20, 2.8), (30, 12.8), (60, 30)):
        _, noisy, _ = talkers(apart)
        gains = 20 * np.log10(evening(noisy[None], 16000, 70)[0])
        assert gains.min() == 0 and gains.max() == pytest.approx(expected, abs=0.5)
        assert np.abs(np.diff(gains)).max(initial=0) * 16000 < 150  # dB a second
    # of each channel by itself
    both = evening(np.stack([talkers(0)[1], talkers(30)[1]]), 16000, 70)
    assert both[0].max() == 1 and both[1].max() > 4


def test_what_the_model_does_not_hear_changes_no_gain():
    """An offset, and rumble below the high-pass filter."""
    _, noisy, _ = talkers(30)
    rumble = 0.03 * np.sin(2 * np.pi * 20 * np.arange(len(noisy)) / 16000)
    gains = [evening((noisy + below)[None].astype(np.float32), 16000, 70) for below in (0, 0.1, rumble)]
    for gain in gains[1:]:
        np.testing.assert_allclose(20 * np.log10(gain / gains[0]), 0, atol=0.1)


def test_steady_noise_is_none_the_livelier_for_a_gap_in_it():
    voice, hiss = at(-20, talkers(0)[1]), noise(128000, seed=5)
    chunk = np.concatenate([voice[:80000], at(-50, hiss)[:80000]])
    chunk[112000:120000] = 0
    assert (evening(chunk[None].astype(np.float32), 16000, 70) == 1).all()


def test_pauses_steady_noise_silence_and_short_chunks_are_not_lifted():
    _, noisy, second = talkers(0)
    for pause in (noise(len(noisy)) * 0.03, np.zeros(len(noisy)), np.full(len(noisy), 1e-30)):
        assert (evening(np.where(second, pause, noisy)[None].astype(np.float32), 16000, 70) == 1).all()
    assert (evening(talkers(30)[1][None, :30000], 16000, 70) == 1).all()
    assert (evening(np.zeros((2, 64000), np.float32), 16000, 70) == 1).all()
