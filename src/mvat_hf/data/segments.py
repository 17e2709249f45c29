"""Pairs cut into overlapping segments on a fixed grid, as upstream trains on them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .matching import SIDES, DataError, decode_pair, pair_length
from .parallel import map_in_threads

if TYPE_CHECKING:
    from datasets import Dataset


def segment_starts(samples: int, segment: int, hop: int) -> range:
    """Where the segments of `samples` samples begin: every `hop`, until one reaches the end.

    Upstream's rule (winddori2002/MANNER, src/dataset.py): the last segment is padded, nothing is left out.

    >>> list(segment_starts(16000 * 6 + 1, 16000 * 4, 16000))
    [0, 16000, 32000, 48000]
    >>> list(segment_starts(100, 16000 * 4, 16000))
    [0]
    """
    return range(0, max(samples - segment, 0) + hop, hop)


@dataclass(frozen=True)
class SegmentReader:
    """
    Reads segments of pairs; their keys are "ROW@START".

    Args:
        encoded: the pairs that ROW counts.
        sampling_rate: in Hz.
        length: of a segment, in samples at that rate; the last of a file may be shorter.
    """

    encoded: "Dataset"
    sampling_rate: int
    length: int

    def describe(self) -> dict[str, dict]:
        """As for the whole files."""
        from .formatting import describe

        return describe(self.encoded)

    def stamp(self) -> str:
        """It changes with the whole files, and the length."""
        from .stamps import stamp

        return f"{self.length} {stamp(self.encoded)}"

    def pair(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """(clean, noisy) of a segment, each (time,)."""
        row, start = map(int, key.split("@"))
        return decode_pair(self.encoded[row], self.sampling_rate, start, self.length)


def hop_segments(dataset: "Dataset", seconds: float = 4.0, hop_seconds: float = 1.0) -> "Dataset":
    """
    Segments of the pairs of `load_valentini` or `load_pairs`; items are {"id", "clean", "noisy"} as of those.

    An id is that of its file with the first sample, "p226_001@16000". The last segment of a file may be shorter than
    the others (`SegmentCollator` pads it). Only the segment is decoded of a file that has the sampling rate of the
    data set. Lengths are read from the headers of all files.

    Args:
        dataset: pairs of whole files.
        seconds: length of a segment.
        hop_seconds: between the starts of two segments of a file, at most `seconds`.

    Raises:
        DataError: a length or hop without sense, or clean and noisy files of unlike lengths.
        FileNotFoundError, AudioError: a file that cannot be read.
    """
    import pyarrow

    from .formatting import RATE, decoded, made_dataset, reference_of

    dataset = decoded(dataset)
    rates = {getattr(dataset.features[side], "sampling_rate", None) or RATE for side in SIDES}
    if len(rates) > 1:
        raise DataError(f"clean and noisy must have one sampling rate, got {' and '.join(map(str, sorted(rates)))} Hz")
    rate = rates.pop()
    encoded = dataset.with_format(None).select_columns(["id", *SIDES])
    length, hop = round(seconds * rate), round(hop_seconds * rate)
    if not 0 < hop <= length:
        raise DataError(f"hop_seconds must be above 0 and at most seconds, got {hop_seconds} and {seconds}")
    if len(encoded) and reference_of(encoded[0]["clean"]):
        raise DataError("hop_segments cuts recordings, got mixtures or segments, which are made when asked for")
    lengths = map_in_threads(lambda row: pair_length(encoded[row], rate), range(len(encoded)), "reading headers")
    names = list(encoded["id"])
    places = [(row, start) for row, samples in enumerate(lengths) for start in segment_starts(samples, length, hop)]
    ids = pyarrow.array([f"{names[row]}@{start}" for row, start in places], pyarrow.string())
    keys = pyarrow.array([f"{row}@{start}" for row, start in places], pyarrow.string())
    return made_dataset(ids, keys, SegmentReader(encoded, rate, length))
