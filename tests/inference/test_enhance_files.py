"""A file is enhanced as its array is, keeps its kind, and is whole or not there."""

import io
import sys

import numpy as np
import pytest
import soundfile

from fake_model import RATES, SHORT, Fake, noise
from mvat_hf.data.audio import AudioError
from mvat_hf.inference.enhancing import BLOCK_FRAMES, enhance, enhance_file
from mvat_hf.inference.folders import enhance_folder


def test_a_path_is_its_array(manner, tmp_path):
    for name, audio in (("mono.wav", noise(9000)), ("stereo.wav", noise(2, 9000))):
        soundfile.write(tmp_path / name, audio.T, 22050, subtype="FLOAT")
        expected = enhance(manner, audio, 22050, **SHORT)
        np.testing.assert_array_equal(enhance(manner, tmp_path / name, **SHORT)["audio"], expected)
        np.testing.assert_array_equal(enhance(manner, str(tmp_path / name), 22050, **SHORT)["audio"], expected)
        enhance_file(manner, tmp_path / name, tmp_path / "out.wav", **SHORT)
        np.testing.assert_array_equal(soundfile.read(tmp_path / "out.wav", dtype="float32")[0].T, expected)
    with pytest.raises(AudioError, match="sampled at 22050 Hz, got sampling_rate=16000"):
        enhance(manner, tmp_path / "mono.wav", 16000)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        enhance(manner, tmp_path / "nowhere.wav")


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "name, subtype",
    [
        ("a.wav", "PCM_16"),
        ("a.wav", "PCM_24"),
        ("a.wav", "PCM_32"),
        ("a.wav", "FLOAT"),
        ("a.wav", "DOUBLE"),
        ("a.wav", "PCM_U8"),
        ("a.flac", "PCM_16"),
        ("a.flac", "PCM_24"),
        ("a.aif", "PCM_24"),
        ("a.ogg", "VORBIS"),
        ("a.mp3", "MPEG_LAYER_III"),
    ],
)
def test_files_keep_their_kind_and_dry_ones_their_samples(tmp_path, rate, channels, name, subtype):
    audio = np.random.default_rng(0).uniform(-1, 1, (BLOCK_FRAMES + 7, channels))
    format = "AIFF" if name == "a.aif" else None
    soundfile.write(tmp_path / name, audio, rate, subtype=subtype, format=format)
    target = tmp_path / "new" / "folder" / name
    enhance_file(Fake(), tmp_path / name, target, dry=1)
    old, new = soundfile.info(tmp_path / name), soundfile.info(target)
    kind = ("samplerate", "channels", "format", "subtype", "frames")
    assert [getattr(new, key) for key in kind] == [getattr(old, key) for key in kind]
    if subtype not in ("VORBIS", "MPEG_LAYER_III"):
        np.testing.assert_array_equal(soundfile.read(target)[0], soundfile.read(tmp_path / name)[0])


def test_opus_keeps_its_kind(tmp_path):
    soundfile.write(tmp_path / "a.opus", noise(30000, 2), 48000, format="OGG", subtype="OPUS")
    enhance_file(Fake(), tmp_path / "a.opus", tmp_path / "b.opus")
    info = soundfile.info(tmp_path / "b.opus")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("OGG", "OPUS", 48000, 2)
    assert info.frames == soundfile.info(tmp_path / "a.opus").frames


@pytest.mark.parametrize(
    "name, kind",
    [
        ("b.flac", ("FLAC", "PCM_16")),
        ("b.AIFF", ("AIFF", "PCM_16")),
        ("b.aif", ("AIFF", "PCM_16")),
        ("b.ogg", ("OGG", "VORBIS")),
        ("b.opus", ("OGG", "OPUS")),
        ("b.mp3", ("MP3", "MPEG_LAYER_III")),
        ("b.WAV", ("WAV", "FLOAT")),
    ],
)
def test_format_follows_the_targets_suffix(tmp_path, name, kind):
    soundfile.write(tmp_path / "a.wav", noise(9000), 48000, subtype="FLOAT")
    enhance_file(Fake(), tmp_path / "a.wav", tmp_path / name)
    info = soundfile.info(tmp_path / name)
    assert (info.format, info.subtype, info.samplerate) == (*kind, 48000)


