"""Enhancement of streams, arrays, files and folders: properties that hold for any model, length and rate."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from mvat_hf.data.audio import AudioError
from mvat_hf.inference.enhancing import BLOCK_FRAMES, ChunkedEnhancer, enhance, enhance_file
from mvat_hf.inference.folders import enhance_folder
from mvat_hf.models.manner import MannerConfig, MannerModel
from mvat_hf.models.manner.chunking_manner import evaluating

RATES = (8000, 16000, 22050, 44100, 48000)
SHORT = {"chunk_seconds": 0.25, "overlap_seconds": 0.05}  # 4000 and 800 samples at 16 kHz, a hop of 3200


class Fake(nn.Module):
    """A model that is `function` of its input; keeps what it was given."""

    def __init__(self, function=lambda values: values):
        super().__init__()
        self.function, self.chunks = function, []
        self.config = SimpleNamespace(sampling_rate=16000)
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def forward(self, values):
        self.chunks.append(values.numpy().copy())
        return SimpleNamespace(audio_values=self.function(values))


@pytest.fixture(scope="module")
def manner():
    """A small network whose batch norms have seen noise: without that its output is next to nothing."""
    torch.manual_seed(0)
    model = MannerModel(MannerConfig(hidden_size=8, depth=2, attention_levels="deepest")).train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(4, 4000))
        model.output.weight.mul_(20)
    return model.eval()


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def forward(model, audio):
    with torch.no_grad():
        return model(torch.from_numpy(np.atleast_2d(audio))).audio_values.numpy()


def run_stream(model, audio, rate, cuts, **options):
    blocks = iter(np.split(audio, cuts, axis=1))
    return np.concatenate(list(ChunkedEnhancer(model, **options).stream(blocks, rate, len(audio))), axis=1)


# --- the stream ---


@pytest.mark.parametrize("rate", [16000, 44100])
def test_how_the_stream_is_cut_changes_nothing(manner, rate):
    audio = noise(2, 15000)
    whole = run_stream(manner, audio, rate, [], **SHORT)
    assert np.abs(whole).max() > 1e-3
    for cuts in (range(500, 15000, 500), [1, 2, 3, 14999], [0, 7000, 7000], [4000, 7200]):
        np.testing.assert_array_equal(run_stream(manner, audio, rate, cuts, **SHORT), whole)


@pytest.mark.parametrize("length", [4000, 4001, 7200, 7201, 9999, 10400, 13000])
def test_every_chunk_is_whole_and_the_last_ends_the_signal(length):
    model = Fake()
    run_stream(model, np.arange(length, dtype=np.float32)[None], 16000, [], **SHORT)
    starts = [*range(0, length - 4000, 3200), length - 4000]
    assert [chunk.shape for chunk in model.chunks] == [(1, 4000)] * len(starts)
    assert [chunk[0, 0] for chunk in model.chunks] == starts


def test_seams_are_linear_and_no_longer_than_the_overlap():
    calls = iter(range(3))  # the three chunks become zeros, ones, twos
    output = enhance(Fake(lambda values: torch.full_like(values, next(calls))), noise(8000), 16000, **SHORT)
    rise = np.arange(1, 801) / 801
    # chunks at 0, 3200 and, the last, at 4000: it is faded in over what the second held back, from 6400 on
    expected = np.concatenate([np.zeros(3200), rise, np.ones(2400), 1 + rise, np.full(800, 2)])
    np.testing.assert_allclose(output, expected, atol=1e-6)


def test_chunks_are_passes_of_the_model(manner):
    audio = noise(9000)
    output = enhance(manner, audio, 16000, **SHORT)
    np.testing.assert_allclose(output[:3200], forward(manner, audio[:4000])[0, :3200], atol=1e-6)
    np.testing.assert_allclose(output[7200:], forward(manner, audio[-4000:])[0, -1800:], atol=1e-6)
    apart = enhance(manner, audio, 16000, chunk_seconds=0.25, overlap_seconds=0)
    np.testing.assert_allclose(apart[4000:8000], forward(manner, audio[4000:8000])[0], atol=1e-6)


@pytest.mark.parametrize(
    "length, options", [(3999, SHORT), (1, SHORT), (500, SHORT), (170000, {"chunk_seconds": None})]
)
def test_one_pass_is_the_model(manner, length, options):
    audio = noise(2, length)
    np.testing.assert_allclose(enhance(manner, audio, 16000, **options), forward(manner, audio), atol=1e-6)


def test_at_most_two_chunks_are_held():
    taken = 0

    def source():
        nonlocal taken
        for _ in range(300):
            taken += 100
            yield noise(1, 100)

    given, held = 0, []
    for block in ChunkedEnhancer(Fake(), **SHORT).stream(source(), 16000, 1):
        held.append(taken - given)
        given += block.shape[1]
    assert given == taken and max(held) <= 8000


def test_modes_and_statistics_are_left_alone(manner):
    manner.train()
    manner.mask.eval()
    modes = [module.training for module in manner.modules()]
    before = {name: value.clone() for name, value in manner.state_dict().items()}
    trained = enhance(manner, noise(5000), 16000)
    assert [module.training for module in manner.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in manner.state_dict().items())
    np.testing.assert_array_equal(trained, enhance(manner.eval(), noise(5000), 16000))


# --- arrays ---


@pytest.mark.parametrize("length", [1, 2, 799, 801, 3999, 4000, 4001, 7200, 7201, 8000, BLOCK_FRAMES + 1])
def test_identity_returns_the_input(length):
    audio = noise(2, length)
    np.testing.assert_allclose(enhance(Fake(), audio, 16000, **SHORT), audio, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_no_delay_at_any_rate(rate):
    """Noise below 3 kHz comes back as and where it was through resamplers, chunks and a model that does nothing."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(rate))
    spectrum[3000:] = 0
    audio = 0.1 * np.fft.irfft(spectrum, rate)
    output = enhance(Fake(), audio, rate, **SHORT)
    correlation = np.fft.irfft(np.fft.rfft(output) * np.fft.rfft(audio).conj(), rate)
    assert correlation.argmax() == 0
    np.testing.assert_allclose(output[1000:-1000], audio[1000:-1000], atol=1e-4)


