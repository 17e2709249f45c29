"""The options of data, a class for what kinds of data sets share, or have alone."""

from dataclasses import dataclass, field

from ..data.valentini import VALIDATION_SPEAKERS


@dataclass
class SourceArguments:
    """Which data, and options of all kinds of it."""

    dataset: str = field(
        default="dns", metadata={"help": "dns, valentini; of your own: pairs, mixed (speech and noise), hub."}
    )
    data_root: str = field(default="", metadata={"help": "Folder of dns, valentini, hub, or Hub id of the last two."})
    segment_seconds: float = field(default=4.0, metadata={"help": "Length of a training crop."})
    validation_files: int | None = field(
        default=None, metadata={"help": "Validate on so many files only, spread over all."}
    )


@dataclass
class PairsArguments:
    """Two folders with recordings of the same names, and others to validate on."""

    clean: str = field(default="", metadata={"help": "pairs: folder of clean recordings."})
    noisy: str = field(default="", metadata={"help": "pairs: folder of noisy recordings of the same names."})
    validation_clean: str = field(default="", metadata={"help": "pairs: folder of clean recordings to validate on."})
    validation_noisy: str = field(default="", metadata={"help": "pairs: folder of their noisy versions."})


@dataclass
class ValidationShareArguments:
    """The share of recorded pairs to validate on."""

    validation_share: float = field(
        default=0.1, metadata={"help": "pairs, hub: share of the pairs to validate on, if nothing else is given."}
    )


@dataclass
class HubArguments:
    """Which columns and splits of a data set of the Hub, or of a folder of one."""

    clean_column: str = field(default="clean", metadata={"help": "hub: column of clean audio."})
    noisy_column: str = field(default="noisy", metadata={"help": "hub: column of noisy audio."})
    train_split: str = field(default="train", metadata={"help": "hub: split to train on."})
    validation_split: str | None = field(
        default=None, metadata={"help": "hub: split to validate on; by default a share of the training split."}
    )
    shuffle_buffer: int = field(
        default=256,
        metadata={"help": "hub, streaming: rows in the shuffle buffer; 0 keeps their order."},
    )


@dataclass
class MixedArguments:
    """Speech and noise of one's own, mixed on the fly as those of DNS."""

    speech: str = field(default="", metadata={"help": "mixed: folder of clean speech, a sub-folder a speaker."})
    noise: str = field(default="", metadata={"help": "mixed: folder of noise, a sub-folder a kind."})


@dataclass
class SegmentArguments:
    """How recorded pairs are cut."""

    segments: str = field(
        default="random",
        metadata={
            "help": "pairs, hub, valentini: random (a crop of every file, another each epoch) or hop (all of a grid)."
        },
    )
    hop_seconds: float = field(
        default=1.0, metadata={"help": "pairs, hub, valentini: between the starts of two hop segments."}
    )


@dataclass
class ValentiniArguments:
    """Which part of the corpus."""

    speakers: int = field(default=28, metadata={"help": "valentini: the training set of 28 or of 56 speakers."})
    validation_speakers: str = field(
        default=",".join(VALIDATION_SPEAKERS), metadata={"help": "valentini: held out of training to validate on."}
    )
    cache_dir: str | None = field(
        default=None, metadata={"help": "valentini: keep files of other rates here, resampled; the result is the same."}
    )


@dataclass
class MixingArguments:
    """How speech and noise are mixed on the fly."""

    snr_low: float = field(default=0.0, metadata={"help": "dns, mixed: lowest SNR of a training mixture, dB."})
    snr_high: float = field(default=40.0, metadata={"help": "dns, mixed: highest SNR of a training mixture, dB."})
    level_low: float = field(default=-35.0, metadata={"help": "dns, mixed: lowest level of a training mixture, dBFS."})
    level_high: float = field(
        default=-15.0, metadata={"help": "dns, mixed: highest level of a training mixture, dBFS."}
    )
    silence_seconds: float = field(
        default=0.0, metadata={"help": "dns, mixed: silence between recordings that are joined (the challenge: 0.2)."}
    )
    active_snr: bool = field(default=False, metadata={"help": "dns, mixed: measure the SNR where the noise is active."})
    speaker_power: float = field(
        default=1.0,
        metadata={"help": "dns, mixed: speakers are heard by this power of their number of files (0: all alike)."},
    )


@dataclass
class StreamArguments:
    """Data without an end."""

    streaming: bool = field(
        default=False,
        metadata={
            "help": "dns, mixed, hub: endless mixtures in order, or rows as they are read and never all downloaded; "
            "needs max_steps."
        },
    )


@dataclass
class DnsArguments:
    """Which part of the corpus."""

    dns_source: str | None = field(
        default=None, metadata={"help": "dns: mixed (on the fly) or synthesised; by default what the folder holds."}
    )
