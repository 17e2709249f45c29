"""The format in which a `datasets.Dataset` gives recordings as arrays: columns of `datasets.Audio`, read by `audio`.

Rows hold encoded audio, {"bytes", "path"}, or a reference to what a `Maker` makes when asked for it. The format works
column by column, so that the operations of `datasets` work as on any data set: what is not encoded audio stays as it
is. It is a format of its own and no `with_transform`, since `save_to_disk` can write a format, but no function.
"""

import io
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import pyarrow
import pyarrow.compute
import soundfile
from datasets import Audio, Dataset, Features, Value, formatting
from datasets.formatting.formatting import Formatter, LazyBatch
from fsspec import AbstractFileSystem, register_implementation
from pyarrow.compute import binary_join_element_wise as join

from .audio import describe_files, read_mono
from .matching import SIDES, DataError, as_samples, check_lengths, source_of

FORMAT = "mvat_hf"  # the name under which `datasets` knows it
RATE = 16000  # Hz, of columns that do not say
MADE = "mvat-made"  # the protocol of references; a path is "mvat-made://MAKER/KEY/SIDE.wav"
MAKERS: "dict[str, Maker]" = {}  # of this process, by their name in references


class Maker(Protocol):
    """A maker of recordings on access: mixtures, segments."""

    @property
    def sampling_rate(self) -> int:
        """Rate of the recordings, in Hz."""
        ...

    def pair(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """(clean, noisy), each (time,), for the `key` of a reference."""
        ...

    def describe(self) -> dict[str, dict]:
        """Its sources, for the record of a run."""
        ...

    def stamp(self) -> str:
        """It changes with what they are made of, and how."""
        ...


class Recordings(dict):
    """How the recordings of a data set are read: all are encoded audio. A mapping, {}, which `save_to_disk` can write;
    its class makes the format known to processes that are sent the data set."""


class MadeRecordings(Recordings):
    """The same where some are references to what `makers`, by their names there, make on access. No file holds it."""

    def __init__(self, makers: Mapping[str, Maker]):
        super().__init__(made=True)
        self.makers = makers
        MAKERS.update(makers)

    def items(self):
        """`save_to_disk` calls it: DataError."""
        raise DataError(
            "the audio of this data set is made when it is asked for, no file can hold that: save what "
            "mvat_hf.data.formatting.recorded(dataset) gives"
        )

    def __eq__(self, other) -> bool:
        return isinstance(other, MadeRecordings) and self.makers.keys() == other.makers.keys()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self):
        return MadeRecordings, (self.makers,)

    def __deepcopy__(self, memo) -> "MadeRecordings":
        return self  # makers do not change; the operations of `datasets` copy the format they pass on


class MadeFiles(AbstractFileSystem):
    """The references as files of fsspec, in wav: so `push_to_hub` and `to_parquet` take the audio along."""

    protocol = MADE

    def _open(self, path: str, mode: str = "rb", **kwargs) -> io.BytesIO:
        reference = split_reference(self.unstrip_protocol(path))
        pair, rate = follow(reference), MAKERS[reference[0]].sampling_rate
        return io.BytesIO(wav_of(pair[SIDES.index(reference[2])], rate))

    def info(self, path: str, **kwargs) -> dict[str, Any]:
        return {"name": path, "size": len(self._open(path).getvalue()), "type": "file"}


register_implementation(MADE, MadeFiles, clobber=True)


def split_reference(path: str) -> tuple[str, str, str]:
    """(maker, key, side) of a reference."""
    maker, key, side = path.removeprefix(f"{MADE}://").split("/")
    return maker, key, side.removesuffix(".wav")


def follow(reference: tuple[str, str, str]) -> tuple[np.ndarray, np.ndarray]:
    """(clean, noisy) that a reference is to; DataError where this process does not have its maker."""
    maker, key, side = reference
    if maker not in MAKERS:
        raise DataError(
            f"{side} {key} is made when it is asked for, and what makes it is not here: expected the data set as it "
            "was loaded, or what mvat_hf.data.formatting.recorded gives of it"
        )
    return MAKERS[maker].pair(key)


