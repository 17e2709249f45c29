"""What the README says that the package and each of its extras serve, run where nothing else is installed.

python -P tests/support/uses_of_extras.py EXTRA FOLDER    # "base" for the package without extras; see test_wheel.py
"""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import soundfile

import mvat_hf
from mvat_hf.cli import main
from mvat_hf.utils.errors import MissingExtraError

SAMPLES = Path(__file__).parents[2] / "scripts" / "demo"
NOISY = SAMPLES / "sample_noisy.flac"
MODEL = "mvat/manner-s-8.1gf"
EVALUATE = ["evaluate", MODEL, "--data", "pairs", "--clean", "clean", "--noisy", "noisy", "--processes", "1"]


def write_pairs(count: int = 3) -> None:
    """Folders `clean` and `noisy` of that many stretches of the sample."""
    for kind in ("clean", "noisy"):
        Path(kind).mkdir(exist_ok=True)
        audio, rate = soundfile.read(SAMPLES / f"sample_{kind}.flac")
        for index, part in enumerate(np.array_split(audio, count)):
            soundfile.write(f"{kind}/{index}.wav", part, rate)


def succeeds(*command: str) -> str:
    """What a command that must succeed prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(list(command)) == 0
    return printed.getvalue()


def error_of(*command: str) -> str:
    """The one line of a command that must fail."""
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        assert main(list(command)) == 1
    return printed.getvalue().splitlines()[-1]


def asked_for(use) -> str:
    """The extra that `use` says it needs."""
    try:
        use()
    except MissingExtraError as error:
        return str(error).split("mvat_hf[")[1].split("]")[0]
    return "nothing"


def base() -> None:
    from transformers import pipeline

    everything: dict = {}
    exec("from mvat_hf import *", everything)
    assert "enhance" in everything and "EnhancementTrainer" not in everything
    cleaned = mvat_hf.enhance(MODEL, NOISY)["audio"]
    clean, noisy = (soundfile.read(SAMPLES / f"sample_{kind}.flac")[0] for kind in ("clean", "noisy"))
    assert mvat_hf.metrics.si_sdr(clean, cleaned, 16000) > mvat_hf.metrics.si_sdr(clean, noisy, 16000) + 3
    np.testing.assert_array_equal(pipeline("audio-to-audio")(str(NOISY))["audio"], cleaned)
    for command in (["info"], ["env"], ["enhance", str(NOISY), "out.wav"]):
        assert succeeds(*command)
    mvat_hf.MannerModel.from_pretrained(MODEL).save_pretrained("checkpoint")
    assert "is not fit to publish" in error_of("push", "checkpoint", "tester/x")

    # what needs more says so before it does anything
    write_pairs()
    for extra, command in {
        "evaluation": EVALUATE,
        "export": ["export", MODEL, "out.onnx"],
        "openvino": ["enhance", str(NOISY), "out.wav", "--runtime", "openvino"],
        "demo": ["demo"],
        "live": ["stream", "--microphone"],
    }.items():
        assert f"is not installed: pip install 'mvat_hf[{extra}]'" in error_of(*command), command
    assert not Path("results").exists() and not Path("out.onnx").exists()
    uses = {
        "training": lambda: mvat_hf.EnhancementTrainer,
        "data": lambda: mvat_hf.load_valentini("nowhere", "test"),
        "evaluation": lambda: mvat_hf.metrics.composite(clean, noisy, 16000),
        "dnsmos": lambda: mvat_hf.metrics.dnsmos(noisy, 16000),
        "recogniser": lambda: mvat_hf.metrics.word_error_rate(clean, noisy, 16000),
    }
    assert {extra: asked_for(use) for extra, use in uses.items()} == {extra: extra for extra in uses}


def data() -> None:
    from mvat_hf.data.pairs import load_pairs

    write_pairs()
    assert len(load_pairs("clean", "noisy")) == 3
    for folder in ("clean_testset_wav", "noisy_testset_wav"):
        Path(folder).mkdir()
        soundfile.write(f"{folder}/p232_001.wav", np.ones(48000) / 2, 48000)
    [item] = mvat_hf.load_valentini(".", "test", cache_dir="copies")
    assert item["noisy"].shape == (16000,)


def evaluation() -> None:
    import evaluate

    write_pairs()
    table = succeeds(*EVALUATE, "--output", "results")
    assert "PESQ-WB" in table and "COVL" in table and "3 of 3" in table
    assert {"results.json", "scatter.png", "spectrograms.png"} <= {path.name for path in Path("results").iterdir()}
    clean, noisy = (soundfile.read(SAMPLES / f"sample_{kind}.flac")[0] for kind in ("clean", "noisy"))
    metric = evaluate.load(mvat_hf.metrics.MODULE, "stoi")
    assert metric.compute(predictions=[noisy], references=[clean], sampling_rate=16000)["stoi"] > 0.5


def dnsmos() -> None:
    write_pairs()
    assert 1 < mvat_hf.metrics.dnsmos(soundfile.read(NOISY)[0], 16000)["ovrl"] < 5
    assert "DNSMOS OVRL" in succeeds(*EVALUATE, "--metrics", "dnsmos_ovrl", "--output", "results")


def recogniser() -> None:
    write_pairs(1)
    assert "WER to clean" in succeeds(*EVALUATE, "--metrics", "word_error_rate", "--output", "results")


def peers(*names: str) -> None:
    write_pairs()
    rows = names or ("rnnoise", "nsnet2", "spectral-gating")
    named = [word for row in rows for word in ("--peer", row)]
    table = succeeds(*EVALUATE, *named, "--metrics", "si_sdr", "--output", "results")
    assert all(f"| {row} |" in table for row in rows)


def dtln() -> None:
    peers("dtln")


def training(report_to: str = "none") -> None:
    from mvat_hf.data.collator import SegmentCollator
    from mvat_hf.data.pairs import load_pairs
    from mvat_hf.training.run import training_curve

    write_pairs()
    pairs = load_pairs("clean", "noisy")
    model = mvat_hf.MannerModel(mvat_hf.MannerConfig(hidden_size=6, depth=2, attention_levels="deepest"))
    options = {"max_steps": 1, "eval_steps": 1, "save_steps": 1, "dataloader_num_workers": 0, "scoring_processes": 1}
    options["report_to"] = report_to
    trainer = mvat_hf.EnhancementTrainer(
        model, mvat_hf.EnhancementConfig("run", use_cpu=True, per_device_train_batch_size=2, **options),
        SegmentCollator(0.5), train_dataset=pairs, eval_dataset=pairs,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.log_history
    training_curve(trainer.state.log_history, "curve.png")


def tensorboard() -> None:
    training("tensorboard")
    assert list(Path("run").rglob("events.out.tfevents.*"))


def rooms() -> None:
    from mvat_hf.data.reverb import Rooms, simulate_rooms

    assert len(simulate_rooms(Rooms(room_count=1), 16000, 0)) == 1


def demo() -> None:
    from mvat_hf.app import EXAMPLE, build_page, press

    assert build_page([MODEL], 60).fns
    models = {MODEL: mvat_hf.MannerModel.from_pretrained(MODEL)}
    [answer] = (files[3] for files in press(str(EXAMPLE), MODEL, 1.0, 100, models=models, max_seconds=60))
    assert "real-time factor" in answer


def live() -> None:
    # as far as it goes without a microphone
    assert "is not installed: pip" not in error_of("stream", "--microphone")


def export() -> None:
    for precision in ("fp32", "int8"):
        succeeds("export", MODEL, f"{precision}.onnx", "--precision", precision)
        succeeds("enhance", str(NOISY), f"{precision}.wav", "--model", f"{precision}.onnx")


def openvino() -> None:
    succeeds("enhance", str(NOISY), "out.wav", "--runtime", "openvino")


USES = {use.__name__: use for use in (
    base, data, evaluation, dnsmos, recogniser, peers, dtln, training, tensorboard, rooms, demo, live, export,
    openvino,
)}  # fmt: skip

if __name__ == "__main__":
    with contextlib.chdir(sys.argv[2]):
        USES[sys.argv[1]]()
