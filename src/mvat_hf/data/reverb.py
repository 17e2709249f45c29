"""Rooms: impulse responses from files or simulated, and speech heard through them with the direct path as target."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .audio import find_audio, read_audio, resample
from .augment import fast_length, option

MAX_SECONDS = 2.0  # of a response that is used, from its beginning
WALL = 0.3  # m, at least between source or microphone and any wall
HEIGHT = (2.4, 4.0)  # m, range of ceilings


@dataclass
class Rooms:
    """Shoe-box rooms, simulated where there are no impulse responses; sizes and times are drawn uniformly."""

    room_count: int = option(64, "dns, mixed: simulated rooms, with one speaker and one microphone each.")
    rt60_low: float = option(0.2, "dns, mixed: shortest reverberation time of a simulated room, s.")
    rt60_high: float = option(0.6, "dns, mixed: longest reverberation time of a simulated room, s; 1 s is slow.")
    room_low: float = option(3.0, "dns, mixed: shortest side of a simulated room, m (ceilings: 2.4 to 4 m).")
    room_high: float = option(8.0, "dns, mixed: longest side of a simulated room, m.")

    def __post_init__(self):
        if self.room_count < 1:
            raise ValueError(f"room_count must be at least 1, got {self.room_count}")
        if not 0.1 <= self.rt60_low <= self.rt60_high:
            raise ValueError(
                f"expected 0.1 <= rt60_low <= rt60_high in seconds, got {self.rt60_low} and {self.rt60_high}"
            )
        if not 1 <= self.room_low <= self.room_high:
            raise ValueError(f"expected 1 <= room_low <= room_high in m, got {self.room_low} and {self.room_high}")


@dataclass(frozen=True)
class ResponseFiles:
    """
    Impulse responses (time,) float32 at `sampling_rate` Hz, read on access: the first channel and 2 s of every file.

    Args:
        files: audio files.
    """

    files: Sequence[Path]
    sampling_rate: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(self.files[index])

    def read(self, path: Path) -> np.ndarray:
        """The response in a file."""
        audio, rate = read_audio(path)
        return resample(audio[:1, : round(MAX_SECONDS * rate)], rate, self.sampling_rate)[0]


def response_files(folder: Path, sampling_rate: int) -> ResponseFiles:
    """The responses below `folder`, without the recordings of noise that OpenSLR 28 has among them."""
    return ResponseFiles([path for path in find_audio(folder) if "noise" not in path.name.lower()], sampling_rate)


def simulate_rooms(rooms: Rooms, sampling_rate: int, seed: int = 0) -> list[np.ndarray]:
    """
    Impulse responses (time,) float32 of `rooms`, by the image method (Allen and Berkley 1979) of pyroomacoustics.

    Walls absorb evenly, as Sabine's formula asks for the reverberation time; a response ends that long after its
    direct path, 60 dB down. Computed on one thread, so that the same seed gives the same bits.

    Raises:
        ImportError: pyroomacoustics is not installed. ValueError: a room too large for its reverberation time.
    """
    try:
        import pyroomacoustics
    except ImportError as error:
        raise ImportError(
            "simulated rooms need pyroomacoustics (pip install 'mvat_hf[rooms]'), or put responses into "
            "datasets/impulse_responses"
        ) from error

    threads = pyroomacoustics.constants.get("num_threads")
    pyroomacoustics.constants.set("num_threads", 1)
    try:
        return [simulate_room(rooms, sampling_rate, np.random.default_rng([seed, n])) for n in range(rooms.room_count)]
    finally:
        pyroomacoustics.constants.set("num_threads", threads)


def simulate_room(rooms: Rooms, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """The response (time,) float32 of one random room between two random places."""
    import pyroomacoustics

    size = rng.uniform([rooms.room_low, rooms.room_low, HEIGHT[0]], [rooms.room_high, rooms.room_high, HEIGHT[1]])
    seconds = rng.uniform(rooms.rt60_low, rooms.rt60_high)
    speaker, microphone = rng.uniform(WALL, size - WALL, (2, 3))
    absorption, order = pyroomacoustics.inverse_sabine(seconds, size)
    room = pyroomacoustics.ShoeBox(
        size, fs=sampling_rate, materials=pyroomacoustics.Material(absorption), max_order=order
    )
    room.add_source(speaker)
    room.add_microphone(microphone)
    room.compute_rir()
    response = np.asarray(room.rir[0][0], dtype=np.float32)
    return response[: direct_path(response) + round(seconds * sampling_rate)]


def direct_path(response: np.ndarray) -> int:
    """Sample at which the direct sound arrives: that of the largest magnitude."""
    return int(np.abs(response).argmax())


def reverberate(speech: np.ndarray, response: np.ndarray, early: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Speech heard in a room, and the part of it that reaches the listener first.

    Both are advanced by the direct path's delay, so that they stand where `speech` does.

    Args:
        speech: (time,).
        response: impulse response of the room (time,).
        early: samples after the direct path that belong to the target.

    Returns:
        (reverberant, target), each (time,) float32 of the length of `speech`.
    """
    arrival = direct_path(response)
    size = fast_length(len(speech) + len(response))
    spectrum = np.fft.rfft(speech, size)
    reverberant, target = (
        np.fft.irfft(spectrum * np.fft.rfft(part, size), size)[arrival : arrival + len(speech)].astype(np.float32)
        for part in (response, response[: arrival + early + 1])
    )
    return reverberant, target
