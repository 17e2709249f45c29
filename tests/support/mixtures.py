"""Noise, files of it that stand for speech and noise, and mixtures of them."""

from pathlib import Path

import numpy as np
import soundfile

from mvat_hf.data.augment import Augmentation
from mvat_hf.data.mixing import Mixer, MixingOptions


def noise(length=8000, scale=0.1, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)


def decibels(audio):
    return 10 * np.log10(np.mean(audio.astype(np.float64) ** 2))


def write_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Speech (three files of 0.6 s, the last at 48 kHz) and noise (two of 0.1 s), told apart by what is in them."""
    for seed, (name, length, rate) in enumerate(
        [("c0", 9600, 16000), ("c1", 9600, 16000), ("c2", 28800, 48000), ("n0", 1600, 16000), ("n1", 1600, 16000)]
    ):
        soundfile.write(folder / f"{name}.wav", noise(length, seed=seed), rate, subtype="FLOAT")
    return sorted(folder.glob("c*.wav")), sorted(folder.glob("n*.wav"))


def mixed(files, count=40, responses=(), **augmentation):
    options = MixingOptions(seconds=0.1, snr_db=(5, 5), augmentation=Augmentation(**augmentation))
    mixer = Mixer(*files, options, responses=responses)
    return [mixer.mixture(index) for index in range(count)]
