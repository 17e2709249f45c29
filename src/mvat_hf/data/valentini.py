"""The noisy speech corpus of Valentini-Botinhao et al. (VoiceBank-DEMAND, Edinburgh DataShare 2791).

As unpacked folders, or in the form of the Hub's `JacobLinCool/VoiceBank-DEMAND-16k`.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.errors import need
from .matching import DataError, Pair, PartialDataWarning, few, match_files
from .pairs import pairs_dataset
from .parquet import load_parquet, parquet_files
from .resampled import resampled_copies

if TYPE_CHECKING:
    from datasets import Dataset

VALENTINI_SPLITS = ("train", "validation", "test")
VALIDATION_SPEAKERS = ("p282", "p287")  # upstream's
# of the whole corpus: card of JacobLinCool/VoiceBank-DEMAND-16k; of 56 speakers, the count published of the corpus
FULL_PAIRS = {"trainset_28spk_wav": 11572, "trainset_56spk_wav": 23075, "testset_wav": 824}


def load_valentini(
    root: str | Path,
    split: str,
    *,
    speakers: int = 28,
    validation_speakers: Sequence[str] = VALIDATION_SPEAKERS,
    sampling_rate: int = 16000,
    cache_dir: str | Path | None = None,
) -> "Dataset":
    """
    Pairs of one split; items are {"id", "clean", "noisy"}, arrays (time,) at `sampling_rate` Hz.

    A copy that is not whole is used with a `PartialDataWarning` that says how much is missing, files without a partner
    are left out and named there. A file that cannot be read is an error when its item is asked for.

    Args:
        root: folder that holds `clean_trainset_28spk_wav`, `noisy_trainset_28spk_wav` (or 56spk), `clean_testset_wav`
            and `noisy_testset_wav`, in wav or flac at any rate; or a folder of `train-*.parquet` and `test-*.parquet`
            (or one with these in `data/`) with columns id, clean and noisy; or, where there is no such folder, the id
            of such a data set on the Hub, "owner/name".
        split: "train", "validation" (the training files of `validation_speakers`) or "test".
        speakers: 28 or 56, the training set to use; the test set is the same.
        validation_speakers: held out of training; their names stand before the underscore of the ids.
        sampling_rate: in Hz.
        cache_dir: folder for copies of wav and flac files of other rates, see `resampled_copies`. None resamples
            whenever an item is asked for. The samples are the same.

    Raises:
        DataError: unknown split or validation speaker, missing folder, a data set that the Hub does not give, no file
            left, or `speakers` or `cache_dir` beside parquet files.
    """
    need("data", "datasets", "filelock")
    if split not in VALENTINI_SPLITS:
        raise DataError(f'unknown split "{split}" of Valentini, expected one of: {", ".join(VALENTINI_SPLITS)}')
    if isinstance(validation_speakers, str):
        validation_speakers = (validation_speakers,)
    if speakers not in (28, 56):
        raise DataError(f"Valentini has training sets of 28 and 56 speakers, got {speakers}")
    part = "testset_wav" if split == "test" else f"trainset_{speakers}spk_wav"
    files = parquet_files(root, "test" if split == "test" else "train")
    alone: list[str] = []
    if files:
        if cache_dir is not None:
            raise DataError(f"cache_dir keeps copies of wav and flac files, {root} has parquet files: expected None")
        if speakers != 28:
            raise DataError(f"{root} has the training set of 28 speakers, got speakers={speakers}")
        rows = load_parquet(files)
        names = list(rows["id"])
    else:
        pairs, alone = match_files(Path(root) / f"clean_{part}", Path(root) / f"noisy_{part}", lambda path: path.stem)
        names = [pair.id for pair in pairs]
    warn_if_partial(root, part, len(names), alone)
    chosen = indices_of(names, split, validation_speakers, root)
    if files:
        from .formatting import decoded

        return decoded(rows.select(chosen), sampling_rate)
    pairs = [pairs[index] for index in chosen]
    return pairs_dataset(pairs if cache_dir is None else cached_pairs(pairs, sampling_rate, cache_dir), sampling_rate)


def indices_of(names: Sequence[str], split: str, validation_speakers: Sequence[str], root: str | Path) -> list[int]:
    """Which of the recordings `names` belong to a split; DataError where there is none, or no such speaker."""
    known = sorted({speaker_of(name) for name in names})
    unknown = [speaker for speaker in validation_speakers if speaker not in known]
    if split != "test" and unknown and tuple(validation_speakers) != VALIDATION_SPEAKERS:
        raise DataError(f"{root} has no speaker {few(unknown)} to validate on, there are: {', '.join(known)}")
    held = [index for index, name in enumerate(names) if speaker_of(name) in validation_speakers]
    parts = {"test": range(len(names)), "validation": held, "train": sorted({*range(len(names))} - {*held})}
    if not (chosen := list(parts[split])):
        raise DataError(f"{root}: no {split} files with validation speakers {', '.join(validation_speakers)}")
    return chosen


def speaker_of(name: str) -> str:
    """ "p226" of "p226_001"."""
    return name.split("_")[0]


def warn_if_partial(root: str | Path, part: str, count: int, alone: Sequence[str]) -> None:
    """PartialDataWarning, at the caller of `load_valentini`, if pairs are missing, too many or without partner."""
    full, found = FULL_PAIRS.get(part, count), []
    if count < full:
        found.append(f"{count:,} of {full:,} pairs are here, {full - count:,} are missing")
    elif count > full:
        found.append(f"{count:,} pairs are here, {count - full:,} more than it has")
    if alone:
        found.append(f"left out for want of a partner: {len(alone)} ({few(alone)})")
    if found:
        warnings.warn(f"{root} is not the whole {part}: {'; '.join(found)}", PartialDataWarning, stacklevel=3)


def cached_pairs(pairs: Sequence[Pair], sampling_rate: int, folder: str | Path) -> list[Pair]:
    """`pairs` with their `resampled_copies`."""
    copies = resampled_copies([path for pair in pairs for path in (pair.clean, pair.noisy)], sampling_rate, folder)
    return [Pair(pair.id, *files) for pair, *files in zip(pairs, copies[::2], copies[1::2], strict=True)]
