"""The house stands: packages import downwards only, no modules in a circle, and nothing lies about at the top."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "mvat_hf"
# what each package (or module at the top) may import beside itself; all is below it, in the order of this table
FLOORS = {
    "utils": set(),
    "models": set(),
    "data": {"utils"},
    "metrics": {"utils"},
    "losses": {"models"},
    "distillation": {"models", "losses"},
    "acceleration": {"models", "utils"},
    "inference": {"models", "data", "acceleration", "utils"},
    "evaluation": {"inference", "data", "metrics", "models", "acceleration", "utils"},
    "hub": {"evaluation", "models", "metrics", "acceleration", "utils"},
    "training": {"hub", "models", "data", "losses", "distillation", "metrics", "acceleration", "utils"},
}
TOP = {"__init__", "__main__", "app", "cli"}  # may import everything
# tried, and done without where the code travels alone
OFFERED = {
    "models.manner.configuration_manner": {"models.services"},
    "models.manner.feature_extraction_manner": {"models.services"},
    "models.manner.loss_manner": {"models.spectral_terms"},
    "models.manner.modeling_manner": {"models.services"},
    "models.manner.pipeline_manner": {"inference.chunks", "data.audio"},
    "models.services": {"acceleration.folding"},  # `model.fuse()` is a door to it
}
AT_THE_TOP = {"__init__.py", "__main__.py", "py.typed", "app.py", "README.md"}


def modules() -> dict[str, Path]:
    """All modules of the package by their names without "mvat_hf."; a package is its __init__."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path, known: set[str]) -> set[str]:
    """The modules of ours that a module imports, wherever in it."""
    here = name.split(".") if path.stem == "__init__" and name != "__init__" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets = []
        if isinstance(node, ast.Import):
            targets = [alias.name.removeprefix("mvat_hf.") for alias in node.names if alias.name.startswith("mvat_hf.")]
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            module = node.module or ""
            if not node.level and module.split(".")[0] != "mvat_hf":
                continue
            base = ".".join([*above, *([module.removeprefix("mvat_hf").lstrip(".")] if module else [])]).strip(".")
            targets = [f"{base}.{alias.name}".strip(".") for alias in node.names] + [base]
            targets = targets[:-1] if all(target in known for target in targets[:-1]) else targets
        found |= {target for target in targets if target in known}
    return found - {name}


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    found = modules()
    arrows = {name: imports(name, path, set(found)) for name, path in found.items()}
    for name, offered in OFFERED.items():
        assert offered <= arrows[name]
        arrows[name] -= offered
    return arrows


def test_there_are_arrows(arrows):
    assert (
        "models.manner.modeling_manner" in arrows["models.manner.auto_manner"]
        and "inference.enhancing" in arrows["inference.live"]
    )


def test_imports_point_downwards(arrows):
    wrong = []
    for name, targets in arrows.items():
        package = name.split(".")[0]
        if package in TOP:
            continue
        allowed = FLOORS[package] | {package}
        wrong += [f"{name} -> {target}" for target in sorted(targets) if target.split(".")[0] not in allowed]
    assert not wrong


def test_the_table_of_floors_points_downwards():
    below: set[str] = set()
    for package, allowed in FLOORS.items():
        assert allowed <= below, f"{package} may import {sorted(allowed - below)}, which come later"
        below.add(package)


def test_the_model_stands_alone(arrows):
    """It travels to the Hub as remote code."""
    wrong = [
        f"{name} -> {target}"
        for name, targets in arrows.items()
        for target in targets
        if name.startswith("models.manner") and not target.startswith("models.manner")
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle(arrows):
    # a package's __init__ gives names of its modules, which may ask for it to run first
    inits = {name for name, path in modules().items() if path.stem == "__init__"}
    graph = {name: targets - inits for name, targets in arrows.items() if name not in inits}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_only_packages_and_few_files_stand_at_the_top():
    found = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert found <= AT_THE_TOP
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == {*FLOORS, "cli"}
