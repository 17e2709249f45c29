"""Statistics against what they estimate, tables that say what the record says, pictures that are drawn."""

import numpy as np
import pytest

from mvat_hf.report import add_statistics, interval, render_differences, render_report, render_table, write_report

METRICS = ["pesq", "stoi", "si_sdr"]


def system(name: str, scores: np.ndarray, failures=(), **described) -> dict:
    """A system of a record, from its scores (files, metrics)."""
    by_file = {f"file_{number}": dict(zip(METRICS, map(float, row), strict=True)) for number, row in enumerate(scores)}
    return {"name": name, "scored": len(scores), "failures": list(failures), "scores": by_file, **described}


@pytest.fixture
def record() -> dict:
    """Noisy, a better system, and one that is better by the same on every file but the last, which it lacks."""
    rng = np.random.default_rng(0)
    noisy = rng.normal([1.6, 0.9, 8], [0.2, 0.02, 3], (30, 3))
    first = noisy + rng.normal([0.5, 0.02, 5], 0.01, (30, 3))
    second = first[:-1] + np.array([0.1, 0.01, 1])
    lost = [{"id": "file_29", "reason": "silent"}]
    systems = [
        system("noisy", noisy),
        system("first", first, parameters=10, flops_4s=1e9, real_time_factor=0.1),
        system("second", second, lost, parameters=20, flops_4s=2e9, real_time_factor=0.2),
    ]
    about = {"name": "test", "files": 30, "sampling_rate": 16000}
    return add_statistics({"dataset": about, "metrics": METRICS, "threads": 1, "systems": systems})


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = interval(rng.normal(0, 1, 40))
        covered += low <= 0 <= high
    assert 178 <= covered <= 199  # 95 % of 200, and three standard deviations


def test_an_interval_needs_three_files_and_may_have_no_width():
    assert interval([1.0, 2.0]) is None
    assert interval([1.0, 1.0, 1.0]) == [1.0, 1.0]


def test_paired_differences_are_taken_file_by_file(record):
    second = record["systems"][2]["differences"]["pesq"]
    assert second["files"] == 29
    assert second["mean"] == pytest.approx(0.1)
    low, high = second["interval"]
    assert high - low < 1e-6  # though the means of both systems are known to 0.1 only
    assert record["systems"][1]["differences"] == {}
    assert record["systems"][0]["differences"]["si_sdr"]["mean"] == pytest.approx(-5, abs=0.1)


def test_tables_show_means_intervals_and_failures(record):
    table = render_table(record)
    means, ends = record["systems"][1]["means"], record["systems"][1]["intervals"]
    assert f"{means['pesq']:.2f} [{ends['pesq'][0]:.2f}, {ends['pesq'][1]:.2f}]" in table
    assert "29 of 30" in table.splitlines()[-1]
    assert "| second | +0.10" in render_differences(record)
    assert "- second: file_29: silent" in render_report(record)


def test_what_was_not_measured_is_said(record):
    record["systems"][1] |= {"means": {}, "intervals": {}}
    assert "not measured" in render_table(record)


def test_a_report_has_its_pictures(record, tmp_path):
    audio = np.random.default_rng(0).normal(size=4000)
    write_report(tmp_path / "new" / "folder", record, {"best": {"noisy": audio, "enhanced": audio, "clean": audio}})
    written = {path.name: path.stat().st_size for path in (tmp_path / "new" / "folder").iterdir()}
    pictures = {"gain_over_snr.png", "scatter.png", "quality_against_cost.png", "spectrograms.png"}
    assert written.keys() == {"results.json", "results.md", *pictures}
    assert all(written[name] > 5000 for name in pictures)
