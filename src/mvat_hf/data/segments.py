"""Pairs cut into overlapping segments on a fixed grid, as upstream trains on them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .pairs import DataError, DecodePairs, decode_pair, pair_length
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
class DecodeSegments:
    """
    Batch transform of rows {"id", "row", "start"}: the segments {"id", "clean", "noisy"}, arrays (time,).

    Args:
        encoded: the pairs that "row" counts.
        sampling_rate: in Hz.
        length: of a segment, in samples at that rate; the last of a file may be shorter.
    """

    encoded: "Dataset"
    sampling_rate: int
    length: int

    def describe(self) -> dict[str, dict]:
        """As of the whole files."""
        return DecodePairs(self.encoded, self.sampling_rate).describe()

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        places = zip(batch["row"], batch["start"], strict=True)
        pairs = [decode_pair(self.encoded[row], self.sampling_rate, start, self.length) for row, start in places]
        return {
            "id": batch["id"],
            "clean": [clean for clean, _ in pairs],
            "noisy": [noisy for _, noisy in pairs],
        }


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
    from datasets import Dataset

    rate = dataset.format["format_kwargs"]["transform"].sampling_rate
    encoded = dataset.with_format(None)
    length, hop = round(seconds * rate), round(hop_seconds * rate)
    if not 0 < hop <= length:
        raise DataError(f"hop_seconds must be above 0 and at most seconds, got {hop_seconds} and {seconds}")
    lengths = map_in_threads(lambda row: pair_length(encoded[row], rate), range(len(encoded)), "reading headers")
    names = list(encoded["id"])
    places = [(row, start) for row, samples in enumerate(lengths) for start in segment_starts(samples, length, hop)]
    columns = {
        "id": [f"{names[row]}@{start}" for row, start in places],
        "row": [row for row, _ in places],
        "start": [start for _, start in places],
    }
    return Dataset.from_dict(columns).with_transform(DecodeSegments(encoded, rate, length))