class RecordingFormatter(Formatter):
    """Gives the columns of `datasets.Audio` as arrays (time,) float32 at their sampling rate, `RATE` where they name
    none; lists of numbers in "clean" and "noisy" as such arrays too; all else as `datasets` does.

    Raises:
        FileNotFoundError, AudioError: a file that cannot be read. DataError: clean and noisy of unlike lengths.
    """

    def __init__(self, recordings: Mapping[str, Any], features: Features | None = None, token_per_repo_id=None):
        super().__init__(features, token_per_repo_id)
        self.rates = {
            name: kind.sampling_rate or RATE for name, kind in (features or {}).items() if isinstance(kind, Audio)
        }

    def format_row(self, pa_table: pyarrow.Table) -> dict[str, Any]:
        return {name: values[0] for name, values in self.decode(pa_table).items()}

    def format_column(self, pa_table: pyarrow.Table) -> list:
        return self.decode(pa_table)[pa_table.column_names[0]]

    def format_batch(self, pa_table: pyarrow.Table) -> "RecordingBatch":
        return RecordingBatch(pa_table, self)

    def decode(self, table: pyarrow.Table) -> dict[str, list]:
        """The columns of a table, decoded."""
        batch = dict(self.python_arrow_extractor().extract_batch(table))
        others = {name: values for name, values in batch.items() if name not in self.rates}
        batch |= self.python_features_decoder.decode_batch(others) if others else {}
        batch |= {name: [as_array(value, name) for value in others[name]] for name in SIDES if name in others}
        ids = batch.get("id", [None] * table.num_rows)
        made: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
        for name in self.rates.keys() & batch.keys():
            batch[name] = [self.read(name, *cell, made) for cell in zip(batch[name], ids, strict=True)]
        if {*SIDES} <= self.rates.keys() & batch.keys() and self.rates["clean"] == self.rates["noisy"]:
            for row, pair in enumerate(zip(batch["clean"], batch["noisy"], strict=True)):
                check_lengths(str(ids[row]), *map(len, pair))
        return batch

    def read(self, name: str, value: Any, row: Any, made: dict[tuple[str, str], tuple]) -> Any:
        """The recording of a cell of column `name`, in the row of that id; `made` keeps the pairs of one table."""
        reference = reference_of(value)
        if reference is not None:
            maker, key, side = reference
            if (maker, key) not in made:
                made[maker, key] = follow(reference)
            return made[maker, key][SIDES.index(side)]
        if value is None and name not in SIDES:
            return None
        return read_mono(source_of(value, name, row), self.rates[name])


class RecordingBatch(LazyBatch):
    """A batch whose audio is read once some of it is asked for: `datasets` passes on whole what no function touches."""

    def __init__(self, pa_table: pyarrow.Table, formatter: RecordingFormatter):
        super().__init__(pa_table, formatter)
        self.decoded: dict[str, list] = {}

    def format(self, key: str) -> list:
        if not isinstance((self.formatter.features or {}).get(key), Audio):
            return super().format(key)
        if not self.decoded:
            self.decoded = self.formatter.decode(self.pa_table)
        return self.decoded[key]


formatting._register_formatter(RecordingFormatter, FORMAT)


def as_array(value: Any, side: str) -> Any:
    """A list of numbers as an array (time,) float32, anything else as it is; DataError for integers, whose full scale
    a list does not tell."""
    if isinstance(value, list) and value and all(isinstance(sample, (int, float)) for sample in value):
        return as_samples(value, side)
    return value


def reference_of(value: Any) -> tuple[str, str, str] | None:
    """(maker, key, side) of a cell that refers to what a `Maker` makes; None of any other."""
    path = value.get("path") if isinstance(value, Mapping) and value.get("bytes") is None else None
    return split_reference(path) if path is not None and path.startswith(f"{MADE}://") else None


def references(maker: str, keys: pyarrow.Array, side: str) -> pyarrow.Array:
    """A column of references to the "clean" or "noisy" side of what a maker makes of `keys`, strings."""
    return encoded_paths(join(f"{MADE}://{maker}", keys, f"{side}.wav", "/"))


def encoded_paths(paths: pyarrow.Array) -> pyarrow.Array:
    """A column of encoded audio of these paths, strings."""
    return pyarrow.StructArray.from_arrays([pyarrow.nulls(len(paths), pyarrow.binary()), paths], ["bytes", "path"])


