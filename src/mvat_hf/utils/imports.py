"""Modules that come late: names of a package that are loaded on first use, and what is done once another's is there."""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec


def when_imported(name: str, action: Callable[[], object]) -> None:
    """Call `action` at the end of the import of the module `name`: now if it is there already."""
    if name in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, AfterImport(name, action))


class AfterImport(MetaPathFinder):
    """Finds one module as the finders after it do, and calls `action` once that has run. It changes nothing in it."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self.name, self.action = name, action

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module) -> None:
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                    self.action()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one loader
        return spec
