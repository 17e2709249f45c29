"""What waits for an import is done once, when nothing that it waits for is half imported."""

import importlib
import sys

import pytest

from mvat_hf.utils.imports import when_imported


@pytest.fixture
def calls(tmp_path, monkeypatch) -> list[bool]:
    """Modules `waited_outer`, which imports `waited_inner`, and `waited_broken`; whether the outer one had run to its
    end when `note(calls)` was called."""
    (tmp_path / "waited_outer.py").write_text("import waited_inner\ndone = True\n")
    (tmp_path / "waited_inner.py").write_text("")
    (tmp_path / "waited_broken.py").write_text("import waited_inner\nraise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("outer", "inner", "broken"):
        monkeypatch.delitem(sys.modules, f"waited_{name}", raising=False)
    yield []
    for name in ("outer", "inner", "broken"):
        sys.modules.pop(f"waited_{name}", None)


def note(calls: list[bool]):
    return lambda: calls.append(hasattr(sys.modules.get("waited_outer"), "done"))


def test_it_is_done_once_and_after_the_module_has_run(calls):
    finders = list(sys.meta_path)
    when_imported(note(calls), "waited_outer")
    assert not calls
    outer = importlib.import_module("waited_outer")
    assert calls == [True] and sys.meta_path == finders
    importlib.reload(outer)
    assert calls == [True]


def test_of_several_modules_that_import_one_another_it_is_done_after_the_last(calls):
    when_imported(note(calls), "waited_inner", "waited_outer")
    importlib.import_module("waited_outer")
    assert calls == [True]


def test_what_is_there_already_is_not_waited_for(calls):
    importlib.import_module("waited_outer")
    when_imported(note(calls), "waited_outer")
    assert calls == [True]


def test_an_import_that_fails_is_waited_for_further(calls):
    when_imported(note(calls), "waited_broken", "waited_outer")
    with pytest.raises(RuntimeError, match="broken"):
        importlib.import_module("waited_broken")
    assert not calls
    importlib.import_module("waited_outer")
    assert calls == [True]
