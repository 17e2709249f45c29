"""Recordings whose every place is like no other, encoded by FFmpeg, and by how much they come back late."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, SECONDS = 48000, 3.125  # in whole ms, as the edit lists of mp4 are written


def voice(seconds: float = SECONDS, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(channels, time) float32: noise below 3 kHz whose loudness changes, so that each place is like no other."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((channels, round(seconds * rate))))
    spectrum[:, round(3000 * seconds) :] = 0
    noise = np.fft.irfft(spectrum, round(seconds * rate))
    places = np.linspace(0, noise.shape[1], 50)
    loudness = np.interp(np.arange(noise.shape[1]), places, rng.uniform(0.2, 1, 50))
    return (0.3 * noise / np.abs(noise).max() * loudness).astype(np.float32)


def encode(
    path: Path, codec: str, *tracks: np.ndarray, rate: int = RATE, picture: bool = False, **options: str
) -> Path:
    """Write each of `tracks` (channels, time) as a stream of its own, by FFmpeg."""
    codec = "libmp3lame" if codec == "mp3" else codec
    with av.open(str(path), "w", options=options) as container:
        if picture:
            video = container.add_stream("mpeg4", rate=5)
            video.width = video.height = 64
        layouts = ["mono" if len(track) == 1 else "stereo" for track in tracks]
        added = [container.add_stream(codec, rate=rate, layout=layout) for layout in layouts]
        for stream, track, layout in zip(added, tracks, layouts, strict=True):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(track), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            stream.bit_rate = 128000
            resampler = av.AudioResampler(stream.format, layout, rate)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
        if picture:
            for _ in range(5):
                container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(video.encode(None))
    return path


def delay(audio: np.ndarray, original: np.ndarray) -> int:
    """By how many samples the first channel of `audio` comes after that of `original`."""
    size = 2 ** int(np.ceil(np.log2(2 * max(audio.shape[1], original.shape[1]))))
    product = np.fft.irfft(np.fft.rfft(audio[0], size) * np.conj(np.fft.rfft(original[0], size)))
    shift = int(product.argmax())
    return shift if shift < size // 2 else shift - size