@pytest.mark.parametrize(
    "name, subtype, peak",
    [
        ("a.wav", "PCM_16", 1),
        ("a.wav", "PCM_24", 1),
        ("a.wav", "ULAW", 0.98),
        ("a.wav", "FLOAT", 1.5),
        ("a.ogg", "VORBIS", 1.5),
        ("a.mp3", "MPEG_LAYER_III", 1.5),
    ],
)
def test_what_is_too_loud_is_clipped_where_it_must_be(tmp_path, name, subtype, peak):
    tone = 0.5 * np.sin(np.arange(9000) / 10)
    soundfile.write(tmp_path / name, tone, 16000, subtype=subtype)
    target = tmp_path / ("loud_" + name)
    enhance_file(Fake(lambda values: 3 * values), tmp_path / name, target)
    loud = soundfile.read(target)[0][2000:7000]
    np.testing.assert_allclose(loud, (3 * tone[2000:7000]).clip(-peak, peak), atol=0.1)


def interrupt(values):
    raise KeyboardInterrupt


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("model, error", [(Fake(), AudioError), (Fake(interrupt), KeyboardInterrupt)])
def test_failure_leaves_the_target_as_it_was(tmp_path, existing, model, error):
    audio = noise(5 * BLOCK_FRAMES)
    audio[-10:] = np.nan  # the file fails when some of it is written
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    target = tmp_path / "b.wav"
    if existing:
        target.write_bytes(b"precious")
    names = sorted(tmp_path.iterdir())
    with pytest.raises(error, match="a.wav holds 10 NaN" if error is AudioError else None):
        enhance_file(model, tmp_path / "a.wav", target, **SHORT)
    assert sorted(tmp_path.iterdir()) == names
    assert not existing or target.read_bytes() == b"precious"


def test_unusable_targets(tmp_path):
    source = tmp_path / "a.wav"
    soundfile.write(source, noise(1000), 44100)
    before = source.read_bytes()
    (tmp_path / "link.wav").symlink_to(source)
    for same in (source, tmp_path / "link.wav", str(tmp_path / "." / "a.wav")):
        with pytest.raises(ValueError, match="is the source itself"):
            enhance_file(Fake(), source, same)
    with pytest.raises(ValueError, match="must end in one of .wav.*got .*b.txt"):
        enhance_file(Fake(), source, tmp_path / "b.txt")
    with pytest.raises(AudioError, match="b.opus cannot be OGG OPUS .* 44100 Hz"):
        enhance_file(Fake(), source, tmp_path / "b.opus")
    assert source.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal, progress", [(True, True), (True, False), (False, True)])
def test_bars_are_shown_on_request_and_on_terminals(tmp_path, monkeypatch, terminal, progress):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", noise(3000), 16000)
    for call, unit in (
        (lambda: enhance(Fake(), noise(3000), 16000, progress=progress), "s/s"),
        (lambda: enhance_file(Fake(), tmp_path / "in" / "a.wav", tmp_path / "b.wav", progress=progress), "s/s"),
        (lambda: enhance_folder(Fake(), tmp_path / "in", tmp_path / "out", progress=progress), "1 of 1 files"),
    ):
        monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
        call()
        shown = sys.stderr.getvalue()
        assert "100%" in shown and unit in shown if terminal and progress else shown == ""


def test_a_truncated_file_is_enhanced_with_a_word(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(9000), 16000, subtype="PCM_16")
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[:-8000])
    said = r"a.wav is truncated: .*10000.*18000.*; what there is of it is used"
    with pytest.warns(UserWarning, match=said):
        enhance_file(Fake(), tmp_path / "a.wav", tmp_path / "b.wav")
    assert soundfile.info(tmp_path / "b.wav").frames == 5000
    with pytest.warns(UserWarning, match=said):
        assert enhance(Fake(), tmp_path / "a.wav")["audio"].shape == (5000,)
