"""From the microphone to the loudspeakers, enhanced on the way."""

import warnings

import numpy as np

from ..data.audio import AudioError
from ..utils.errors import need
from .live import StreamingEnhancer


def enhance_microphone(enhancer: StreamingEnhancer) -> None:
    """
    Enhance what the default microphone hears, for the default loudspeakers (mono), until interrupted. Headphones keep
    the loudspeakers out of the microphone.

    Audio that comes faster than it is enhanced is lost, with a warning: a longer hop takes less time.

    Args:
        enhancer: at the start of a stream.

    Raises:
        MissingExtraError: sounddevice is not installed. OSError: PortAudio, which it takes, is not.
        AudioError: no such device, or none that takes the sampling rate.
    """
    need("live", "sounddevice")
    import sounddevice

    options = {"samplerate": enhancer.rate, "channels": 1, "dtype": "float32"}
    try:
        with sounddevice.InputStream(**options) as microphone, sounddevice.OutputStream(**options) as loudspeakers:
            while True:
                block, lost = microphone.read(enhancer.hop)  # (time, channels), and whether some is missing before it
                if lost:
                    warnings.warn("audio was lost: it comes faster than it is enhanced", stacklevel=2)
                loudspeakers.write(np.ascontiguousarray(enhancer.feed(block[:, 0])[:, None]))
    except sounddevice.PortAudioError as error:
        raise AudioError(f"microphone or loudspeakers: {error}") from error


__all__ = ["enhance_microphone"]
