"""Levels where noise is active: the window that is silent counts on neither side."""

import numpy as np
import pytest

from mvat_hf.data.levels import active_db, rms_db


def noise(length, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(length)


def test_only_windows_with_noise_count():
    speech, interference = noise(16000), noise(16000, 1)
    interference[:8000] = 0
    speech[:8000] *= 10  # loud, but where there is no noise
    assert active_db(speech, interference, 1600) == pytest.approx((rms_db(speech[8000:]), rms_db(interference[8000:])))


def test_noise_without_pause_is_measured_over_the_whole():
    speech, interference = noise(15000), noise(15000, 1)  # the last window is a short one
    assert active_db(speech, interference, 1600) == pytest.approx((rms_db(speech), rms_db(interference)))


def test_the_threshold_is_25_db_below_the_peak():
    interference = np.ones(3200)
    for level, counts in ((-24.9, True), (-25.1, False)):
        interference[1600:] = 10 ** (level / 20)
        _, measured = active_db(np.ones(3200), interference, 1600)
        assert measured == pytest.approx(rms_db(interference) if counts else 0.0, abs=1e-6)


@pytest.mark.parametrize("silent", [slice(None), slice(8000, None)])
def test_where_nothing_is_active_the_whole_counts(silent):
    speech, interference = noise(16000), noise(16000, 1)
    (interference if silent == slice(None) else speech)[silent] = 0
    if silent != slice(None):
        interference[:8000] = 0  # noise only where there is no speech
    assert active_db(speech, interference, 1600) == pytest.approx((rms_db(speech), rms_db(interference)))
