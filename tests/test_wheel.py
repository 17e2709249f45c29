"""The distributions: what is in them, and that the wheel with one extra alone does what the README says it serves."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from uses_of_extras import USES

pytest.importorskip("setuptools", reason="needs setuptools to build with", minversion="77")

REPOSITORY = Path(__file__).parents[1]
CONSTRAINTS = REPOSITORY / ".ci" / "constraints.txt"
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def extras_within(extra: str) -> set[str]:
    """It, and the extras that it takes in, and those that these do."""
    named = [name for need in EXTRAS[extra] for name in Requirement(need).extras if "mvat_hf" in need]
    return {extra}.union(*map(extras_within, named))


NOT_IN_DEV = sorted(EXTRAS.keys() - extras_within("dev"))  # nothing of them is here: pip has to install them


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """The files of the repository, by their paths in it."""
    command = ["git", "-C", REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("needs a checkout: git says which files are part of the repository")
    return [Path(name) for name in done.stdout.splitlines() if (REPOSITORY / name).is_file()]


@pytest.fixture(scope="module")
def unpacked_sdist(files, tmp_path_factory) -> Path:
    """The source distribution of the repository, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    for file in files:
        (folder / "copy" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, folder / "copy" / file)
    [archive] = build("sdist", folder / "copy", folder / "dist")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(unpacked_sdist, tmp_path_factory) -> Path:
    """The wheel, built of the source distribution."""
    [wheel] = build("wheel", unpacked_sdist, tmp_path_factory.mktemp("wheel"))
    return wheel


def build(kind: str, source: Path, folder: Path) -> list[Path]:
    """Build the "sdist" or "wheel" of `source` into `folder`, without an environment of its own and so offline."""
    folder.mkdir(exist_ok=True)
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(folder.iterdir())


def test_the_source_distribution_holds_what_the_repository_holds(files, unpacked_sdist):
    missing = [str(file) for file in files if not (unpacked_sdist / file).is_file()]
    assert set(missing) <= {".gitignore"}


def test_the_wheel_holds_the_package_its_types_checkpoint_and_example(files, wheel):
    with zipfile.ZipFile(wheel) as packed:
        held = set(packed.namelist())
        [about] = [packed.read(name).decode() for name in held if name.endswith(".dist-info/METADATA")]
    source = {file.relative_to("src").as_posix() for file in files if file.parts[0] == "src"}
    assert {name for name in held if ".dist-info/" not in name} == source
    assert {"mvat_hf/py.typed", "mvat_hf/data/example.flac"} <= source
    assert "Project-URL: Homepage, https://huggingface.co/mvat" in about
    pictures = [line for line in about.splitlines() if line.startswith("![")]
    assert pictures and all("](https://" in line for line in pictures)


def requirements(distribution: metadata.Distribution, extra: str) -> list[Requirement]:
    """What the distribution with that extra, or "", needs here."""
    found = map(Requirement, distribution.requires or ())
    return [need for need in found if need.marker is None or need.marker.evaluate({"extra": extra})]


def closure(distribution: metadata.Distribution, extra: str) -> dict[str, metadata.Distribution]:
    """What pip would install with it, by name, of what is installed here; skips where something of it is not."""
    found: dict[str, metadata.Distribution] = {}
    waiting, seen = [(distribution, ""), (distribution, extra)], set()
    while waiting:
        holder, of = waiting.pop()
        for need in requirements(holder, of):
            if need.name == "mvat_hf":
                waiting += [(distribution, name) for name in need.extras]
                continue
            try:
                found[need.name.lower()] = needed = metadata.distribution(need.name)
            except metadata.PackageNotFoundError:
                pytest.skip(f"needs {need.name}, which is not installed here")
            for name in ("", *need.extras):
                if (need.name, name) not in seen:
                    seen.add((need.name, name))
                    waiting.append((needed, name))
    return found


@pytest.fixture(scope="module")
def package(wheel, tmp_path_factory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    return folder


def run_use(python: list[str], name: str, folder: Path, **environment: str) -> None:
    """Run a use of `uses_of_extras.py` in `folder`, offline."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    kept |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", **environment}
    command = [*python, "-P", str(REPOSITORY / "tests" / "support" / "uses_of_extras.py"), name, str(folder)]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "base" else pytest.mark.slow) for name in USES if name not in NOT_IN_DEV],
)
def test_with_the_packages_of_one_extra_alone(package, tmp_path, name):
    """Links to what pip would install stand in for an environment: no other package can be imported."""
    [about] = package.glob("*.dist-info")
    site = tmp_path / "site-packages"  # dill, of datasets, asks for that name before it takes a module for a library
    site.mkdir()
    for entry in package.iterdir():
        (site / entry.name).symlink_to(entry)
    for distribution in closure(metadata.Distribution.at(about), "" if name == "base" else name).values():
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    (tmp_path / "work").mkdir()
    run_use([sys.executable, "-S"], name, tmp_path / "work", PYTHONPATH=str(site))


@pytest.fixture(scope="module")
def installed_base(wheel, tmp_path_factory) -> Path:
    """A new environment with the wheel and no extra, from the package index."""
    folder = tmp_path_factory.mktemp("base")
    return install(folder / "environment", str(wheel))


def install(folder: Path, what: str, below: Path | None = None, pinned: bool = True) -> Path:
    """Interpreter of a new environment in `folder` with `what`, on top of what the environment `below` has, in the
    versions of CI if `pinned`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    ).stdout.strip()
    if below is not None:
        relative = Path(site).relative_to(folder)
        Path(site, "below.pth").write_text(f"{below.parents[1] / relative}\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", what]
    # a source tree on the path would pass for an installed package
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    pins = ["--constraint", CONSTRAINTS] if pinned else []
    done = subprocess.run([*pip, *pins], env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", *NOT_IN_DEV])
def test_installed_with_one_extra_alone(installed_base, wheel, tmp_path, name):
    python = installed_base
    if name != "base":
        python = install(
            tmp_path / "environment", f"{wheel}[{name}]", below=installed_base, pinned=name != "demo"
        )  # Gradio's pillow is older
    (tmp_path / "work").mkdir()
    run_use([str(python)], name, tmp_path / "work")


def test_every_extra_has_a_use():
    assert {*EXTRAS, "base"} == {*USES, "dev"}