@pytest.mark.parametrize("rate", [*RATES, 11025, 96000, 15999])
def test_length_is_kept_at_any_rate(rate):
    for length in (1, 2, 3, 5, 100, 101, 9001):
        assert enhance(Fake(), noise(length), rate, **SHORT).shape == (length,)


def test_channels_and_recordings_do_not_touch_each_other(manner):
    audio = noise(2, 3, 6000) * np.array([1, 0.1, 10], dtype=np.float32)[:, None]
    output = enhance(manner, audio, 22050, **SHORT)
    assert output.shape == audio.shape
    for index in np.ndindex(2, 3):
        alone = enhance(manner, audio[index], 22050, **SHORT)
        np.testing.assert_allclose(output[index], alone, atol=1e-4 * np.abs(alone).max())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "int32"])
def test_types_are_kept(dtype):
    scale = {"int16": 2**15, "int32": 2**31}.get(dtype, 1)
    audio = (noise(5000, 2) * scale).astype(dtype).T  # a view that is not contiguous
    before = audio.copy()
    for given in (audio, torch.from_numpy(audio)):
        output = enhance(Fake(), given, 16000, **SHORT)
        assert type(output) is type(given) and output.dtype == given.dtype
        np.testing.assert_allclose(np.asarray(output) / scale, audio / scale, atol=1e-6)
    np.testing.assert_array_equal(audio, before)


def test_bfloat16_tensors_with_a_gradient():
    audio = torch.from_numpy(noise(2, 1000)).bfloat16().requires_grad_()
    output = enhance(Fake(), audio, 16000)
    assert output.dtype == torch.bfloat16 and not output.requires_grad and torch.equal(output, audio)


def test_integers_are_rounded_and_clipped_not_wrapped():
    audio = np.array([-30000, -101, 101, 30000], dtype=np.int16)
    assert enhance(Fake(lambda values: 1.7 * values), audio, 16000).tolist() == [-32768, -172, 172, 32767]


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_silence_stays_silence(manner, rate, dtype):
    assert not enhance(manner, np.zeros((2, 9000), dtype), rate, **SHORT).any()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_all_dry_is_the_input(manner, dtype):
    audio = 0.1 * np.random.default_rng(0).standard_normal((2, 9000))  # more digits than float32 holds
    audio = (audio * (2**15 if dtype == "int16" else 1)).astype(dtype)
    np.testing.assert_array_equal(enhance(manner, audio, 44100, dry=1, **SHORT), audio)
    np.testing.assert_array_equal(enhance(manner, audio, 44100, attenuation_limit=0, **SHORT), audio)


