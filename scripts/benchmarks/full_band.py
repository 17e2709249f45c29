"""The band above 8 kHz of enhanced 48 kHz recordings: with the gain of the band below, dropped, or passed through.

    python scripts/benchmarks/full_band.py --clean CLEAN --noisy NOISY --noise NOISE
    python scripts/render_cards.py          # the table of the README beside it from the record

CLEAN and NOISY hold 48 kHz files of the same names (others are left out), NOISE a folder of files for each type of
noise. Mixtures are the pairs; their clean side with the noise of another pair; and with a file of NOISE read as if it
were at 48 kHz, since what was recorded at 16 kHz holds nothing above 8. Every second pair and type is for choosing the
smoothing, the others are reported.

All measures are of the band above 8 kHz. Log-spectral distance and SI-SDR are to the clean recording. Noise left is the
power in pauses, speech kept that where speech is 10 dB above the noise, both relative to the noisy recording.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from mvat_hf import MannerModel, enhance
from mvat_hf.data.audio import find_audio, resample
from mvat_hf.inference import full_band
from mvat_hf.metrics import si_sdr
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.errors import run_script
from mvat_hf.utils.records import environment, weights_hash, write_json

RATE, MODEL_RATE, EDGE = 48000, 16000, 8000  # Hz
SNRS, NOISE_TYPES = (0, 10), 16  # dB; how many types, for choosing and reporting together
SMOOTHINGS = (0, 2, 8, 32)  # in hops
FRAME, FLOOR, PAUSE_SAMPLES = 2048, 1e-11, 480  # of the log-spectral distance; of pauses
Mixture = tuple[np.ndarray, np.ndarray]  # clean and noisy, (time,) at RATE
MEASURES = ("log_spectral_distance", "si_sdr", "noise_left", "speech_kept")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("clean", "noisy", "noise"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="folder, see above")
    parser.add_argument("--model", default=str(SNAPSHOTS / "manner-s-8.1gf"), help="folder or Hub id")
    parser.add_argument("--types", type=int, default=NOISE_TYPES, help="of noise (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="record to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = MannerModel.from_pretrained(options.model)
    pairs, noises = read_pairs(options.clean, options.noisy), read_noises(options.noise, options.types)
    if len(pairs) < 4:
        raise ValueError(f"expected at least 4 pairs at {RATE} Hz in {options.noisy}, got {len(pairs)}")
    choosing, reported = (list(mixtures(pairs[part::2], noises[part::2])) for part in (0, 1))
    record = {
        "model": Path(options.model).name,
        "weights_sha256": weights_hash(model),
        "mixtures": {"choosing": len(choosing), "reported": len(reported)},
        "smoothing": choose(model, choosing),
        "systems": compare(model, reported),
        **costs(model, reported),
        "environment": environment(),
    }
    print(write_json(options.output, record))


def read_pairs(clean: Path, noisy: Path) -> list[Mixture]:
    """The pairs at `RATE`, by name."""
    names = [path.name for path in find_audio(clean) if soundfile.info(path).samplerate == RATE]
    return [(soundfile.read(clean / name)[0], soundfile.read(noisy / name)[0]) for name in names]


def read_noises(folder: Path, count: int) -> list[np.ndarray]:
    """The first file of `count` types."""
    types = sorted(path for path in folder.iterdir() if path.is_dir())
    chosen = [types[int(index)] for index in np.linspace(0, len(types) - 1, count)]
    return [soundfile.read(find_audio(path)[0])[0] for path in chosen]


def mixtures(pairs: list[Mixture], noises: list[np.ndarray]) -> Iterator[Mixture]:
    """The pairs, and their clean sides in the noise of the next one and in the noises."""
    yield from pairs
    for (clean, _), (other, noisy) in zip(pairs, pairs[1:] + pairs[:1], strict=True):
        for snr in SNRS:
            yield clean, mix(clean, noisy - other, snr)
    for (clean, _), noise in zip(itertools.cycle(pairs), noises, strict=False):
        for snr in SNRS:
            yield clean, mix(clean, noise, snr)


def mix(clean: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """`clean` in as much `noise`, repeated where it is shorter, as makes `snr` dB."""
    noise = np.resize(noise, len(clean))
    return clean + noise * np.sqrt(clean.var() / noise.var() / 10 ** (snr / 10))


def choose(model: MannerModel, pairs: list[Mixture]) -> list[dict[str, float]]:
    """Scores by smoothing. The constant of the package was chosen from them."""
    chosen, rows = full_band.SMOOTHING_HOPS, []
    for hops in SMOOTHINGS:
        full_band.SMOOTHING_HOPS = hops
        rows.append({"hops": hops, **score(lambda noisy: enhance(model, noisy, RATE), pairs)})
        print(rows[-1], flush=True)
    full_band.SMOOTHING_HOPS = chosen
    return rows


def compare(model: MannerModel, pairs: list[Mixture]) -> list[dict[str, Any]]:
    """Scores of what can be done about the band."""

    def dropped(noisy: np.ndarray) -> np.ndarray:
        return enhance(model, noisy, RATE, full_band=False)

    def passed(noisy: np.ndarray) -> np.ndarray:
        low = resample(resample(noisy[None], RATE, MODEL_RATE), MODEL_RATE, RATE)[0]
        return dropped(noisy) + noisy - np.pad(low, (0, 2))[: len(noisy)]  # it may come out a sample short

    ways = {"turned down": lambda noisy: enhance(model, noisy, RATE), "dropped": dropped, "passed through": passed}
    rows: list[dict[str, Any]] = [{"system": name, **score(way, pairs)} for name, way in ways.items()]
    rows[1] |= dict.fromkeys(MEASURES[1:])  # of what a resampler's slope leaves of the band they would say nothing
    print(*rows, sep="\n", flush=True)
    return rows


def costs(model: MannerModel, pairs: list[Mixture]) -> dict[str, float]:
    """CPU time of a second of audio on one thread, with and without the band, by turns."""
    audio, spent = np.concatenate([noisy for _, noisy in pairs])[: 30 * RATE], {True: 0.0, False: 0.0}
    for kept in (True, False, False, True):
        start = time.process_time()
        enhance(model, audio, RATE, full_band=kept)
        spent[kept] += time.process_time() - start
    seconds = 2 * len(audio) / RATE
    return {"real_time_factor": spent[True] / seconds, "real_time_factor_dropped": spent[False] / seconds}


def score(way: Callable[[np.ndarray], np.ndarray], pairs: list[Mixture]) -> dict[str, float]:
    """Means over the mixtures for which a measure is defined."""
    rows = np.array([measure(clean, noisy, way(noisy)) for clean, noisy in pairs])
    return dict(zip(MEASURES, np.nanmean(rows, axis=0).tolist(), strict=True))


def measure(clean: np.ndarray, noisy: np.ndarray, output: np.ndarray) -> list[float]:
    """`MEASURES` of one output; NaN for one that is not defined."""
    clean_above, noisy_above, above = (band_above(audio) for audio in (clean, noisy, output))
    levels = [10 * np.log10(spectra(audio) + FLOOR) for audio in (clean_above, above)]
    distance = np.sqrt(np.square(levels[0] - levels[1]).mean(axis=1)).mean()
    speech, noise, before, after = (
        powers(audio) for audio in (clean_above, noisy_above - clean_above, noisy_above, above)
    )

    def ratio(where: np.ndarray) -> float:
        return 10 * np.log10(after[where].sum() / before[where].sum()) if after[where].any() else np.nan

    return [float(distance), si_sdr(clean_above, above), ratio(speech < noise / 20), ratio(speech > 10 * noise)]


def band_above(audio: np.ndarray) -> np.ndarray:
    """The band above `EDGE`."""
    spectrum = np.fft.rfft(audio)
    spectrum[: round(EDGE * len(audio) / RATE)] = 0
    return np.fft.irfft(spectrum, len(audio))


def spectra(audio: np.ndarray) -> np.ndarray:
    """Power (frames, bins above `EDGE`), 1 for white noise of full scale."""
    window = np.hanning(FRAME)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, FRAME // 2), FRAME)[:: FRAME // 4]
    spectrum = np.abs(np.fft.rfft(frames * window)) ** 2 / (window @ window)
    return spectrum[:, round(EDGE * FRAME / RATE) :]


def powers(audio: np.ndarray) -> np.ndarray:
    """Mean power of stretches of 10 ms."""
    return np.square(audio[: len(audio) // PAUSE_SAMPLES * PAUSE_SAMPLES]).reshape(-1, PAUSE_SAMPLES).mean(axis=1)


if __name__ == "__main__":
    run_script(main)
