"""Metrics on signals whose score is known, and on pairs they are not defined for."""

import numpy as np
import pytest

from mvat_hf.metrics import UnscorableError, composite, estoi, pesq, segmental_snr, si_sdr, stoi
from mvat_hf.metrics.intrusive import most_stretches


def noise(length=16000, seed=0):
    return np.random.default_rng(seed).standard_normal(length)


def at_snr(speech, snr_db, seed=0):
    """`speech` with white noise at a signal-to-noise ratio in dB."""
    added = noise(len(speech), seed)
    return speech + added * np.sqrt((speech @ speech) / (added @ added) / 10 ** (snr_db / 10))


@pytest.fixture(scope="module")
def sentence(speech):
    return speech[0][:40000].astype(np.float64)


def orthogonal(reference, seed=1):
    """Noise without mean and without a part along the reference, as strong as it."""
    reference, added = reference - reference.mean(), noise(len(reference), seed)
    added -= added.mean()
    added -= (added @ reference) / (reference @ reference) * reference
    return added * np.sqrt((reference @ reference) / (added @ added))


@pytest.mark.parametrize("ratio", [-20.0, 0.0, 12.3, 60.0])
def test_si_sdr_of_orthogonal_noise_is_its_ratio(ratio):
    reference = noise()
    assert si_sdr(reference, reference + orthogonal(reference) * 10 ** (-ratio / 20)) == pytest.approx(ratio, abs=1e-6)


def test_si_sdr_sees_no_scale_sign_or_mean():
    reference = noise()
    degraded = reference + 0.3 * orthogonal(reference)
    expected = si_sdr(reference, degraded)
    for changed in (1e-3 * degraded, 1e3 * degraded, -degraded, degraded + 5):
        assert si_sdr(reference, changed) == pytest.approx(expected, abs=1e-6)
        assert si_sdr(7 * reference - 1, changed) == pytest.approx(expected, abs=1e-6)
    assert si_sdr(reference, degraded, 48000) == expected  # the rate does not matter


@pytest.mark.parametrize("metric", [pesq, stoi, estoi, si_sdr])
def test_metrics_fall_as_noise_rises(metric, sentence):
    scores = [metric(sentence, at_snr(sentence, snr), 16000) for snr in (60, 25, 10, 0)]
    assert all(isinstance(score, float) for score in scores)
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4


def test_scores_near_the_top(sentence):
    almost = at_snr(sentence, 90)
    assert 4.6 < pesq(sentence, almost, 16000) <= 4.65
    assert 4.5 < pesq(sentence, almost, 16000, mode="nb") <= 4.56
    assert stoi(sentence, almost, 16000) == pytest.approx(1, abs=1e-4)
    assert estoi(sentence, almost, 16000) == pytest.approx(1, abs=1e-3)
    assert si_sdr(sentence, almost, 16000) == pytest.approx(90, abs=0.1)


def test_modes_are_different_measures(sentence):
    noisy = at_snr(sentence, 10)
    assert pesq(sentence, noisy, 16000, mode="nb") != pesq(sentence, noisy, 16000)
    assert estoi(sentence, noisy, 16000) < stoi(sentence, noisy, 16000)
    assert 1 < pesq(sentence[::2], noisy[::2], 8000, mode="nb") < 4.5


@pytest.mark.parametrize("metric", [pesq, stoi, si_sdr])
def test_float32_and_float64_score_alike(metric, sentence):
    noisy = at_snr(sentence, 10)
    single = metric(sentence.astype(np.float32), noisy.astype(np.float32), 16000)
    assert single == pytest.approx(metric(sentence, noisy, 16000), abs=1e-3)


@pytest.mark.parametrize(("mode", "rate"), [("wb", 8000), ("wb", 48000), ("nb", 44100), ("swb", 16000)])
def test_pesq_is_for_the_standards_rates_and_modes(mode, rate):
    with pytest.raises(ValueError, match=f'"{mode}" at {rate} Hz') as caught:
        pesq(noise(), noise(), rate, mode=mode)
    assert not isinstance(caught.value, UnscorableError)  # a mistake of the caller, not of a file


@pytest.mark.parametrize("metric", [pesq, stoi, estoi, si_sdr])
@pytest.mark.parametrize(
    ("reference", "degraded", "says"),
    [
        (np.zeros(16000), noise(), "reference is silent"),
        (noise(), np.zeros(16000), "degraded is silent"),
        (noise(), np.where(np.arange(16000) == 5, np.nan, noise()), "degraded holds NaN"),
        (np.where(np.arange(16000) == 5, np.inf, noise()), noise(), "reference holds NaN or infinity"),
        (noise(), noise(15999), r"\(16000,\) and \(15999,\)"),
        (noise()[None], noise()[None], r"\(1, 16000\)"),
        (noise(0), noise(0), "reference"),
    ],
)
def test_pairs_that_no_metric_is_defined_for(metric, reference, degraded, says):
    with pytest.raises(UnscorableError, match=says):
        metric(reference, degraded, 16000)


@pytest.mark.parametrize(("metric", "length"), [(pesq, 100), (pesq, 3900), (stoi, 10), (stoi, 300), (stoi, 5000)])
def test_too_short_for_the_metric(metric, length):
    with pytest.raises(UnscorableError, match=metric.__name__.upper()):
        metric(noise(length), noise(length, seed=1), 16000)


def bursts(count: int, seconds: float = 0.2, pause: float = 0.25) -> np.ndarray:
    """Noise that comes and goes, every burst an utterance to PESQ."""
    period, burst = round((seconds + pause) * 16000), round(seconds * 16000)
    audio = noise(count * period)
    audio[np.arange(len(audio)) % period >= burst] = 0
    return audio


