"""Augmentation of the speech and of the noise of a mixture, before they are mixed.

The options are fields with their help text, so that a recipe has them under the same names.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from .audio import resample

RING = 512  # samples; the slowest filter of `equalise` is down by more than 100 dB after them
LEVEL_CHANGE_DB = (-20.0, 0.0)  # of the quieter side relative to the other
LEVEL_CHANGE_SECONDS = 0.05  # from one level to the other
NARROW_SOURCES = (1, 3)  # at once
NARROW_HARMONICS = (1, 8)  # of a source, the k-th 20 log10(k) dB below the first
NARROW_HZ = (20.0, 7000.0)  # centre of a source's lowest band
NARROW_OCTAVES = (0.002, 1.0)  # width of a band: from a tone to a rumble
NARROW_SOURCE_DB = (-12.0, 0.0)  # level of a source relative to the loudest possible


def option(default: Any, text: str) -> Any:
    """A field of an options class, with the help text that the command line prints."""
    return field(default=default, metadata={"help": text})


@dataclass
class Augmentation:
    """Changes to mixtures made on the fly (never to validation); all off by default."""

    speed_change: float = option(
        0.0, "dns, mixed: speech and noise are each played at 1 +- up to this speed (Ko et al. 2015: 0.1)."
    )
    noise_speed_change: float = option(
        0.0, "dns, mixed: the noise alone is played at 1 +- up to this speed, if that is more than speed_change."
    )
    equaliser_probability: float = option(
        0.0, "dns, mixed: chance of a random second-order filter on speech and on noise (RNNoise, Valin 2018)."
    )
    second_noise_probability: float = option(
        0.0, "dns, mixed: chance of a second noise, 0 to 10 dB below the first before the SNR is set."
    )
    coloured_noise_probability: float = option(
        0.0, "dns, mixed: chance that the noise is generated, white to brown; few recordings are like it."
    )
    babble_probability: float = option(
        0.0, "dns, mixed: chance that the noise is babble: many voices of the training speech at once."
    )
    narrow_noise_probability: float = option(
        0.0, "dns, mixed: chance of further noise in narrow bands (hum, whistles), 15 dB below to 10 dB above the rest."
    )
    level_change_probability: float = option(
        0.0, "dns, mixed: chance that the speech before or after a random moment is up to 20 dB quieter."
    )
    polarity_probability: float = option(
        0.0, "dns, mixed: chance, of speech and of noise each, of the other polarity; a recording may have either."
    )
    clean_probability: float = option(0.0, "dns, mixed: chance of a mixture without noise.")
    noise_probability: float = option(0.0, "dns, mixed: chance of a mixture without speech, whose target is silence.")
    reverb_probability: float = option(
        0.0,
        "dns, mixed: chance that speech is heard in a room; the target is its direct path. dns takes responses of "
        "`impulse_responses` if that folder is there; else rooms are simulated.",
    )
    early_ms: float = option(
        2.5, "dns, mixed: reflections up to this long after the direct path belong to the target (50: early ones too)."
    )

    def __post_init__(self):
        for name in (each.name for each in fields(self) if each.name.endswith("_probability")):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}")
        for one, other in (("clean", "noise"), ("coloured_noise", "babble")):  # a mixture is one of them or neither
            chances = getattr(self, f"{one}_probability"), getattr(self, f"{other}_probability")
            if sum(chances) > 1:
                raise ValueError(
                    f"{one}_probability and {other}_probability must be at most 1 together, "
                    f"got {chances[0]} and {chances[1]}"
                )
        for name in ("speed_change", "noise_speed_change"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise ValueError(f"{name} must be from 0 to 0.5, got {getattr(self, name)}")
        if self.early_ms < 0:
            raise ValueError(f"early_ms must be at least 0, got {self.early_ms}")


def random_speed(change: float, sampling_rate: int, rng: np.random.Generator) -> int:
    """The rate in Hz to take audio of `sampling_rate` for, so that it is heard at a speed of 1 +- up to `change`.

    In steps of a hundredth: such ratios are resampled several times faster than arbitrary ones.
    """
    percent = round(100 * change)
    return sampling_rate * int(rng.integers(100 - percent, 100 + percent + 1)) // 100


def change_speed(audio: np.ndarray, played_rate: int, sampling_rate: int) -> np.ndarray:
    """`audio` (time,) of `sampling_rate` Hz as if recorded at `played_rate`: pitch and tempo change together."""
    return resample(audio[None], played_rate, sampling_rate)[0]


def equalise(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    A random filter (1 + a1 z^-1 + a2 z^-2) / (1 + b1 z^-1 + b2 z^-2), coefficients uniform in +-3/8.

    The spectral shaping of RNNoise's training (Valin, "A Hybrid DSP/Deep Learning Approach to Real-Time Full-Band
    Speech Enhancement", MMSP 2018, section IV): other microphones and voices.

    Args:
        audio: (time,); the filter starts at rest.
    """
    above, below = rng.uniform(-3 / 8, 3 / 8, (2, 2))
    size = fast_length(len(audio) + RING)
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)  # z^-1 on the unit circle
    response = (1 + above[0] * delay + above[1] * delay**2) / (1 + below[0] * delay + below[1] * delay**2)
    return np.fft.irfft(np.fft.rfft(audio, size) * response, size)[: len(audio)].astype(np.float32)


