"""Every kind of file is written up to what it holds; what cannot be written in it is another kind, or refused."""

import numpy as np
import pytest
import soundfile

from fake_model import Fake, noise
from mvat_hf.data.audio import AudioError, open_audio
from mvat_hf.inference.enhancing import enhance_file
from mvat_hf.inference.writing import EXACT, PCM, SAMPLE_BYTES, Kind, check_written, open_output
from written_files import kind_of, read


@pytest.mark.parametrize(
    ("name", "subtype", "frames"),
    [
        ("a.wav", "IMA_ADPCM", 30001),
        ("a.wav", "MS_ADPCM", 30001),
        ("a.wav", "G721_32", 30001),
        ("a.wav", "GSM610", 30001),
        ("a.w64", "IMA_ADPCM", 30001),
        ("a.aiff", "PCM_S8", 3001),
        ("a.aiff", "ULAW", 3001),
        ("a.caf", "ALAC_24", 5001),
    ],
)
def test_what_cannot_be_written_with_as_many_frames_is_pcm_and_said(tmp_path, name, subtype, frames):
    soundfile.write(tmp_path / name, noise(frames), 16000, subtype=subtype)
    with pytest.warns(UserWarning, match=rf"{name} is [A-Z0-9]+ \w+, which cannot be .*; .*out_{name} is .* PCM_"):
        enhance_file(Fake(), tmp_path / name, tmp_path / f"out_{name}", dry=1)
    before, after = read(tmp_path / name), read(tmp_path / f"out_{name}")
    assert before.shape == after.shape
    np.testing.assert_allclose(after, before, atol=2**-15)
    assert soundfile.info(tmp_path / f"out_{name}").subtype == ("PCM_24" if subtype == "ALAC_24" else "PCM_16")


@pytest.mark.parametrize(
    ("name", "frames"), [("ms_adpcm_sox.wav", 32000), ("ima_adpcm_ffmpeg.wav", 65312), ("gsm610.wav", 16000)]
)
def test_the_output_of_reported_files_does_not_grow(shared, tmp_path, name, frames):
    with pytest.warns(UserWarning, match="cannot be written with as many frames"):
        enhance_file(Fake(), shared / "faults" / name, tmp_path / name)
    assert soundfile.info(tmp_path / name).frames == frames


def test_an_mp3_inside_a_wav_becomes_pcm(shared, tmp_path):
    with pytest.warns(UserWarning, match="which cannot be written with as many frames; .*out.wav is WAV PCM_16"):
        enhance_file(Fake(), shared / "faults" / "mp3_in.wav", tmp_path / "out.wav")
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.subtype, info.frames) == ("PCM_16", read(shared / "faults" / "mp3_in.wav").shape[1])


