"""Small evaluations: three pairs, systems that are known to be better or that fail, and a run of them."""

from pathlib import Path

import numpy as np
import soundfile

from conftest import REPOSITORY
from mvat_hf.data.audio import find_audio, read_mono
from mvat_hf.data.pairs import load_pairs
from mvat_hf.evaluation.evaluating import evaluate_systems

RATE = 16000


def write_pairs(folder: Path) -> Path:
    """Three pairs, the last of them silent, in its `clean` and `noisy`."""
    rng = np.random.default_rng(0)
    for name in ("clean", "noisy"):
        (folder / name).mkdir()
    for number, path in enumerate(find_audio(REPOSITORY / "scripts/demo/speech/bert")[:2]):
        clean = read_mono(path, RATE)
        soundfile.write(folder / "clean" / f"{number}.wav", clean, RATE)
        soundfile.write(folder / "noisy" / f"{number}.wav", clean + 0.02 * rng.standard_normal(len(clean)), RATE)
    for name in ("clean", "noisy"):
        soundfile.write(folder / name / "silence.wav", np.zeros(RATE), RATE)
    return folder


class Louder:
    """A system that counts its calls, and fails on demand."""

    def __init__(self, allowed: int = 10**6):
        self.allowed = allowed
        self.calls: list[str] = []

    def __call__(self, item, sampling_rate):
        if len(self.calls) == self.allowed:
            raise KeyboardInterrupt
        self.calls.append(item["id"])
        return 0.5 * item["noisy"] + 0.5 * item["clean"]

    def describe(self):
        return {"kind": "test"}


class Failing(Louder):
    """A system that fails on some files with an error that is not about the audio, and on 10 s."""

    def __init__(self, error: type[Exception]):
        super().__init__()
        self.error = error

    def __call__(self, item, sampling_rate):
        if item["id"] == "1" or len(item["noisy"]) == 10 * RATE:
            raise self.error("no such\nlength")
        return super().__call__(item, sampling_rate)


def run(folder, systems=None, **options):
    dataset = load_pairs(folder / "clean", folder / "noisy")
    return evaluate_systems({"louder": Louder()} if systems is None else systems, dataset, name="test", **options)
