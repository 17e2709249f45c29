"""What several test files use: a small model, speech, a Hub, scripts, the recordings beside the repository if there."""

import contextlib
import gc
import importlib.util
import io
import multiprocessing
import os
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace

import datasets
import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from transformers.utils import logging

from forks import Forks
from hub_checkpoints import write_card
from hub_server import Hub
from mvat_hf import MannerConfig, MannerModel
from mvat_hf.hub.push import save_checkpoint

REPOSITORY = Path(__file__).parents[1]
# the files that take longest come first: of the workers that share the files, none is left with one at the end
LONGEST = (
    "scripts/test_scripts.py", "acceleration/test_export.py", "acceleration/test_exported_model.py",
    "scripts/test_study.py", "cli/test_cold_start.py", "training/test_distillation_trainer.py",
    "evaluation/test_evaluating.py", "inference/test_exported_checkpoints.py", "acceleration/test_folding.py",
    "evaluation/test_systems.py", "evaluation/test_journal.py", "inference/test_live.py",
    "cli/test_enhance_command.py", "training/test_resuming_and_processes.py", "scripts/test_train_family.py",
    "test_wheel.py", "training/test_manner_teacher.py", "hub/test_push.py", "inference/test_threads.py",
    "hub/test_loading.py", "training/test_run.py", "training/test_validation.py", "cli/test_evaluate_command.py",
    "acceleration/test_incremental.py", "models/test_checkpoints.py", "test_readme.py", "data/test_formatting.py",
    "training/test_trainer.py", "test_page_browser.py", "hub/test_cards.py", "metrics/test_scoring.py",
    "models/test_remote_code.py", "cli/test_info_command.py", "metrics/test_nonintrusive.py",
)  # fmt: skip


def pytest_collection_modifyitems(config, items):
    """The longest files first; leave out what is slow, except in CI and where it is asked for."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    if os.environ.get("CI") == "true" or "slow" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: CI=true or -m slow runs it"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small are faster on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def nothing_looked_through_twice():
    """Trainers have all objects looked through for garbage, often: those that a file of tests finds there are left out,
    as are a million of the libraries."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_pauses():
    """Of five seconds each, at the end of a pass over the files of a stream and of a worker that reads no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
        patch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_progress_bars():
    """Of transformers, when tests load and save: what commands and warnings say is read to the letter."""
    logging.disable_progress_bar()


@pytest.fixture(scope="session", autouse=True)
def runtime(tmp_path_factory) -> Iterator[None]:
    """Checkpoints run in PyTorch, so that outputs are compared to the bit, and what is cached stays among the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MVAT_RUNTIME", "torch")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of recordings and reference numbers beside the repository; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data").is_dir() or not (folder / "reference").is_dir():
        pytest.skip(f"needs the recordings and reference numbers of {folder}, which are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """forks.run(code, *arguments, env=…): how a program of its own ended that need not load torch again."""
    ours = Forks()
    yield ours
    ours.close()


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Imports a file below `scripts/`, which is no package."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / "scripts" / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def run_here(script: str, *arguments: object) -> SimpleNamespace:
    """What `python scripts/SCRIPT …` gives (returncode, stdout, stderr), in this process and on one thread."""
    from mvat_hf.training import run

    out, err, code, threads = io.StringIO(), io.StringIO(), 0, torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        patch.syspath_prepend(str((REPOSITORY / "scripts" / script).parent))
        patch.setattr(run, "usable_cores", lambda: 1)
        try:
            runpy.run_path(str(REPOSITORY / "scripts" / script), run_name="__main__")
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
            print(ended.code, file=sys.stderr)
        finally:
            torch.set_num_threads(threads)
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Processes started within are on one core, where the system has such a thing: alone, they take it for one thread,
    and compute to the bit what `run_here` does."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.fixture(scope="session")
def hub_server() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture
def hub(hub_server, hub_user) -> Hub:
    """An empty Hub that behaves, and a user who has nothing of it."""
    shutil.rmtree(Path(hub_user["HF_HOME"]) / "hub", ignore_errors=True)
    for state in (hub_server.repos, hub_server.stored, hub_server.requests, hub_server.faults):
        state.clear()
    hub_server.at_half_upload = None
    return hub_server


@pytest.fixture(scope="session")
def hub_user(hub_server, tmp_path_factory) -> dict[str, str]:
    """Environment of a process that knows the Hub and has a token for it and a cache of its own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return ours | {
        "HF_ENDPOINT": hub_server.url,
        "HF_TOKEN": "hf_test",
        "HF_HOME": str(tmp_path_factory.mktemp("user")),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY / "src"),
    }


