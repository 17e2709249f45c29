"""The DNS Challenge data of Interspeech 2020 as its users have it on disk: test sets, and training mixed on the fly."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .audio import find_audio
from .mixing import Mixer, MixingOptions
from .pairs import DataError, match_pairs, pairs_dataset, require_folder

if TYPE_CHECKING:
    from datasets import Dataset

TEST_SETS = {"test": "no_reverb", "no_reverb": "no_reverb", "with_reverb": "with_reverb"}
DNS_SPLITS = ("train", "validation", *TEST_SETS)
HELD_OUT_SHARE = 0.1  # of the noise types, and of the speakers where there is no clean_valid folder


def load_dns(
    root: str | Path,
    split: str,
    *,
    size: int | None = None,
    seed: int = 0,
    mixing: MixingOptions | None = None,
    sampling_rate: int = 16000,
) -> "Dataset":
    """
    Pairs of one split; items are {"id", "clean", "noisy"}, arrays (time,) at `sampling_rate` Hz.

    Args:
        root: folder that holds `datasets/` (`clean`, `noise`, `test_set`; optionally `clean_valid`), or that folder.
        split: "train": mixtures made on the fly from `clean` and `noise`; "validation": fixed mixtures of the whole
            files of `clean_valid` (else of a tenth of the speakers) with a tenth of the noise types, both held out of
            training; "test" or "no_reverb", "with_reverb": the synthetic test sets.
        size: number of mixtures; by default 10 per speech file to train, one to validate.
        seed: of the training mixtures; validation does not depend on it.
        mixing: how to mix; the challenge's ranges by default.

    Raises:
        DataError: unknown split, missing folder, no files, or test files without a partner of the same fileid.
    """
    if split not in DNS_SPLITS:
        raise DataError(f'unknown split "{split}" of DNS, expected one of: {", ".join(DNS_SPLITS)}')
    root = require_folder(Path(root))
    data = root / "datasets" if (root / "datasets").is_dir() else root
    if size is not None and size < 1:
        raise DataError(f"size must be at least one mixture, got {size}")
    if split in TEST_SETS:
        folder = data / "test_set" / "synthetic" / TEST_SETS[split]
        return pairs_dataset(match_pairs(folder / "clean", folder / "noisy", key=fileid), sampling_rate)

    options = replace(mixing or MixingOptions(), sampling_rate=sampling_rate)
    clean, held_out_clean = split_speech(data)
    noise, held_out_noise = hold_out(files_below(data / "noise"), data / "noise")
    if split == "validation":
        whole_files = replace(options, seconds=None)
        return mixtures(Mixer(held_out_clean, held_out_noise, whole_files), size or len(held_out_clean))
    return mixtures(Mixer(clean, noise, options, seed), size or 10 * len(clean))


def mixtures(mixer: Mixer, size: int) -> "Dataset":
    """The first `size` mixtures of `mixer` as a `datasets.Dataset` that makes them on access."""
    from datasets import Dataset

    return Dataset.from_dict({"index": list(range(size))}).with_transform(mixer)


def fileid(path: Path) -> str:
    """ "fileid_133" of `clnsp104_…_fileid_133.flac`; DataError where there is none."""
    found = re.search(r"fileid_\d+", path.stem)
    if found is None:
        raise DataError(f"{path} has no fileid_N in its name, expected one as in the DNS test sets")
    return found[0]


def split_speech(data: Path) -> tuple[list[Path], list[Path]]:
    """(training, validation) speech files: `clean_valid` is validation where it exists, else speakers are held out."""
    clean = files_below(data / "clean")
    if (data / "clean_valid").is_dir():
        return clean, files_below(data / "clean_valid")
    return hold_out(clean, data / "clean")


def files_below(folder: Path) -> list[Path]:
    """Audio files below `folder`; DataError if there are none."""
    files = find_audio(require_folder(folder))
    if not files:
        raise DataError(f"{folder} holds no audio files")
    return files


def group_of(path: Path) -> str:
    """What is held out together with a file, by its path below the data folder."""
    reader = re.search(r"reader_\d+", path.name)
    return path.parts[0] if len(path.parts) > 1 or reader is None else reader[0]


def hold_out(files: Sequence[Path], folder: Path) -> tuple[list[Path], list[Path]]:
    """(kept, held out): whole sub-folders (speakers, noise types), or the readers that the corpus' flat names tell
    ("…_reader_06709_0.wav"), else single files.

    The choice depends on the names alone, so that every run and machine holds out the same.
    """
    groups = {path: group_of(path.relative_to(folder)) for path in files}
    names = sorted(set(groups.values()))
    if len(names) < 2:
        raise DataError(f"{folder} has {len(names)} group or file, expected at least 2 to hold some out for validation")
    chosen = np.random.default_rng(0).permutation(len(names))[: max(1, round(HELD_OUT_SHARE * len(names)))]
    held_out = {names[index] for index in chosen}
    kept = [path for path in files if groups[path] not in held_out]
    return kept, [path for path in files if groups[path] in held_out]
