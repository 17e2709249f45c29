"""How many cores a process may use."""

import os

import pytest

from mvat_hf.utils import cores


@pytest.mark.parametrize(
    ("told", "expected"), [("150000 100000", 2), ("max 100000", 64), ("50000 100000", 1), (None, 64)]
)
def test_a_container_s_time_bounds_the_cores(told, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    if told is not None:
        (tmp_path / "cpu.max").write_text(told + "\n")
    assert cores.usable_cores() == expected
