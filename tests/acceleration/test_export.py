"""What is exported suffices to enhance, for one length too; a wrong model, or a wrong graph, is not written."""

import json

import numpy as np
import pytest
import soundfile
import torch

from exported_graphs import EMBEDDED, INSTALLED, needs_openvino, noisy, relative_error
from mvat_hf import MannerModel, enhance
from mvat_hf.acceleration import export
from mvat_hf.acceleration.graph_cache import GRAPH
from mvat_hf.acceleration.runtime import OnnxManner
from mvat_hf.cli import main
from mvat_hf.hub.push import save_checkpoint

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    "config",
    [
        {"depth": 2, "attention_levels": "all", "num_heads": 2, "segment_len": 32},
        {"depth": 3, "attention_levels": "none", "kernel_size": 5, "stride": 3, "growth": 3},
        {
            "depth": 2,
            "attention_levels": "deepest",
            "kernel_size": 4,
            "stride": 1,
            "hidden_size": 15,
            "high_pass_hz": 70,
        },
    ],
)
def test_other_configurations(config, tiny_model, tmp_path):
    model = tiny_model(**config)
    assert export.export_onnx(model, tmp_path / "model.onnx") < 1e-5
    audio = torch.randn(3, 7001)
    for runtime in INSTALLED:
        output = OnnxManner(tmp_path / "model.onnx", runtime)(audio).audio_values
        assert relative_error(output.numpy(), model(audio).audio_values.detach().numpy()) < 1e-4


