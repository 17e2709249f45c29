"""The noisy speech corpus of Valentini-Botinhao et al. (VoiceBank-DEMAND, Edinburgh DataShare 2791) on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .pairs import DataError, Pair, match_pairs, pairs_dataset

if TYPE_CHECKING:
    from datasets import Dataset

VALENTINI_SPLITS = ("train", "validation", "test")
VALIDATION_SPEAKERS = ("p282", "p287")  # upstream's


def load_valentini(
    root: str | Path,
    split: str,
    *,
    speakers: int = 28,
    validation_speakers: Sequence[str] = VALIDATION_SPEAKERS,
    sampling_rate: int = 16000,
) -> "Dataset":
    """
    Pairs of one split; items are {"id", "clean", "noisy"}, arrays (time,) at `sampling_rate` Hz.

    Args:
        root: folder that holds `clean_trainset_28spk_wav`, `noisy_trainset_28spk_wav` (or 56spk), `clean_testset_wav`
            and `noisy_testset_wav`, in wav or flac at any rate.
        split: "train", "validation" (the training files of `validation_speakers`) or "test".
        speakers: 28 or 56, the training set to use.
        validation_speakers: held out of training; their names stand before the underscore of the file names.

    Raises:
        DataError: unknown split, missing folder, a file without its partner, or no file left.
    """
    if split not in VALENTINI_SPLITS:
        raise DataError(f'unknown split "{split}" of Valentini, expected one of: {", ".join(VALENTINI_SPLITS)}')
    if isinstance(validation_speakers, str):
        validation_speakers = (validation_speakers,)
    if speakers not in (28, 56):
        raise DataError(f"Valentini has training sets of 28 and 56 speakers, got {speakers}")
    part = "testset_wav" if split == "test" else f"trainset_{speakers}spk_wav"
    pairs = match_pairs(Path(root) / f"clean_{part}", Path(root) / f"noisy_{part}")
    if split != "test":
        held_out = split == "validation"
        pairs = [pair for pair in pairs if (speaker_of(pair) in validation_speakers) == held_out]
    if not pairs:
        raise DataError(f"{root}: no {split} files with validation speakers {', '.join(validation_speakers)}")
    return pairs_dataset(pairs, sampling_rate)


def speaker_of(pair: Pair) -> str:
    """ "p226" of `p226_001.wav`."""
    return pair.clean.name.split("_")[0]