@pytest.mark.parametrize(
    "options, share",
    [
        ({"dry": 0.3}, 0.3),
        ({"attenuation_limit": 20}, 0.1),
        ({"attenuation_limit": 6}, 0.501187),
        ({"dry": 0.3, "attenuation_limit": 20}, 0.3),
        ({"dry": 0.05, "attenuation_limit": 20}, 0.1),
        ({"attenuation_limit": float("inf")}, 0),
    ],
)
@pytest.mark.parametrize("rate", [16000, 48000])
def test_share_of_the_input(manner, options, share, rate):
    audio = noise(2, 9000)
    wet = enhance(manner, audio, rate, **SHORT)
    mixed = enhance(manner, audio, rate, **options, **SHORT)
    np.testing.assert_allclose(mixed, (1 - share) * wet + share * audio, atol=1e-6)


@pytest.mark.parametrize(("chunk", "overlap"), [(10.0, 1.0), (0.5, 0.125)])
def test_chunks_overlap_by_a_second_or_a_quarter(chunk, overlap):
    options = [ChunkedEnhancer(Fake(), 0, None, chunk, given) for given in (None, overlap)]
    assert options[0].overlap == options[1].overlap == round(overlap * 16000)


@pytest.mark.parametrize(
    "options",
    [
        {"dry": -0.1},
        {"dry": 1.1},
        {"dry": float("nan")},
        {"attenuation_limit": -1},
        {"attenuation_limit": float("nan")},
        {"chunk_seconds": 0},
        {"chunk_seconds": float("nan")},
        {"chunk_seconds": 1.0, "overlap_seconds": 1.0},
        {"overlap_seconds": -1},
        {"chunk_seconds": 1e-6, "overlap_seconds": 0},
    ],
)
def test_options_out_of_range(options, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(100), 16000)
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*got"):
        enhance(Fake(), noise(100), 16000, **options)
    with pytest.raises(ValueError, match="got"):
        enhance_folder(Fake(), tmp_path, tmp_path / "out", **options)


@pytest.mark.parametrize(
    "audio, rate, message",
    [
        (noise(100), None, "sampling_rate.*got None"),
        (noise(100), 0, "sampling_rate.*got 0"),
        (noise(100), np.inf, "sampling_rate.*got inf"),
        (noise(100), np.nan, "sampling_rate.*got nan"),
        (noise(100), 1e12, "sampling_rate.*from 1 to 2.31 Hz, got 1000000000000.0"),
        (noise(100), 1e-3, "sampling_rate.*got 0.001"),
        (noise(100), 10**400, "sampling_rate.*got 1000"),
        (noise(100), "16000", "sampling_rate.*got '16000'"),
        (noise(0), 16000, r"got \(0,\)"),
        (noise(2, 0), 16000, r"got \(2, 0\)"),
        (np.float32(1.0), 16000, "got float32"),
        (np.array(1.0), 16000, r"got \(\)"),
        (noise(1, 1, 1, 100), 16000, r"got \(1, 1, 1, 100\)"),
        (noise(100, 2), 16000, r"at most 64 channels, got \(100, 2\)"),
        (noise(3, 100, 2), 16000, r"at most 64 channels, got \(3, 100, 2\)"),
        (np.array([0.0, np.nan, np.inf]), 16000, "^audio holds 2 NaN or infinite"),
        (torch.tensor([0.0, float("nan")]), 16000, "^audio holds 1 NaN or infinite"),
        (np.zeros(100, np.uint8), 16000, "got uint8"),
        (np.zeros(100, complex), 16000, "got complex128"),
        ([0.0, 0.1], 16000, "got list"),
    ],
)
def test_unusable_arrays(audio, rate, message):
    with pytest.raises(AudioError, match=message) as error:
        enhance(Fake(), audio, rate)
    assert "\n" not in str(error.value)


def test_a_model_that_overflows_is_an_error():
    with pytest.raises(AudioError, match="enhanced audio holds 100 NaN"):
        enhance(Fake(lambda values: values / 0), noise(100), 16000)


# --- files ---


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


def test_weights_are_loaded_from_a_folder(manner, tmp_path):
    manner.save_pretrained(tmp_path)
    np.testing.assert_array_equal(enhance(str(tmp_path), noise(2000), 16000), enhance(manner, noise(2000), 16000))


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


def test_the_last_of_several_passes_restores_the_mode(tiny_model):
    model = tiny_model().train()
    first, second = evaluating(model), evaluating(model)  # as of two threads
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(module.training for module in model.modules())
    second.__exit__(None, None, None)
    assert all(module.training for module in model.modules())