def enhanced_by_the_metadata(path, audio):
    """`audio` (T,) by the file alone: ONNX Runtime, numpy, and the numbers in the metadata."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map["processing"])
    x = audio.astype(np.float64)
    if told["length"] != "any":
        x = np.pad(x, (0, told["length"]["samples"] - len(x)), mode="symmetric")
    if filtered := told["high_pass"]:
        step = filtered["size_step"]
        size = -(-(len(x) + filtered["reach_samples"]) // step) * step
        spectrum = np.fft.rfft(x - x.mean(), size)
        power = (np.arange(len(spectrum)) * told["sampling_rate"] / size / filtered["hertz"]) ** (2 * filtered["order"])
        x = np.fft.irfft(spectrum * power / (1 + power), size)[: len(x)]
    scale = x.std(ddof=1) if len(x) > 1 else np.abs(x[0])
    x, n, padding = x / (scale + told["normalisation"]["epsilon"]), len(x), told["padding"]
    for _ in range(padding["depth"]):
        n = max(-((padding["kernel_size"] - n) // padding["stride"]) + 1, 1)
    for _ in range(padding["depth"]):
        n = (n - 1) * padding["stride"] + padding["kernel_size"]
    normalized = np.pad(x, (0, n - len(x)))[None].astype(np.float32)
    return session.run(["estimate"], {"normalized": normalized})[0][0, : len(audio)] * scale


@pytest.mark.parametrize("high_pass_hz", [0, 70])
def test_a_file_suffices_to_enhance(high_pass_hz, speech, tiny_model, tmp_path):
    """A new one, and that of the package, whose model has a filter."""
    model, path = tiny_model(attention_levels="deepest"), tmp_path / "model.onnx"
    if high_pass_hz:
        model, path = MannerModel.from_pretrained(EMBEDDED), EMBEDDED / GRAPH
    else:
        export.export_onnx(model, path)
    assert model.config.high_pass_hz == high_pass_hz
    for length in (1, 2, 700, 16000, 50001):
        audio = noisy(length, speech) + 0.1 * np.sin(2 * np.pi * 40 * np.arange(length) / 16000).astype(np.float32)
        with torch.no_grad():  # the model itself, where `enhance` lifts what is quiet
            expected = model(torch.from_numpy(audio)[None]).audio_values[0].numpy()
        assert relative_error(enhanced_by_the_metadata(path, audio), expected) < 1e-5


def test_a_file_for_one_length_suffices_too(fixed):
    path = fixed[1]
    for length in (900, 1600):
        audio = np.random.default_rng(0).standard_normal(length).astype(np.float32)
        assert relative_error(enhanced_by_the_metadata(path, audio), enhance(path, audio, 16000)) < 1e-5


@pytest.mark.parametrize("part", ["another layer", "a hook"])
def test_what_is_no_manner_any_more_is_not_exported(part, tiny_model, tmp_path):
    model = tiny_model()
    if part == "another layer":
        model.bottleneck = torch.nn.Sequential(model.bottleneck)
    else:
        model.mask.register_forward_hook(lambda module, inputs, output: 0 * output)
    with pytest.raises(ValueError, match="only a MANNER as it is made can be exported.*(bottleneck|mask)"):
        export.export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def fixed(tiny_model, tmp_path_factory):
    """A model, and its export for 1600 samples."""
    model, path = tiny_model(attention_levels="deepest"), tmp_path_factory.mktemp("onnx") / "model.onnx"
    export.export_onnx(model, path, chunk_seconds=0.1)
    return model, path


@pytest.mark.parametrize("runtime", INSTALLED)
@pytest.mark.parametrize("overlap", [{}, {"overlap_seconds": 0.02}])
def test_a_fixed_length_is_the_chunk(overlap, runtime, fixed):
    model, exported = fixed[0], OnnxManner(fixed[1], runtime)
    audio = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    expected = enhance(model, audio, 16000, chunk_seconds=0.1, **overlap or {"overlap_seconds": 0.025})
    assert relative_error(enhance(exported, audio, 16000, **overlap), expected) < 1e-4
    with pytest.raises(ValueError, match=r"takes 0.1 s at a time, got chunk_seconds=0.2"):
        enhance(exported, audio, 16000, chunk_seconds=0.2)
    with pytest.raises(ValueError, match="takes 1600 samples at a time .* got 5000"):
        enhance(exported, audio, 16000, chunk_seconds=None)


@pytest.mark.parametrize("length", [1, 700, 1599])
def test_what_is_shorter_than_a_fixed_length_is_mirrored(length, fixed):
    model, path = fixed
    audio = np.random.default_rng(0).standard_normal(length).astype(np.float32)
    mirrored = np.resize(np.concatenate([audio, audio[::-1]]), 1600)
    output = enhance(path, audio, 16000)
    assert output.shape == (length,)
    # of the input's peak: a single sample, mirrored, is an offset alone, and what comes out is rounding
    assert np.abs(output - enhance(model, mirrored, 16000)[:length]).max() < 1e-3 * np.abs(audio).max()


def test_the_command_line_takes_a_fixed_length(fixed, tmp_path):
    for length in (1000, 5000):
        soundfile.write(tmp_path / "in.wav", 0.1 * np.random.default_rng(0).standard_normal(length), 16000)
        for source, target in (("in.wav", "out.wav"), (".", "out")):
            paths = [str(tmp_path / source), str(tmp_path / target)]
            assert main(["enhance", *paths, "--model", str(fixed[1])]) == 0
        assert (
            soundfile.info(tmp_path / "out.wav").frames == soundfile.info(tmp_path / "out" / "in.wav").frames == length
        )


def test_weights_that_are_not_finite_are_not_exported(tiny_model, tmp_path):
    model = tiny_model()
    model.output.bias.data[0] = np.nan
    with pytest.raises(ValueError, match="the weights output.bias hold NaN"):
        export.export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_in_bfloat16_is_exported_as_it_would_be_in_float32(tiny_model, tmp_path):
    model = tiny_model(attention_levels="deepest")
    assert export.export_onnx(model.fuse(torch.bfloat16), tmp_path / "a.onnx") < 1e-4
    assert model.fused


def test_a_graph_that_differs_is_not_written(tiny_model, tmp_path, monkeypatch):
    wrong = export.onnx_graph(tiny_model(seed=1, attention_levels="none"))
    monkeypatch.setattr(export, "onnx_graph", lambda *arguments: wrong)
    (tmp_path / "model.onnx").write_bytes(b"precious")
    with pytest.raises(ValueError, match="differs from PyTorch by .* of the peak"):
        export.export_onnx(tiny_model(seed=0, attention_levels="none"), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"precious"


@pytest.fixture(scope="module")
def commanded(tiny_model, tmp_path_factory):
    """A folder with a checkpoint, its export by the command, a recording, and what PyTorch makes of it."""
    folder = tmp_path_factory.mktemp("commanded")
    save_checkpoint(tiny_model(attention_levels="deepest"), folder / "checkpoint")
    soundfile.write(folder / "in.wav", 0.1 * np.random.default_rng(0).standard_normal((9000, 2)), 22050)
    assert main(["export", str(folder / "checkpoint"), str(folder / "new" / "model.onnx")]) == 0
    files = [str(folder / name) for name in ("in.wav", "torch.wav")]
    assert main(["enhance", *files, "--model", str(folder / "checkpoint")]) == 0
    return folder


def test_the_command_tells_how_near_an_export_is(tiny_model, tmp_path, capsys):
    save_checkpoint(tiny_model(attention_levels="none"), tmp_path / "checkpoint")
    assert main(["export", str(tmp_path / "checkpoint"), str(tmp_path / "model.onnx")]) == 0
    assert "differs from PyTorch by at most" in capsys.readouterr().out


@pytest.mark.parametrize("runtime", INSTALLED)
def test_the_command_line_goes_both_ways(runtime, commanded, tmp_path):
    wanted = ["--runtime", runtime]
    runs = {"checkpoint": wanted, "new/model.onnx": wanted if runtime != "onnx" else []}
    outputs = []
    for name, options in runs.items():
        files = [str(commanded / "in.wav"), str(tmp_path / "out.wav")]
        assert main(["enhance", *files, "--model", str(commanded / name), *options]) == 0
        outputs.append(soundfile.read(tmp_path / "out.wav")[0])
    torch_output, _ = soundfile.read(commanded / "torch.wav")
    assert relative_error(outputs[0], torch_output) < 1e-4 + 2**-15 / np.abs(torch_output).max()
    np.testing.assert_array_equal(outputs[1], outputs[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "MODEL", "OUT.txt"], "must end in .onnx"),
        (["export", "MODEL", "OUT.onnx", "--chunk-seconds", "0"], "at least one sample, got 0"),
        (["export", "MODEL", "OUT.onnx", "--chunk-seconds", "inf"], "at least one sample, got inf"),
        (["export", "MODEL", "OUT.onnx", "--chunk-seconds", "nan"], "at least one sample, got nan"),
        (["export", "FOREIGN", "OUT.onnx"], "expected a folder or Hub id, got"),
        (["enhance", "IN", "OUT.wav", "--model", "nowhere.onnx"], "no such file: nowhere.onnx"),
        (["enhance", "IN", "OUT.wav", "--model", "NO_ONNX"], "is not an ONNX file"),
        *[
            pytest.param(
                ["enhance", "IN", "OUT.wav", "--model", name, "--runtime", "openvino"], told, marks=needs_openvino
            )
            for name, told in (
                ("NO_ONNX", "is not an ONNX file"),
                ("FOREIGN", "expected a file that mvat export wrote"),
            )
        ],
        (["enhance", "IN", "OUT.wav", "--model", "FOREIGN"], "expected a file that mvat export wrote"),
        (["enhance", "IN", "OUT.wav", "--model", "FOREIGN", "--device", "cuda"], "runs on the CPU, got device cuda"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tiny_model, tmp_path, capsys):
    import onnx

    names = {"IN": tmp_path / "in.wav", "MODEL": tmp_path / "model"}
    names |= {name: tmp_path / f"{name.lower()}.onnx" for name in ("NO_ONNX", "FOREIGN")}
    names |= {f"OUT.{suffix}": tmp_path / f"out.{suffix}" for suffix in ("txt", "onnx", "wav")}
    save_checkpoint(tiny_model(), names["MODEL"])
    soundfile.write(names["IN"], np.zeros(1000), 16000)
    names["NO_ONNX"].write_bytes(b"no graph at all")
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "foreign", value[:1], value[1:])
    opsets = [onnx.helper.make_opsetid("", export.OPSET)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), names["FOREIGN"])
    assert main([str(names.get(argument, argument)) for argument in arguments]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in error if line.startswith("error:")]) == 1 and message in error[-1]
    assert not any(tmp_path.glob("out.*"))
