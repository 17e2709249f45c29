"""Cards and README tables are what their records render to, and the embedded weights are those that were measured."""

import json
from pathlib import Path

import pytest
from huggingface_hub import CardData

from mvat_hf.data.audio import read_mono
from mvat_hf.hub.cards import card_metadata, fill_block, read_records, render_results, render_validation
from mvat_hf.inference.enhancing import enhance
from mvat_hf.models.manner import MannerModel
from mvat_hf.models.manner.snapshot_manner import SNAPSHOTS
from mvat_hf.utils.records import weights_hash

REPOSITORY = Path(__file__).parents[2]
CARDS = sorted(path.parent for path in (REPOSITORY / "model_cards").glob("*/about.md"))


def test_rendered_files_are_up_to_date(load_script):
    script = load_script("render_cards.py")
    stale = [str(path) for path, content in script.rendered().items() if path.read_text() != content]
    assert not stale, "run scripts/render_cards.py"


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_embedded_weights_are_the_measured_ones(folder):
    measured = weights_hash(MannerModel.from_pretrained(SNAPSHOTS / folder.name))
    for path in sorted(folder.glob("eval_*.json")):
        record = json.loads(path.read_text())
        system = next(system for system in record["systems"] if system["name"] == folder.name)
        assert system["weights_sha256"] == measured


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_the_history_ends_with_the_release(folder):
    """Else run scripts/release_history.py."""
    last = json.loads((folder / "history.json").read_text())["releases"][-1]["scores"]
    for path in sorted(folder.glob("eval_*.json")):
        record = json.loads(path.read_text())
        released = next(system for system in record["systems"] if system["name"] == folder.name)
        measured = {"files": record["dataset"]["files"], **released["means"]}
        assert last[record["dataset"]["name"]].items() <= measured.items()


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_the_release_beats_the_noisy_input(folder):
    for path in sorted(folder.glob("eval_*.json")):
        noisy, *models = json.loads(path.read_text())["systems"]
        released = next(system for system in models if system["name"] == folder.name)
        for metric in ("pesq", "si_sdr"):
            common = released["scores"].keys() & noisy["scores"].keys()
            assert sum(released["scores"][file][metric] - noisy["scores"][file][metric] for file in common) > 0


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_the_release_keeps_the_sign_and_the_level_of_speech(folder):
    """PESQ, STOI and SI-SDR are blind to both, mixing the input back is not."""
    clean = read_mono(REPOSITORY / "scripts" / "demo" / "sample_clean.flac", 16000)
    noisy = read_mono(REPOSITORY / "scripts" / "demo" / "sample_noisy.flac", 16000)
    enhanced = enhance(MannerModel.from_pretrained(SNAPSHOTS / folder.name), noisy, 16000)
    assert 0.7 < enhanced @ clean / (clean @ clean) < 1.3


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_a_mean_over_fewer_files_says_so_in_the_card(folder):
    training, (record, *_) = read_records(folder)
    released = next(system for system in record["systems"] if system["name"] == folder.name)
    released["scores"].popitem()
    released["scored"] -= 1
    files = record["dataset"]["files"]
    metadata = card_metadata(folder.name, CardData(), training, [record])
    assert {result.dataset_name.split(", ")[-1] for result in metadata.eval_results} == {
        f"{files - 1} of {files} pairs"
    }
    assert f"Over the {files - 1} files that all rows have a score of" in render_results([record])
    chosen = training["chosen"]
    assert "not scored" not in render_validation({**chosen, "eval_unscorable": 0})
    assert render_validation({**chosen, "eval_unscorable": 2}).endswith(" (2 files not scored).")


def test_blocks_are_filled_or_missed():
    assert fill_block("a <!-- x -->old<!-- /x --> b", "x", "new") == "a <!-- x -->\nnew\n<!-- /x --> b"
    with pytest.raises(ValueError, match="no block"):
        fill_block("nothing", "x", "new")
