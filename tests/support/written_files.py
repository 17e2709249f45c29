"""What tests of writing share: the kind that a file is written in, and its samples read back."""

from pathlib import Path

import numpy as np
import soundfile

from mvat_hf.data.audio import open_audio
from mvat_hf.inference import writing
from mvat_hf.inference.writing import Kind


def read(path: Path) -> np.ndarray:
    """(channels, time) of any file."""
    with open_audio(path) as file:
        return file.read(always_2d=True).T


def kind_of(suffix: str) -> Kind:
    """What a wav becomes with this suffix."""
    if suffix in writing.CONTAINERS:
        codecs = {".mka": "flac", ".webm": "libopus"}
        return Kind(writing.CONTAINERS[suffix], codecs.get(suffix, "aac"))
    format = writing.FORMATS[suffix]
    return Kind(format, "OPUS" if suffix == ".opus" else soundfile.default_subtype(format))
