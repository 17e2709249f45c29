"""Augmentation of pairs as they are put into a batch, after Défossez et al. 2020.

"Real Time Speech Enhancement in the Waveform Domain" (Interspeech 2020), section 3: random shift, Remix and Band-Mask.
They need nothing but clean and noisy, so they serve recorded pairs as well as mixtures.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np
import torch

from .augment import fast_length, option
from .collator import SegmentCollator, as_item

LOWEST = 40.0  # Hz, lower end of the range that Band-Mask draws from


@dataclass
class BatchAugmentation:
    """Changes to the pairs of a training batch; all off by default."""

    remix_probability: float = option(0.0, "Chance that a batch's noises change places (Défossez et al. 2020: Remix).")
    shift_seconds: float = option(
        0.0,
        "Speech and noise of a pair shift against each other by up to this, as far as the pair is longer than the "
        "crop (Défossez et al. 2020: 0.5). Mixtures made on the fly are drawn at random places anyway.",
    )
    band_mask: float = option(
        0.0, "Share of the mel scale that a random stop band takes from the pair (Défossez et al. 2020: 0.2)."
    )

    def __post_init__(self):
        for name in ("remix_probability", "band_mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.shift_seconds < 0:
            raise ValueError(f"shift_seconds must be at least 0, got {self.shift_seconds}")


@dataclass
class AugmentingCollator(SegmentCollator):
    """
    A `SegmentCollator` that augments what it crops; with the default options it is one to the bit.

    Random draws depend on (seed, epoch, id) alone, and Remix on (seed, epoch, ids of the batch): it stays within the
    batch of one process.

    Args:
        augmentation: see `BatchAugmentation`.
    """

    augmentation: BatchAugmentation = field(default_factory=BatchAugmentation)

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        items = [as_item(item, self.sampling_rate) for item in items]
        batch, options = super().__call__(items), self.augmentation
        noisy, clean = batch["input_values"].numpy(), batch["labels"].numpy()
        rng = self.generator("remix", *(item["id"] for item in items))
        if rng.random() < options.remix_probability:
            noisy = remix(clean, noisy, rng)
        if options.band_mask > 0:
            pairs = [
                band_stop(pair, *random_band(options.band_mask, self.sampling_rate, self.generator("band", item["id"])))
                for item, *pair in zip(items, noisy, clean, strict=True)
            ]
            noisy, clean = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
        return {"input_values": torch.from_numpy(noisy), "labels": torch.from_numpy(clean)}

    def crop(self, item: dict) -> tuple[np.ndarray, np.ndarray]:
        """(noisy, clean) of one item, each (T,)."""
        spare = len(item["clean"]) - round(self.seconds * self.sampling_rate)
        most = min(round(self.augmentation.shift_seconds * self.sampling_rate), spare)
        return super().crop(shift(item, most, self.generator("shift", item["id"])) if most > 0 else item)

    def generator(self, *names: str) -> np.random.Generator:
        """Random numbers of this epoch for a purpose and the items of these names."""
        return np.random.default_rng([self.seed, self.epoch, zlib.crc32(" ".join(names).encode()), 1])


def remix(clean: np.ndarray, noisy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """New noisy (B, T): every clean (B, T) with the noise of a random other item, or its own."""
    return clean + (noisy - clean)[rng.permutation(len(clean))]


def shift(item: dict, most: int, rng: np.random.Generator) -> dict:
    """The pair shorter by `most` samples, its speech and its noise each begun up to `most` samples later."""
    clean, noisy = (np.asarray(item[name], dtype=np.float32) for name in ("clean", "noisy"))
    length = len(clean) - most
    of_speech, of_noise = rng.integers(0, most + 1, 2)
    speech = clean[of_speech : of_speech + length]
    return {**item, "clean": speech, "noisy": speech + (noisy - clean)[of_noise : of_noise + length]}


def random_band(share: float, sampling_rate: int, rng: np.random.Generator) -> tuple[float, float]:
    """A band (low, high), relative to the sampling rate, of that share of the mel scale from 40 Hz to Nyquist."""
    lowest, highest = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST, sampling_rate / 2))
    low = rng.uniform(lowest, highest - share * (highest - lowest))
    low, high = (700 * (10 ** (mel / 2595) - 1) for mel in (low, low + share * (highest - lowest)))
    return low / sampling_rate, high / sampling_rate


def band_stop(audio: np.ndarray | list[np.ndarray], low: float, high: float) -> np.ndarray:
    """`audio` (…, time) without the band from `low` to `high` (relative to the sampling rate), whose edges slope over
    a tenth of it; without delay."""
    audio = np.asarray(audio)
    samples = audio.shape[-1]
    size, edge = fast_length(2 * samples), (high - low) / 10
    passed = np.interp(np.fft.rfftfreq(size), [low, low + edge, high - edge, high], [1, 0, 0, 1])
    return np.fft.irfft(np.fft.rfft(audio, size) * passed, size)[..., :samples].astype(np.float32)
