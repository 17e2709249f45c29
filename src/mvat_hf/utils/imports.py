"""Actions after the import of a module, whoever imports it."""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec


def when_imported(action: Callable[[], object], *names: str) -> None:
    """Call `action` once, as soon as one of the modules `names` has been imported and none of them is being imported;
    now, if the first has been imported."""
    if names[0] in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, AfterImport(names, action))


class AfterImport(MetaPathFinder):
    """Finds modules by the finders after it, unchanged, and calls `action` after the modules have run."""

    def __init__(self, names: tuple[str, ...], action: Callable[[], object]) -> None:
        self.names, self.action = names, action
        self.on_their_way = 0  # one may import another

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module) -> None:
                self.on_their_way += 1
                try:
                    execute(module)
                finally:
                    self.on_their_way -= 1
                if not self.on_their_way and self in sys.meta_path:
                    sys.meta_path.remove(self)
                    self.action()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one loader
        return spec
