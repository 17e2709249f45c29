"""`make demo`: clean a noisy sample, distil a small student on generated speech, and compare the two in one table.

    python scripts/demo.py

Everything it reads is in the repo, everything it writes is under runs/demo; a second run starts over.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from mvat_hf.data.audio import find_audio, read_mono
from mvat_hf.data.augment import coloured_noise
from mvat_hf.data.mixing import mix
from mvat_hf.data.pairs import load_pairs
from mvat_hf.evaluation.evaluating import evaluate_systems
from mvat_hf.evaluation.figures import spectrograms
from mvat_hf.evaluation.report import render_table
from mvat_hf.inference.enhancing import enhance_file
from mvat_hf.metrics.scoring import QUICK
from mvat_hf.models import DEFAULT_MODEL
from mvat_hf.models.manner import MannerModel
from mvat_hf.utils.records import write_json

HERE = Path(__file__).parent
MATERIAL, OUT = HERE / "demo", Path("runs/demo")
RATE = 16000
TEST_VOICE = "finn"  # in no training mixture


def steady_noise(rng: np.random.Generator, slope: float) -> np.ndarray:
    """8 s of noise (time,) of a peak of 0.3, see `coloured_noise`."""
    noise = coloured_noise(8 * RATE, slope, RATE, rng)
    return 0.3 * noise / np.abs(noise).max()


def generate_noise(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One recording (time,) of every kind of generated noise."""
    time = np.arange(8 * RATE) / RATE
    fan = sum(np.sin(2 * np.pi * 90 * harmonic * time) / harmonic for harmonic in range(1, 9))
    gusts = 0.5 + 0.5 * np.sin(2 * np.pi * 0.4 * time + rng.uniform(0, 6))
    return {
        "white": steady_noise(rng, 0),
        "pink": steady_noise(rng, 1),
        "brown": steady_noise(rng, 2),
        "wind": steady_noise(rng, 1.5) * gusts,
        "fan": 0.05 * fan + 0.3 * steady_noise(rng, 1),
        "rain": steady_noise(rng, 0.5) * (rng.random(len(time)) > 0.5),
    }


def write_data(folder: Path) -> None:
    """Training folders laid out as DNS has them, and test pairs of a voice and noises that training never sees."""
    for path in find_audio(MATERIAL / "speech"):
        if path.parent.name != TEST_VOICE:
            target = folder / "dns" / "clean" / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for number in range(4):
        for kind, noise in generate_noise(np.random.default_rng(number)).items():
            target = folder / "dns" / "noise" / kind / f"{number}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, noise, RATE)

    for kind in ("clean", "noisy"):
        (folder / "test" / kind).mkdir(parents=True)
    noises = list(generate_noise(np.random.default_rng(99)).values())
    for number, path in enumerate(find_audio(MATERIAL / "speech" / TEST_VOICE)):
        clean = read_mono(path, RATE)
        pair = mix(clean, noises[number % len(noises)][: len(clean)], snr_db=2.5 * number, level_dbfs=-25)
        for kind, audio in zip(("clean", "noisy"), pair, strict=True):
            soundfile.write(folder / "test" / kind / f"{number}.flac", audio, RATE)


def distil(folder: Path) -> Path:
    """A minute or two of distillation from the shipped model, as a user would launch it; the student's folder."""
    student = OUT / "student"
    command = [
        "-m", "accelerate.commands.launch", "--quiet", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", HERE / "distill.py",
        "--config", HERE / "recipes" / "demo.yaml", "--data_root", folder / "dns", "--teacher", DEFAULT_MODEL,
        "--output_dir", student,
    ]  # fmt: skip
    done = subprocess.run([sys.executable, *map(str, command)], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return student


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    model = MannerModel.from_pretrained(DEFAULT_MODEL)

    print(f"1. Cleaning {MATERIAL / 'sample_noisy.flac'} with {DEFAULT_MODEL}")
    noisy, enhanced = MATERIAL / "sample_noisy.flac", OUT / "sample_enhanced.flac"
    enhance_file(model, noisy, enhanced)
    recordings = {"noisy": read_mono(noisy, RATE), "enhanced": read_mono(enhanced, RATE)}
    spectrograms(recordings, RATE, OUT / "spectrograms.png")

    print("2. Distilling a small student on generated speech and noise, a minute or two")
    write_data(OUT / "data")
    student = distil(OUT / "data")

    print("3. Scoring both on a voice and noises that the student was not trained on")
    pairs = load_pairs(OUT / "data" / "test" / "clean", OUT / "data" / "test" / "noisy")
    models = {f"teacher ({DEFAULT_MODEL})": model, "student (just distilled)": student}
    record = evaluate_systems(models, pairs, name="generated speech", metrics=QUICK)
    write_json(OUT / "results.json", record)
    print(f"\n{render_table(record)}\n")
    print(f"Listen to {enhanced}, beside {noisy}")
    print(f"Look at {OUT / 'spectrograms.png'} and {student / 'training_curve.png'}")


if __name__ == "__main__":
    main()
