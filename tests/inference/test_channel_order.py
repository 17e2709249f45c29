"""Every channel comes out where it went in, whatever order its format has."""

import av
import numpy as np
import pytest
import soundfile

from fake_model import Fake
from mvat_hf.data.audio import AudioError, DamagedAudioWarning, read_audio
from mvat_hf.inference.enhancing import enhance_file

RATE = 48000
LAYOUTS = {3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
VORBIS_PLACES = {  # of the same speakers in an Ogg file, as the specification of Vorbis I lists them
    "3.0": ["FL", "FC", "FR"],
    "quad": ["FL", "FR", "BL", "BR"],
    "5.0": ["FL", "FC", "FR", "BL", "BR"],
    "5.1": ["FL", "FC", "FR", "BL", "BR", "LFE"],
    "6.1": ["FL", "FC", "FR", "SL", "SR", "BC", "LFE"],
    "7.1": ["FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"],
}


def tones(channels: int) -> np.ndarray:
    """(channels, time): 300 Hz in the first, 600 Hz in the second, …; of the subwoofer 60 Hz, which alone it keeps."""
    hertz = 300.0 * np.arange(1, channels + 1)
    places = [channel.name for channel in av.AudioLayout(LAYOUTS[channels]).channels] if channels > 2 else []
    hertz[[place == "LFE" for place in places]] = 60
    return (0.2 * np.sin(2 * np.pi * hertz[:, None] * np.arange(RATE) / RATE)).astype(np.float32)


def loudest(audio: np.ndarray) -> list[int]:
    """The frequency in Hz that each channel (time,) of a second is."""
    return np.abs(np.fft.rfft(audio[:, :RATE], RATE)).argmax(axis=1).tolist()


ENCODED = [3, 4, 6, 8]  # FFmpeg's encoder of Opus mixes up 5 and 7


def write_by_ffmpeg(path, codec, audio):
    with av.open(str(path), "w") as container:
        layout = LAYOUTS[len(audio)]
        stream = container.add_stream(codec, rate=RATE, layout=layout)
        packed = np.ascontiguousarray(audio.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
@pytest.mark.parametrize("channels", LAYOUTS)
def test_channels_of_ogg_are_those_of_wav(tmp_path, channels, suffix):
    source, audio = tmp_path / "in.wav", tones(channels)
    soundfile.write(source, audio.T, RATE)
    enhance_file(Fake(), source, tmp_path / f"out{suffix}", full_band=False)
    enhance_file(Fake(), tmp_path / f"out{suffix}", tmp_path / "back.wav", full_band=False)
    assert loudest(soundfile.read(tmp_path / "back.wav")[0].T) == loudest(audio)
    (tmp_path / "heard").write_bytes((tmp_path / f"out{suffix}").read_bytes()[:-1])  # damaged, so FFmpeg reads it
    with pytest.warns(DamagedAudioWarning):
        assert loudest(read_audio(tmp_path / "heard")[0]) == loudest(audio)


@pytest.mark.parametrize("channels", ENCODED)
@pytest.mark.parametrize(("suffix", "codec"), [(".mka", "libopus"), (".m4a", "aac")])
def test_channels_of_containers_are_those_of_wav(tmp_path, channels, suffix, codec):
    audio = tones(channels)
    write_by_ffmpeg(tmp_path / f"a{suffix}", codec, audio)
    assert loudest(read_audio(tmp_path / f"a{suffix}")[0]) == loudest(audio)


@pytest.mark.parametrize("channels", [3, 4, 5, 6])
@pytest.mark.parametrize("suffix", [".webm", ".mka", ".m4a", ".mov"])
def test_channels_in_containers_stay_where_they_were(tmp_path, channels, suffix):
    source, audio = tmp_path / "in.ogg", tones(channels)
    soundfile.write(tmp_path / "in.wav", audio.T, RATE)
    enhance_file(Fake(), tmp_path / "in.wav", source, full_band=False)
    if (suffix, channels) == (".webm", 5):
        with pytest.raises(AudioError, match="with 5 channels at 48000 Hz: expected 1 to 4 or 6 channels at 48000 Hz"):
            enhance_file(Fake(), source, tmp_path / f"out{suffix}", full_band=False)
        return
    enhance_file(Fake(), source, tmp_path / f"out{suffix}", full_band=False)
    assert loudest(read_audio(tmp_path / f"out{suffix}")[0]) == loudest(audio)


@pytest.mark.parametrize("channels", ENCODED)
def test_the_order_is_that_of_the_specification(tmp_path, channels):
    """libsndfile leaves the channels of Ogg as they stand there."""
    audio, layout = tones(channels), LAYOUTS[channels]
    write_by_ffmpeg(tmp_path / "a.opus", "libopus", audio)
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    stored = [loudest(audio)[names.index(name)] for name in VORBIS_PLACES[layout]]
    assert loudest(soundfile.read(tmp_path / "a.opus")[0].T) == stored
    assert loudest(read_audio(tmp_path / "a.opus")[0]) == loudest(audio)