@pytest.mark.parametrize("mode", ["wb", "nb"])
def test_more_utterances_than_pesq_holds_are_refused(mode):
    audio = bursts(60)
    with pytest.raises(UnscorableError, match="PESQ holds 50 utterances, 27 s may have more: cut the recording"):
        pesq(audio, audio + 0.01 * noise(len(audio), seed=1), 16000, mode=mode)
    audio = bursts(45)
    assert pesq(audio, audio + 0.01 * noise(len(audio), seed=1), 16000, mode=mode) > 1


def test_bursts_are_counted_at_any_level_and_above_a_floor():
    levels = np.repeat(10.0 ** -(np.arange(60) % 4 / 2), 7200)  # four levels, 10 dB apart
    for audio in (bursts(60), bursts(60) * levels, bursts(60) + 0.05 * noise(60 * 7200, seed=2)):
        assert most_stretches(audio, 16000) == 60
    assert most_stretches(bursts(30, pause=0.15), 16000) < 15  # such pauses are bridged


def test_a_minute_of_speech_is_scored_as_its_sentences_are(speech):
    pause, loudness = 1e-4 * noise(4800), 0.01
    audio = np.concatenate([np.concatenate([one, pause]) for one in speech] * 4)[: 60 * 16000]
    assert most_stretches(audio, 16000) < 50
    alone = [pesq(one, one + loudness * noise(len(one)), 16000) for one in speech]
    assert min(alone) < pesq(audio, audio + loudness * noise(len(audio)), 16000) < max(alone)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("gain", [1, 0.3, 0.5, 1 / 3, 1e-3, 7, -1])
def test_the_scaled_reference_has_no_si_sdr_whatever_the_rounding(gain, kind, sentence):
    for reference in (noise().astype(kind), sentence.astype(kind)):
        for degraded in (kind(gain) * reference, kind(gain) * reference + kind(1e-3)):
            with pytest.raises(UnscorableError, match="infinite"):
                si_sdr(reference, degraded)
            with pytest.raises(UnscorableError, match="infinite"):
                si_sdr(reference, degraded.astype(np.float64))


@pytest.mark.parametrize("bits", [8, 16, 20])
def test_si_sdr_of_a_copy_in_fewer_bits_is_that_of_its_rounding(bits):
    reference = np.sin(2 * np.pi * 0.0137 * np.arange(32000))
    copy = np.round(reference * 2 ** (bits - 1)) / 2 ** (bits - 1)
    assert si_sdr(reference, copy) == pytest.approx(6.02 * bits + 1.76, abs=0.5)
    assert si_sdr(reference.astype(np.float32), copy.astype(np.float32)) == pytest.approx(6.02 * bits + 1.76, abs=0.5)


def test_what_has_no_part_of_the_reference_has_no_si_sdr():
    reference = noise()
    with pytest.raises(UnscorableError, match="orthogonal"):
        si_sdr(reference, orthogonal(reference))
    assert si_sdr(reference, noise(seed=1)) < -20


@pytest.mark.parametrize("metric", [pesq, stoi, estoi, si_sdr, segmental_snr, composite])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_constant_or_very_faint_signal_is_silence(metric, kind, sentence):
    speech = sentence.astype(kind)
    for constant in (np.full(len(speech), 0.1, kind), np.full(len(speech), -1, kind)):
        with pytest.raises(UnscorableError, match="degraded is constant"):
            metric(speech, constant, 16000)
        with pytest.raises(UnscorableError, match="reference is constant"):
            metric(constant, speech, 16000)
    with pytest.raises(UnscorableError, match="reference is silent: its peak is"):
        metric(kind(1e-30) * speech, speech, 16000)


@pytest.mark.parametrize("metric", [pesq, stoi, estoi, segmental_snr])
def test_the_best_score_is_that_of_the_reference_itself(metric, sentence):
    best = metric(sentence, sentence, 16000)
    expected = {pesq: 4.644, stoi: 1, estoi: 1, segmental_snr: 35}[metric]
    assert best == pytest.approx(expected, abs=1e-3)
    assert metric(sentence, 0.3 * sentence, 16000) == pytest.approx(best, abs=1e-3)
    assert best >= metric(sentence, at_snr(sentence, 40), 16000)


@pytest.mark.parametrize("metric", [pesq, stoi, estoi, si_sdr])
def test_faint_recordings_score_as_loud_ones(metric, sentence):
    noisy = at_snr(sentence, 10)
    for gain in (1e-6, 1e-3, 100):
        assert metric(gain * sentence, gain * noisy, 16000) == pytest.approx(metric(sentence, noisy, 16000), abs=2e-3)


def test_estoi_neither_hears_nor_moves_the_random_generator(sentence):
    degraded = [at_snr(sentence[:32000], snr) for snr in (-5, 0, 5)]
    scores = set()
    for seed in range(4):
        np.random.seed(seed)
        scores.add(tuple(estoi(sentence[:32000], noisy, 16000) for noisy in degraded))
        after = np.random.standard_normal()
        np.random.seed(seed)
        assert after == np.random.standard_normal()
    assert len(scores) == 1  # to the bit


def test_inputs_are_left_alone(sentence):
    reference, degraded = sentence.copy(), at_snr(sentence, 10)
    before = degraded.copy()
    for metric in (pesq, stoi, si_sdr):
        metric(reference, degraded, 16000)
    np.testing.assert_array_equal(reference, sentence)
    np.testing.assert_array_equal(degraded, before)
