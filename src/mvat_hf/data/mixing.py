"""Noisy speech made on the fly, after the synthesiser of the DNS Challenge (Reddy et al., Interspeech 2020).

A mixture depends on (seed, index) alone: the order, worker or machine that asks for it does not matter. `Augmentation`
draws from generators of its own, so that mixtures without it do not depend on it.

A mixer needs no Remix and no random shift (Défossez et al. 2020): every mixture's noise is drawn independently of its
speech, both from random places of their files. (For recorded pairs: `batch_augmentation`.)
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from .audio import AudioError, describe_files, open_whole, read_frames, read_mono, resample
from .augment import Augmentation, change_level, change_speed, coloured_noise, equalise, narrow_noise, random_speed
from .levels import EPS, active_db, at_level, rms_db
from .reverb import ResponseFiles, reverberate

PEAK = 0.99  # of the noisy mixture: above it, the pair is scaled down together
WINDOW = 0.1  # s, in which the activity of noise is judged, as in the challenge
STEEPEST = 2.0  # of generated noise: brown
VOICES = (5, 12)  # at once in babble
VOICE_DB = (-6.0, 0.0)  # level of a voice relative to the loudest possible
SECOND_NOISE_DB = (-10.0, 0.0)  # level of a second noise relative to the first
NARROW_NOISE_DB = (-15.0, 10.0)  # level of noise in narrow bands relative to the other noise
ATTEMPTS = 100  # files that are tried before a mixture is given up
# parts with a generator of their own; numbers above 0, as a seed with trailing zeros equals the seed without them
SPEECH, NOISE, SECOND_NOISE, ROOM, PARTS, MADE_NOISE, LEVEL, NARROW_NOISE, POLARITY = range(1, 10)


@dataclass(frozen=True)
class MixingOptions:
    """
    How speech and noise are mixed; the ranges are drawn from uniformly.

    Args:
        seconds: length of a mixture; None for the whole clean file.
        snr_db: range of the signal-to-noise ratio in dB (the challenge: 0 to 40).
        level_dbfs: range of the mixture's RMS level in dB relative to full scale (the challenge: -35 to -15).
        sampling_rate: in Hz.
        silence_seconds: between recordings that are joined to length (the challenge: 0.2).
        active_snr: measure the SNR where noise is active (the challenge's segmental mixing, see `active_db`), not over
            the whole mixture.
        speaker_power: speakers are heard in proportion to this power of the number of their files: 1 for every file
            alike, 0 for every speaker alike.
        augmentation: see `Augmentation`.
    """

    seconds: float | None = 4.0
    snr_db: tuple[float, float] = (0.0, 40.0)
    level_dbfs: tuple[float, float] = (-35.0, -15.0)
    sampling_rate: int = 16000
    silence_seconds: float = 0.0
    active_snr: bool = False
    speaker_power: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self):
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds must be above 0, got {self.seconds}")
        for name in ("snr_db", "level_dbfs"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be (low, high), got ({low}, {high})")
        if self.silence_seconds < 0:
            raise ValueError(f"silence_seconds must be at least 0, got {self.silence_seconds}")
        if not 0 <= self.speaker_power <= 1:
            raise ValueError(f"speaker_power must be from 0 to 1, got {self.speaker_power}")


def mix(
    clean: np.ndarray,
    noise: np.ndarray,
    snr_db: float,
    level_dbfs: float,
    *,
    reverberant: np.ndarray | None = None,
    window: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Mix at a signal-to-noise ratio and set the mixture's level.

    Args:
        clean, noise: (time,), of one length.
        snr_db: ratio of the RMS levels of speech and noise in the mixture.
        level_dbfs: RMS level of the mixture; lowered where its peak would pass 0.99.
        reverberant: the speech as the mixture holds it, if that is not `clean`: speech in a room (time,).
        window: take both levels where the noise is active, judged in windows of so many samples; see `active_db`.

    Returns:
        (clean, noisy), each (time,) float32: noisy - reverberant is the scaled noise. Silent speech leaves noise alone.
    """
    reverberant = clean if reverberant is None else reverberant
    if reverberant.any():
        speech_db, noise_db = active_db(reverberant, noise, window) if window else (rms_db(reverberant), rms_db(noise))
        noise = noise * 10 ** ((speech_db - snr_db - noise_db) / 20)
    noisy = reverberant + noise
    gain = 10 ** ((level_dbfs - rms_db(noisy)) / 20)
    gain = min(gain, PEAK / (np.abs(noisy).max() + EPS))
    return (clean * gain).astype(np.float32), (noisy * gain).astype(np.float32)


class UnreadableFileWarning(UserWarning):
    """A file cannot be used, and another is taken in its place."""


WARNED: set[Path] = set()  # files that this process has warned about


def read_any(files: Iterable[Path], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """`read` of the first of `files` that can be read, among at most 100.

    An `UnreadableFileWarning`, once for every file in a process, names a file that cannot be read. If none can be read,
    the error of the last is raised.
    """
    failed: OSError | AudioError | None = None
    for path in islice(files, ATTEMPTS):
        try:
            return read(path)
        except (OSError, AudioError) as error:
            failed = error
        if path not in WARNED:
            WARNED.add(path)
            warnings.warn(f"{failed}; another file is taken in its place", UnreadableFileWarning, stacklevel=2)
    raise failed or ValueError("no files to read, expected at least one")


def drawn(files: Sequence[Path], rng: np.random.Generator, below: np.ndarray | None = None) -> Iterator[Path]:
    """Randomly drawn files without end: all alike, or by `below` (files,), the chance of a file or one before it."""
    while True:
        drew = rng.integers(len(files)) if below is None else np.searchsorted(below[:-1], rng.random(), side="right")
        yield files[int(drew)]


def read_span(path: Path, samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """At most `samples` at `sampling_rate` Hz from a random place of a file, as (time,); the rest is not decoded.

    Raises:
        FileNotFoundError, AudioError: see `open_whole`; also a file too short to give a single sample.
    """
    with open_whole(path) as file:
        wanted = int(np.ceil(samples * file.samplerate / sampling_rate))
        start = int(rng.integers(0, max(file.frames - wanted, 0) + 1))
        audio, rate = read_frames(file, start, wanted), file.samplerate
    audio = resample(audio.mean(axis=0, keepdims=True), rate, sampling_rate)[0, :samples]
    if not len(audio):
        raise AudioError(f"{path} is too short: it has no sample at {sampling_rate} Hz")
    return audio


def draw(
    files: Sequence[Path],
    samples: int,
    sampling_rate: int,
    rng: np.random.Generator,
    silence: int = 0,
    below: np.ndarray | None = None,
) -> np.ndarray:
    """`samples` of audio from files `drawn`, joined with `silence` samples between until the length is reached.

    A file that cannot be read is warned about and another is drawn, see `read_any`.
    """
    parts: list[np.ndarray] = []
    missing = samples
    while missing > 0:
        read = partial(read_span, samples=missing, sampling_rate=sampling_rate, rng=rng)
        parts.append(read_any(drawn(files, rng, below), read))
        missing -= len(parts[-1])
        if silence and missing > 0:
            parts.append(np.zeros(min(silence, missing), dtype=np.float32))
            missing -= len(parts[-1])
    return np.concatenate(parts)


@dataclass(frozen=True)
class Mixer:
    """
    Makes mixtures by their index; the key of a mixture in a data set is the index in digits.

    If a file cannot be read, another is taken in its place, with a warning: for mixtures the same one for the same
    index, for whole clean files the next.

    Args:
        clean: speech files; drawn at random, or taken in turn when `options.seconds` is None.
        noise: noise files, drawn at random and joined to length.
        options: see `MixingOptions`.
        seed: another seed, other mixtures.
        responses: impulse responses (time,) of rooms at the sampling rate; needed where reverberation is asked for.
        below: chances of the speech files, see `drawn`.

    Raises:
        ValueError: reverberation without responses.
    """

    clean: Sequence[Path]
    noise: Sequence[Path]
    options: MixingOptions = field(default_factory=MixingOptions)
    seed: int = 0
    responses: Sequence[np.ndarray] | ResponseFiles = ()
    below: np.ndarray | None = None

    def __post_init__(self):
        if self.options.augmentation.reverb_probability > 0 and not len(self.responses):
            raise ValueError("reverb_probability is above 0, expected impulse responses, got none")

    @property
    def sampling_rate(self) -> int:
        """Rate of its mixtures, in Hz."""
        return self.options.sampling_rate

    def pair(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """`mixture` of the index that `key` spells."""
        return self.mixture(int(key))

    def describe(self) -> dict[str, dict]:
        """Files, hours and folders of the speech and of the noise, for the record of a run; rooms where it uses any."""
        parts = {"speech": describe_files(self.clean), "noise": describe_files(self.noise)}
        if isinstance(self.responses, ResponseFiles):
            parts["responses"] = describe_files(self.responses.files)
        elif len(self.responses):
            parts["responses"] = {"simulated": len(self.responses)}
        return parts

    def stamp(self) -> str:
        """It changes with the files of speech and noise, and the options."""
        from .stamps import stamps

        return f"{self.seed} {self.options} {stamps([*self.clean, *self.noise])}"

    def item(self, index: int) -> dict:
        """{"id", "clean", "noisy"} of an index."""
        clean, noisy = self.mixture(index)
        return {"id": f"mixture_{index}", "clean": clean, "noisy": noisy}

    def mixture(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(clean, noisy) of an index, each (time,) float32."""
        rng = np.random.default_rng([self.seed, index])
        options, rate = self.options, self.options.sampling_rate
        if options.seconds is None:
            in_turn = (self.clean[(index + later) % len(self.clean)] for later in range(len(self.clean)))
            clean = read_any(in_turn, lambda path: read_mono(path, rate))
        else:
            clean = self.speech(round(options.seconds * rate), rng, self.generator(index, SPEECH))
        noise = self.recorded_noise(len(clean), rng, self.generator(index, NOISE))
        snr_db, level_dbfs = rng.uniform(*options.snr_db), rng.uniform(*options.level_dbfs)

        noise = self.add_second_noise(index, self.recorded_or_made(index, noise))
        noise = self.add_narrow_noise(index, noise)
        clean, reverberant = self.hear(index, self.nearer_or_further(index, clean))
        part, augmentation = self.generator(index, PARTS).random(), options.augmentation
        if part < augmentation.clean_probability:
            noise = np.zeros_like(noise)
        elif part >= 1 - augmentation.noise_probability:
            clean = reverberant = np.zeros_like(clean)
        inverted = self.generator(index, POLARITY).random(2) < augmentation.polarity_probability
        of_speech, of_noise = np.where(inverted, -1, 1).astype(np.float32)
        clean, reverberant, noise = of_speech * clean, of_speech * reverberant, of_noise * noise
        window = round(WINDOW * rate) if options.active_snr else None
        return mix(clean, noise, snr_db, level_dbfs, reverberant=reverberant, window=window)

    def generator(self, index: int, stage: int) -> np.random.Generator:
        """Random numbers of one stage of a mixture, independent of those that every mixture needs."""
        return np.random.default_rng([self.seed, index, stage])

    def speech(self, samples: int, rng: np.random.Generator, changes: np.random.Generator) -> np.ndarray:
        """`samples` of the speech, see `draw`."""
        speed_change = self.options.augmentation.speed_change
        return self.draw(self.clean, samples, rng, changes, speed_change, self.below)

    def recorded_noise(self, samples: int, rng: np.random.Generator, changes: np.random.Generator) -> np.ndarray:
        """`samples` of the noise, see `draw`."""
        augmentation = self.options.augmentation
        speed_change = max(augmentation.speed_change, augmentation.noise_speed_change)
        return self.draw(self.noise, samples, rng, changes, speed_change)

    def draw(
        self,
        files: Sequence[Path],
        samples: int,
        rng: np.random.Generator,
        changes: np.random.Generator,
        speed_change: float,
        below: np.ndarray | None = None,
    ) -> np.ndarray:
        """`samples` of `files` chosen by `rng`, at a speed and through a filter chosen by `changes`."""
        options, rate = self.options, self.options.sampling_rate
        played = random_speed(speed_change, rate, changes)
        silence = round(options.silence_seconds * rate)
        audio = draw(files, -(-samples * played // rate), rate, rng, silence, below)
        audio = change_speed(audio, played, rate)[:samples]
        return equalise(audio, changes) if changes.random() < options.augmentation.equaliser_probability else audio

    def recorded_or_made(self, index: int, noise: np.ndarray) -> np.ndarray:
        """`noise` (time,), or sometimes noise of a random colour or babble in its place."""
        rng, augmentation = self.generator(index, MADE_NOISE), self.options.augmentation
        made = rng.random()
        if made < augmentation.coloured_noise_probability:
            return coloured_noise(len(noise), rng.uniform(0, STEEPEST), self.options.sampling_rate, rng)
        if made >= 1 - augmentation.babble_probability:
            return self.babble(len(noise), rng)
        return noise

    def babble(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        """Many voices at once (time,), each of another random place of the speech and at a level of its own."""
        babble = np.zeros(samples, dtype=np.float32)
        for _ in range(rng.integers(*VOICES, endpoint=True)):
            babble += at_level(self.speech(samples, rng, rng), rng.uniform(*VOICE_DB))
        return babble

    def add_second_noise(self, index: int, noise: np.ndarray) -> np.ndarray:
        """`noise` (time,), sometimes with another one that is at most as loud."""
        rng = self.generator(index, SECOND_NOISE)
        if rng.random() >= self.options.augmentation.second_noise_probability:
            return noise
        other = self.recorded_noise(len(noise), rng, rng)
        return noise + at_level(other, rms_db(noise) + rng.uniform(*SECOND_NOISE_DB))

    def add_narrow_noise(self, index: int, noise: np.ndarray) -> np.ndarray:
        """`noise` (time,), sometimes with another one in narrow bands, which may be louder."""
        rng = self.generator(index, NARROW_NOISE)
        if rng.random() >= self.options.augmentation.narrow_noise_probability:
            return noise
        other = narrow_noise(len(noise), self.options.sampling_rate, rng)
        return noise + at_level(other, rms_db(noise) + rng.uniform(*NARROW_NOISE_DB))

    def nearer_or_further(self, index: int, speech: np.ndarray) -> np.ndarray:
        """`speech` (time,), sometimes with a change of its level."""
        rng = self.generator(index, LEVEL)
        if rng.random() >= self.options.augmentation.level_change_probability:
            return speech
        return change_level(speech, self.options.sampling_rate, rng)

    def hear(self, index: int, speech: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(target, reverberant), each (time,): `speech` itself, or sometimes what a room makes of it."""
        rng, augmentation = self.generator(index, ROOM), self.options.augmentation
        if rng.random() >= augmentation.reverb_probability:
            return speech, speech
        if isinstance(self.responses, ResponseFiles):
            response = read_any(drawn(self.responses.files, rng), self.responses.read)
        else:
            response = self.responses[int(rng.integers(len(self.responses)))]
        early = round(augmentation.early_ms * self.options.sampling_rate / 1000)
        reverberant, target = reverberate(speech, response, early)
        return target, reverberant
