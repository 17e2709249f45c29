"""What earlier releases scored is read from the history of a repository, and shown where it can be compared."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mvat_hf.hub.sections import render_history
from mvat_hf.metrics.scoring import TITLES

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("release_history.py")


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def commit(folder: Path, weights: str, score: float, validation_files: int = 24, peers: int = 1) -> None:
    """A release's records with every mean `score`, of the model and of `peers`."""
    scores = dict.fromkeys(TITLES, score)
    training = {
        "steps": 10, "validation_files": validation_files, "recipe": {"snr_low": -5},
        "chosen": {f"eval_{key}": score for key in TITLES},
    }  # fmt: skip
    systems = [{"name": "noisy", "means": dict.fromkeys(TITLES, 0.5)}]
    systems += [{"name": "model", "means": scores, "weights_sha256": weights}]
    systems += [{"name": f"peer {number}", "means": dict.fromkeys(TITLES, 2.0)} for number in range(peers)]
    (folder / "training.json").write_text(json.dumps(training))
    record = {"dataset": {"name": "dns test", "files": 75}, "systems": systems}
    (folder / "eval_dns.json").write_text(json.dumps(record))
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "a release")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three releases: one validated on other mixtures, one measured twice, the last."""
    git(tmp_path, "init")
    folder = tmp_path / "model_cards" / "model"
    folder.mkdir(parents=True)
    (folder / "about.md").write_text("about")
    commit(folder, "a", 1.0, validation_files=40)
    commit(folder, "b", 1.25)
    commit(folder, "b", 1.5, peers=2)
    commit(folder, "c", 1.75)
    return folder


def test_a_release_is_a_set_of_weights_with_its_last_records(script, folder):
    releases = script.read_history(folder)["releases"]
    assert [release["scores"]["dns test"]["pesq"] for release in releases] == [1.0, 1.5, 1.75]
    assert [release["scores"]["validation"]["si_sdr"] for release in releases] == [1.0, 1.5, 1.75]


def test_the_card_tells_what_was_measured_on_other_files(script, folder):
    (folder / "history.json").write_text(json.dumps(script.read_history(folder)))
    table, note = render_history(folder / "history.json").split("\n\n")
    _, _, first, second, third = table.splitlines()
    assert first.count("\\*") == len(TITLES)  # in validation
    assert "| 1.00\\* |" in first and "| 1.00 |" in first
    assert second.count(" 1.50 |") == third.count(" 1.75 |") == 4  # PESQ-WB and SI-SDR
    assert note.startswith("\\* on other files")


def test_the_picture_has_a_line_for_every_other_system(script, folder, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(script.Figure, "savefig", lambda figure, path, **_: drawn.append(figure))
    records = [json.loads((folder / "eval_dns.json").read_text())]
    script.quality_by_release(script.read_history(folder), records, tmp_path / "a.png")
    tests, validation = drawn[0].axes[0], drawn[0].axes[len(TITLES)]
    assert [line.get_label() for line in tests.get_lines()] == ["model", "noisy", "peer 0"]
    assert list(tests.get_lines()[0].get_ydata()) == [1.0, 1.5, 1.75]
    assert [list(line.get_xdata()) for line in validation.get_lines()] == [[1], [2, 3]]


def test_what_git_complains_of_is_told(script, tmp_path):
    with pytest.raises(ValueError, match="not a git repository"):
        script.read_history(tmp_path)
