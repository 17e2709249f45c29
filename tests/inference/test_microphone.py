"""The microphone, with a stand-in for PortAudio."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mvat_hf.cli import main
from mvat_hf.data.audio import AudioError
from mvat_hf.inference.live import StreamingEnhancer
from mvat_hf.inference.microphone import enhance_microphone
from mvat_hf.utils.errors import MissingExtraError

SHORT = {"context_seconds": 0.25, "hop_seconds": 0.05, "lookahead_seconds": 0.02}


class Stream:
    """Hears `heard` to its end, then is interrupted; keeps what it is to play."""

    def __init__(self, devices, **options):
        assert options == {"samplerate": 16000, "channels": 1, "dtype": "float32"}
        self.devices = devices

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def read(self, count):
        block, self.devices.heard = np.split(self.devices.heard, [count])
        if len(block) < count:
            raise KeyboardInterrupt
        return block[:, None], self.devices.lost

    def write(self, block):
        assert block.dtype == np.float32 and block.shape[1:] == (1,) and block.flags.c_contiguous
        self.devices.played.append(block[:, 0])


@pytest.fixture
def devices(monkeypatch):
    state = SimpleNamespace(heard=np.zeros(0, dtype=np.float32), played=[], lost=False)
    module = SimpleNamespace(
        InputStream=lambda **options: Stream(state, **options),
        OutputStream=lambda **options: Stream(state, **options),
        PortAudioError=type("PortAudioError", (Exception,), {}),
        __spec__=SimpleNamespace(name="sounddevice"),
    )
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    state.module = module
    return state


def test_what_is_heard_is_played_enhanced(devices, tiny_model):
    audio = (0.1 * np.random.default_rng(0).standard_normal(4000)).astype(np.float32)
    devices.heard, model = audio, tiny_model()
    with pytest.raises(KeyboardInterrupt):
        enhance_microphone(StreamingEnhancer(model, **SHORT))
    played = np.concatenate(devices.played)
    np.testing.assert_array_equal(played, StreamingEnhancer(model, **SHORT).feed(audio))
    assert len(played) == 3200


def test_lost_audio_is_told(devices, tiny_model):
    devices.heard, devices.lost = np.zeros(1600, dtype=np.float32), True
    with pytest.warns(UserWarning, match="audio was lost"), pytest.raises(KeyboardInterrupt):
        enhance_microphone(StreamingEnhancer(tiny_model(), **SHORT))


def test_no_device_is_one_line(devices, tiny_model):
    def none(**options):
        raise devices.module.PortAudioError("Error querying device -1")

    devices.module.InputStream = none
    with pytest.raises(AudioError, match="microphone or loudspeakers: Error querying device -1"):
        enhance_microphone(StreamingEnhancer(tiny_model(), **SHORT))


def test_without_sounddevice_its_extra_is_named(monkeypatch, tiny_model, capsys):
    monkeypatch.setattr("mvat_hf.utils.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"mvat_hf\[live\]"):
        enhance_microphone(StreamingEnhancer(tiny_model(), **SHORT))
    assert main(["stream", "--microphone"]) == 1
    assert "sounddevice is not installed: pip install 'mvat_hf[live]'" in capsys.readouterr().err


def test_the_command_ends_when_it_is_interrupted(devices, capsys):
    devices.heard = np.zeros(1600, dtype=np.float32)
    assert main(["stream", "--microphone", "--hop-seconds", "0.05", "--lookahead-seconds", "0.05"]) == 130
    assert "latency 0.1 s" in capsys.readouterr().err and sum(map(len, devices.played)) == 800
