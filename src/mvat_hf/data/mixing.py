"""Noisy speech made on the fly, after the synthesiser of the DNS Challenge (Reddy et al., Interspeech 2020).

A mixture depends on (seed, index) alone: the order, worker or machine that asks for it does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .audio import AudioError, describe_files, open_audio, read_frames, read_mono, resample

EPS = 1e-12
PEAK = 0.99  # of the noisy mixture: above it, the pair is scaled down together


@dataclass(frozen=True)
class MixingOptions:
    """
    How speech and noise are mixed; the ranges are drawn from uniformly.

    Args:
        seconds: length of a mixture; None for the whole clean file.
        snr_db: range of the signal-to-noise ratio in dB (the challenge: 0 to 40).
        level_dbfs: range of the mixture's RMS level in dB relative to full scale (the challenge: -35 to -15).
        sampling_rate: in Hz.
    """

    seconds: float | None = 4.0
    snr_db: tuple[float, float] = (0.0, 40.0)
    level_dbfs: tuple[float, float] = (-35.0, -15.0)
    sampling_rate: int = 16000

    def __post_init__(self):
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds must be above 0, got {self.seconds}")
        for name in ("snr_db", "level_dbfs"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be (low, high), got ({low}, {high})")


def rms_db(audio: np.ndarray) -> float:
    """Root mean square of `audio` (time,) in dB relative to full scale."""
    return 10 * float(np.log10(np.mean(np.square(audio, dtype=np.float64)) + EPS))


def mix(clean: np.ndarray, noise: np.ndarray, snr_db: float, level_dbfs: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Mix at a signal-to-noise ratio and set the mixture's level.

    Args:
        clean, noise: (time,), of one length.
        snr_db: ratio of their RMS levels in the mixture.
        level_dbfs: RMS level of the mixture; lowered where its peak would pass 0.99.

    Returns:
        (clean, noisy), each (time,) float32, where noisy - clean is the scaled noise. Silent speech leaves noise alone.
    """
    noise = noise * 10 ** ((rms_db(clean) - snr_db - rms_db(noise)) / 20) if clean.any() else noise
    noisy = clean + noise
    gain = 10 ** ((level_dbfs - rms_db(noisy)) / 20)
    gain = min(gain, PEAK / (np.abs(noisy).max() + EPS))
    return (clean * gain).astype(np.float32), (noisy * gain).astype(np.float32)


def read_span(path: Path, samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """At most `samples` at `sampling_rate` Hz from a random place of a file, as (time,); the rest is not decoded."""
    with open_audio(path) as file:
        wanted = int(np.ceil(samples * file.samplerate / sampling_rate))
        start = int(rng.integers(0, max(file.frames - wanted, 0) + 1))
        audio, rate = read_frames(file, start, wanted), file.samplerate
    return resample(audio.mean(axis=0, keepdims=True), rate, sampling_rate)[0, :samples]


def draw(files: Sequence[Path], samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """`samples` of audio from randomly drawn files, joined until the length is reached.

    Raises:
        AudioError: a file too short to give a single sample at `sampling_rate`.
    """
    parts: list[np.ndarray] = []
    missing = samples
    while missing > 0:
        path = files[int(rng.integers(len(files)))]
        parts.append(read_span(path, missing, sampling_rate, rng))
        if not len(parts[-1]):
            raise AudioError(f"{path} is too short: it has no sample at {sampling_rate} Hz")
        missing -= len(parts[-1])
    return np.concatenate(parts)


@dataclass(frozen=True)
class Mixer:
    """
    Batch transform of a data set with a column "index": the mixtures {"id", "clean", "noisy"} of these indices.

    Args:
        clean: speech files; drawn at random, or taken in turn when `options.seconds` is None.
        noise: noise files, drawn at random and joined to length.
        options: see `MixingOptions`.
        seed: another seed, other mixtures.
    """

    clean: Sequence[Path]
    noise: Sequence[Path]
    options: MixingOptions = field(default_factory=MixingOptions)
    seed: int = 0

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        pairs = [self.mixture(index) for index in batch["index"]]
        return {
            "id": [f"mixture_{index}" for index in batch["index"]],
            "clean": [clean for clean, _ in pairs],
            "noisy": [noisy for _, noisy in pairs],
        }

    def describe(self) -> dict[str, dict]:
        """Files, hours and folders of the speech and of the noise, for the record of a run."""
        return {"speech": describe_files(self.clean), "noise": describe_files(self.noise)}

    def mixture(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(clean, noisy) of an index, each (time,) float32."""
        rng = np.random.default_rng([self.seed, index])
        options, rate = self.options, self.options.sampling_rate
        if options.seconds is None:
            clean = read_mono(self.clean[index % len(self.clean)], rate)
        else:
            clean = draw(self.clean, round(options.seconds * rate), rate, rng)
        noise = draw(self.noise, len(clean), rate, rng)
        return mix(clean, noise, rng.uniform(*options.snr_db), rng.uniform(*options.level_dbfs))