def change_level(audio: np.ndarray, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """`audio` (time,), before or after a random moment up to 20 dB quieter; the change takes 50 ms."""
    moment, quieter_db = rng.integers(len(audio)), rng.uniform(*LEVEL_CHANGE_DB)
    time = (np.arange(len(audio)) - moment) / (LEVEL_CHANGE_SECONDS * sampling_rate)
    changed = np.clip(time, 0, 1) if rng.random() < 0.5 else np.clip(-time, 0, 1)
    return (audio * 10 ** (quieter_db * changed / 20)).astype(np.float32)


def coloured_noise(samples: int, slope: float, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise (time,) of RMS 1 whose power falls by `slope` x 3 dB an octave above 20 Hz: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.maximum(np.fft.rfftfreq(samples, 1 / sampling_rate), 20) ** (slope / 2)
    noise = np.fft.irfft(spectrum, samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def narrow_noise(samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """
    Noise (time,) of RMS 1 in narrow bands: hum of the mains, engines and fans, whistles, rumble.

    One to three sources, each of up to eight harmonics of 20 to 7,000 Hz, as wide as an octave or as narrow as a tone.
    """
    size = fast_length(samples)
    step = sampling_rate / size
    octaves = np.log2(np.arange(1, size // 2 + 1) * step)
    shape = np.zeros(size // 2 + 1)
    highest = min(NARROW_HZ[1], sampling_rate / 2 - step)
    for _ in range(rng.integers(*NARROW_SOURCES, endpoint=True)):
        lowest_band = np.exp(rng.uniform(np.log(NARROW_HZ[0]), np.log(highest)))
        width = np.exp(rng.uniform(*np.log(NARROW_OCTAVES)))
        level = 10 ** (rng.uniform(*NARROW_SOURCE_DB) / 20)
        for harmonic in range(1, rng.integers(*NARROW_HARMONICS, endpoint=True) + 1):
            centre = harmonic * lowest_band
            if centre > highest:
                break
            # a tone between two bins is heard in both
            band = np.exp(-(((octaves - np.log2(centre)) / max(width, 2 * step / centre)) ** 2))
            shape[1:] += level / harmonic * band / np.linalg.norm(band)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * shape, size)[:samples]
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def fast_length(samples: int) -> int:
    """A length of at least `samples` whose Fourier transform is quick: a multiple of 1024."""
    return -(-samples // 1024) * 1024