def audio_rows(ids: pyarrow.Array, sides: Mapping[str, pyarrow.Array], sampling_rate: int) -> Dataset:
    """Rows {"id", "clean", "noisy"} of encoded audio that is to be decoded at `sampling_rate` Hz."""
    audio = Audio(sampling_rate=sampling_rate, decode=False)
    return Dataset.from_dict({"id": ids, **sides}, Features({"id": Value("string"), **dict.fromkeys(sides, audio)}))


def decoded(dataset: Dataset, sampling_rate: int | None = None) -> Dataset:
    """
    A data set of pairs whose items are arrays (time,) float32: as it is where they are, else in this format.

    It takes what `load_dataset` and `load_from_disk` give of a data set that was pushed or saved, or any with columns
    of `datasets.Audio`.

    Args:
        sampling_rate: in Hz, of all columns of audio; None for their own, or `RATE` of those that name none.

    Raises:
        DataError: mixtures or segments that are made at another rate.
    """
    makers = makers_of(dataset)
    for name, kind in dataset.features.items():
        if isinstance(kind, Audio):
            wanted = Audio(sampling_rate=sampling_rate or kind.sampling_rate or RATE, decode=False)
            if makers and kind.sampling_rate != wanted.sampling_rate:
                raise DataError(
                    f"{name} is made at {kind.sampling_rate} Hz, expected {wanted.sampling_rate}: load it at that rate"
                )
            dataset = dataset if kind == wanted else dataset.cast_column(name, wanted)
    recordings = MadeRecordings(makers) if makers else Recordings()
    given = dataset.format
    if given["type"] not in (None, FORMAT) or given["format_kwargs"] == {"recordings": recordings}:
        return dataset
    return dataset.with_format(FORMAT, recordings=recordings)


def makers_of(dataset: Dataset) -> dict[str, Maker]:
    """The makers that the references of a data set are to, those of them that this process has."""
    names: set[str] = set()
    for name, kind in dataset.features.items():
        if isinstance(kind, Audio):
            paths = pyarrow.compute.struct_field(dataset.data[name], "path")
            found = pyarrow.compute.extract_regex(paths, f"^{MADE}://(?P<maker>[^/]*)/")
            names |= set(pyarrow.compute.struct_field(found, "maker").unique().to_pylist())
    return {name: MAKERS[name] for name in names if name in MAKERS}


def made_dataset(ids: pyarrow.Array, keys: pyarrow.Array, maker: Maker) -> Dataset:
    """Rows {"id", "clean", "noisy"} that `maker` makes of `keys`, strings without "/", when they are asked for."""
    name = uuid4().hex[:12]
    rows = audio_rows(ids, {side: references(name, keys, side) for side in SIDES}, maker.sampling_rate)
    return rows.with_format(FORMAT, recordings=MadeRecordings({name: maker}))


def recorded(dataset: Dataset, **options) -> Dataset:
    """
    The same items as audio that the data set holds, so that it can be saved, pushed and concatenated with others.

    Mixtures and segments are made here, once; a mixture that differs in each run of another seed then stays as it is.

    Args:
        options: of `datasets.Dataset.map`, `num_proc` for example.
    """
    names = [name for name, kind in dataset.features.items() if isinstance(kind, Audio)]
    rates = {name: dataset.features[name].sampling_rate or RATE for name in names}

    def encode(item: dict[str, Any]) -> dict[str, Any]:
        path = f"{item.get('id', 'audio')}.wav"
        return {name: {"bytes": wav_of(item[name], rates[name]), "path": path} for name in names}

    made = decoded(dataset).map(encode, features=dataset.features, **options)
    return made.with_format(FORMAT, recordings=Recordings())


def wav_of(audio: np.ndarray, sampling_rate: int) -> bytes:
    """(time,) float32 as the content of a wav file; no sample is changed."""
    file = io.BytesIO()
    soundfile.write(file, audio, sampling_rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def describe(dataset: Dataset) -> dict[str, dict]:
    """Files, hours and folders of what a data set is made of, for the record of a run."""
    if parts := [maker.describe() for maker in makers_of(dataset).values()]:
        if len(parts) == 1:
            return parts[0]
        return {f"{name} {number}": of for number, part in enumerate(parts, 1) for name, of in part.items()}
    if not isinstance(dataset.features.get("clean"), Audio):
        return {"pairs": {"rows": len(dataset)}}
    rows = dataset.with_format(None).select_columns([name for name in ("id", "clean") if name in dataset.features])
    return {"pairs": describe_files(source_of(row["clean"], "clean", row.get("id")) for row in rows)}