@pytest.fixture(scope="session")
def at_home(hub_user) -> Callable:
    """at_home(function, *args): its result in a new process of that user.

    The address of the Hub is read when huggingface_hub is imported; processes forked after the imports start at once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "mvat_hf.training.trainer", "mvat_hf.hub.cards", "mvat_hf.hub.push"])

    def run(function, *args):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(function, *args).result()

    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - hub_user.keys():
            patch.delenv(name)
        for name, value in hub_user.items():
            patch.setenv(name, value)
        run(os.getpid)
    return run


@pytest.fixture(scope="session")
def hub_model(tiny_model) -> MannerModel:
    """What tests push to the Hub and load from it."""
    return tiny_model(seed=1, attention_levels="deepest")


@pytest.fixture
def hub_checkpoint(hub_model, tmp_path) -> Path:
    """A measured checkpoint as `mvat push` wants it, but for its export, beside what a run leaves."""
    folder = save_checkpoint(hub_model, tmp_path / "checkpoint")
    write_card(folder)
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "optimizer.pt").write_bytes(b"another")
    (folder / "model.onnx").write_bytes(b"no graph")
    return folder


@pytest.fixture
def checkpoint(tiny_model, tmp_path) -> str:
    """Folder of a small model, as the command takes it."""
    return str(save_checkpoint(tiny_model(attention_levels="deepest"), tmp_path / "checkpoint"))


@pytest.fixture
def wav(tmp_path) -> Path:
    """A fifth of a second of stereo noise."""
    path = tmp_path / "in.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((4410, 2)), 22050)
    return path


def error_of(capsys) -> str:
    """The one line by which a command that failed says so."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(scope="session")
def speech() -> list[np.ndarray]:
    """Six clean sentences by six (synthetic) voices, each (time,) float32 at 16 kHz."""
    paths = sorted((REPOSITORY / "scripts" / "demo" / "speech").glob("*/0.ogg"))
    recordings = [soundfile.read(path, dtype="float32") for path in paths]
    assert len(recordings) == 6 and all(rate == 16000 for _, rate in recordings)
    return [audio for audio, _ in recordings]


@pytest.fixture(scope="session")
def manner() -> MannerModel:
    """A small network whose batch norms have seen noise: without that its output is next to nothing."""
    torch.manual_seed(0)
    model = MannerModel(MannerConfig(hidden_size=8, depth=2, attention_levels="deepest")).train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(4, 4000))
        model.output.weight.mul_(20)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_model():
    """Factory of small models in evaluation mode: tiny_model(seed=…, **config)."""
    return build_model


@torch.no_grad()
def build_model(seed: int = 0, **config) -> MannerModel:
    """A small model whose output is as loud as its input, every parameter and batch-norm statistic off its default.

    A model fresh from its initialisation is next to silent: any comparison of its outputs would pass.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MannerModel(MannerConfig(**{"hidden_size": 6, "depth": 2, **config})).train()
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.normal_(0.1, 0.1)
            norm.momentum = None  # statistics become the mean over all passes
        for _ in range(2):
            model(torch.randn(2, 1500))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()
        audio = torch.randn(2, 1500)
        model.output.weight.div_(model(audio).audio_values.std())
        model.output.bias.fill_(0.05)
    return model