@pytest.mark.parametrize("frames", [1, 7, 1001])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", EXACT)
def test_what_counts_as_exact_is(recwarn, tmp_path, format, channels, frames):
    for subtype in EXACT[format] & set(soundfile.available_subtypes(format)):
        soundfile.write(tmp_path / "a", noise(frames, channels), 16000, format=format, subtype=subtype)
        assert soundfile.read(tmp_path / "a")[0].reshape(-1, channels).shape == (frames, channels), subtype
        with open_audio(tmp_path / "a") as file:
            assert file.frames == frames or format == "MP3", subtype
    assert not recwarn.list


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "expected"),
    [
        (".ogg", 384000, 1, "OGG VORBIS with 1 channels at 384000 Hz: expected at most 255 channels and 200000 Hz"),
        (".ogg", 16000, 256, "OGG VORBIS with 256 channels at 16000 Hz"),
        (".opus", 44100, 1, "OGG OPUS with 1 channels at 44100 Hz: expected .* 24000 or 48000 Hz"),
        (".mp3", 96000, 1, "MP3 MPEG_LAYER_III with 1 channels at 96000 Hz"),
        (".mp3", 16000, 3, "expected at most 2 channels"),
        (".flac", 16000, 9, "FLAC PCM_16 with 9 channels at 16000 Hz: expected at most 8 channels"),
        (".flac", 200001, 1, "FLAC PCM_16 with 1 channels at 200001 Hz"),
        (".m4a", 192000, 1, "ipod aac with 1 channels at 192000 Hz"),
        (".mp4", 16000, 7, "mp4 aac with 7 channels at 16000 Hz"),
        (".webm", 44100, 1, "webm libopus with 1 channels at 44100 Hz: expected 1 to 4 or 6 channels at 48000 Hz"),
    ],
)
def test_beyond_what_a_coding_holds_is_an_error_and_leaves_nothing(tmp_path, suffix, rate, channels, expected):
    soundfile.write(tmp_path / "a.wav", noise(300, channels), rate)
    with pytest.raises(AudioError, match=f"b{suffix} cannot be .*{expected}"):
        enhance_file(Fake(), tmp_path / "a.wav", tmp_path / "sub" / f"b{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [
        (".ogg", 200000, 1),
        (".ogg", 8000, 255),
        (".ogg", 1, 2),
        (".opus", 8000, 255),
        (".mp3", 8000, 2),
        (".flac", 655350, 8),
        (".m4a", 96000, 6),
        (".m4a", 7350, 5),
        (".m4a", 44100, 4),
        (".m4a", 44100, 3),
        (".webm", 48000, 6),
        (".mka", 655350, 6),
    ],
)
def test_the_most_that_a_coding_holds_is_written(tmp_path, suffix, rate, channels):
    target = tmp_path / f"a{suffix}"
    kind = kind_of(suffix)
    soundfile.write(tmp_path / "in.wav", noise(5000), rate)
    with open_output(target, target, kind, Source(rate, channels), tmp_path / "in.wav") as output:
        output.write(noise(channels, 5000))
    check_written(target, target, kind, 5000)
    with open_audio(target) as file:
        assert file.channels == channels


class Source:
    """What is known of an open file."""

    frames, format, subtype = 5000, "WAV", "PCM_16"

    def __init__(self, samplerate: int, channels: int):
        self.samplerate, self.channels = samplerate, channels


@pytest.mark.parametrize("name", ["b.sd2", "b.aac", "b.wma", "b.txt", "b"])
def test_a_suffix_that_cannot_be_written_is_refused(tmp_path, name):
    soundfile.write(tmp_path / "a.wav", noise(300), 44100)
    with pytest.raises(ValueError, match=f"target must end in one of .wav, .*, got .*{name}$"):
        enhance_file(Fake(), tmp_path / "a.wav", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_sound_designer_is_no_format_to_keep(shared, tmp_path):
    with pytest.raises(ValueError, match="target must end in one of .wav"):
        enhance_file(Fake(), shared / "faults" / "x.sd2", tmp_path / "x.sd2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64", "W64", "AU", "CAF", "NIST", "FLAC", "AIFF"])
def test_pcm_is_rounded_to_the_nearest_step_and_has_no_offset(tmp_path, format):
    audio = np.append(noise(20000).astype(np.float64), [-2, -1, 1, 2, 1 - 2**-20, -1e-11])[None]
    for subtype in EXACT[format] & PCM & set(soundfile.available_subtypes(format)):
        target, kind = tmp_path / "a", Kind(format, subtype)
        with open_output(target, target, kind, Source(16000, 1), tmp_path / "in.wav") as output:
            output.write(audio)
        step = 2.0 ** (1 - 8 * SAMPLE_BYTES[subtype])
        written = soundfile.read(target, dtype="float64", always_2d=True)[0].T
        off = (written - audio.clip(-1, 1 - step)) / step
        assert np.abs(off).max() <= 0.5 and abs(off.mean()) < 0.02, subtype
        assert written[0, -1] == 0, subtype
