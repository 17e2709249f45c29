"""Word error rate of a speech recogniser: what noise, or an enhancement, does to what it understands."""

from functools import cache

import numpy as np

from ..utils.errors import extra
from .intrusive import UnscorableError, UsageError, check_pair, check_signal

RATE, LEVEL = 16000, 10 ** (-26 / 20)  # Hz; RMS of full scale that every recording is brought to


def word_error_rate(reference: np.ndarray, degraded: np.ndarray, sampling_rate: int) -> float:
    """
    Share of words that PocketSphinx, with the English model of its package, understands otherwise than in the clean
    recording: edits by the words that it hears there, 0 and up.

    It needs no transcript, and says nothing of how well the recogniser does on clean speech, which is not well: it is
    for comparing what is done to the same recordings, over many of them. A gain costs nothing. It takes about as long
    as the audio, on one core.

    Args:
        reference, degraded: (time,) at `sampling_rate` of 16000 Hz.

    Raises:
        UnscorableError: silence, NaN, or a reference in which no word is heard. UsageError: another rate.
        MissingExtraError: `mvat_hf[recogniser]` is not installed.
    """
    reference, degraded = check_pair(reference, degraded)
    expected = transcribe(reference, sampling_rate)
    if not expected:
        raise UnscorableError("word error rate: the recogniser hears no word in the reference")
    return word_errors(expected, transcribe(degraded, sampling_rate)) / len(expected)


def transcribe(audio: np.ndarray, sampling_rate: int) -> list[str]:
    """The words that the recogniser hears in audio (time,) at 16000 Hz; errors as of `word_error_rate`."""
    if sampling_rate != RATE:
        raise UsageError(f"the recogniser is for {RATE} Hz, got {sampling_rate} Hz")
    audio = check_signal(audio, "recording")
    samples = np.rint((audio * (LEVEL / audio.std())).clip(-1, 1) * (2**15 - 1)).astype("<i2")
    decoder = load_recogniser()
    decoder.start_stream()  # forgets the noise that it heard before
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr.split() if hypothesis else []


def word_errors(expected: list[str], got: list[str]) -> int:
    """The least number of words to change, add or leave out to make one of the other (Levenshtein)."""
    row = list(range(len(got) + 1))
    for count, word in enumerate(expected, 1):
        before, row[0] = row[0], count
        for index, other in enumerate(got, 1):
            before, row[index] = row[index], min(before + (word != other), row[index] + 1, row[index - 1] + 1)
    return row[-1]


def check_recogniser() -> None:
    """MissingExtraError if there is no recogniser."""
    with extra("recogniser"):
        import pocketsphinx  # noqa: F401


@cache
def load_recogniser():
    """The recogniser, which normalises each recording by itself."""
    check_recogniser()
    from pocketsphinx import Decoder

    # without its second pass over the words found, which takes as long as the first
    return Decoder(samprate=RATE, cmn="batch", fwdflat=False, loglevel="FATAL")
