"""Cards and README tables are what their records render to, and the embedded weights are those that were measured."""

import json
from pathlib import Path

import pytest
from huggingface_hub import CardData, ModelCard

from mvat_hf import DistillationTrainer, MannerConfig
from mvat_hf.data.audio import read_mono
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.evaluation.report import paired
from mvat_hf.hub.cards import (
    CITATION,
    about_sections,
    card_metadata,
    fill_block,
    of_the_hub,
    read_records,
    with_earlier_releases,
)
from mvat_hf.hub.run_cards import render_run_card
from mvat_hf.hub.sections import render_recogniser, render_results, render_twin, render_validation
from mvat_hf.inference.enhancing import enhance
from mvat_hf.models.manner import MannerModel
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.training.arguments import DistillationConfig
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


@pytest.mark.parametrize(
    "folder", [folder for folder in CARDS if (folder / "history.json").is_file()], ids=lambda folder: folder.name
)
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
            common = sorted(released["scores"].keys() & noisy["scores"].keys())
            gained = [released["scores"][file][metric] - noisy["scores"][file][metric] for file in common]
            assert paired(gained)["interval"][0] > 0


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
    assert ("knowledge-distillation" in metadata.tags) == ("teacher" in metadata.to_dict())
    assert {result.dataset_name.split(", ")[-1] for result in metadata.eval_results} == {
        f"{files - 1} of {files} pairs"
    }
    assert f"Over the {files - 1} files that all rows have a score of" in render_results([record])
    chosen = training["chosen"]
    assert "not scored" not in render_validation({**chosen, "eval_unscorable": 0})
    assert render_validation({**chosen, "eval_unscorable": 2}).endswith(" (2 files not scored).")


def test_a_twin_without_a_teacher_is_what_the_model_is_compared_with():
    def system(name: str, score: float) -> dict:
        return {"name": name, "scores": {"a": {"pesq": score}, "b": {"pesq": score + 0.5}}, "failures": []}

    systems = [system("noisy", 1.5), system("small", 2.25), system("small-plain", 2.0)]
    record = {"dataset": {"name": "dns test"}, "metrics": ["pesq"], "systems": systems}
    section = render_twin("small", [record])
    assert "| minus small-plain | PESQ-WB | files |" in section and "| small | +0.25 " in section
    assert "differences" not in systems[2]  # the record is left as it is
    assert render_twin("noisy", [record]) == ""


def test_a_row_of_earlier_weights_says_so(tmp_path):
    for name in ("large", "small"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "about.md").touch()
        (tmp_path / name / "training.json").write_text("{}")
        systems = [{"name": "noisy"}, {"name": name, "weights_sha256": f"of {name}"}]
        (tmp_path / name / "eval_dns.json").write_text(json.dumps({"systems": systems}))
    rows = [("noisy", None), ("small", "of small"), ("small-plain", "b"), ("large", "before"), ("other", "c")]
    record = {"systems": [{"name": name, "weights_sha256": weights} for name, weights in rows]}
    told = [system["name"] for system in with_earlier_releases(record, tmp_path)["systems"]]
    assert told == ["noisy", "small", "small-plain", "large, an earlier release", "other"]
    assert record["systems"][3]["name"] == "large"


def test_a_recogniser_is_told_of_where_it_was_measured(tmp_path):
    assert render_recogniser(tmp_path, "a") == ""
    rows = [
        {"snr": snr, "dry": dry, "word_error_rate": rate, "low": rate - 0.01, "high": rate + 0.02}
        for snr, rate in ((0.0, 0.5), (10.0, 0.25))
        for dry in (1.0, 0.0, 0.1)
    ]
    record = {"recordings": 4, "words": 50, "weights_sha256": "a", "rows": rows}
    (tmp_path / "recogniser.json").write_text(json.dumps(record))
    section = render_recogniser(tmp_path, "a")
    assert section.startswith("## For a speech recogniser") and "4 validation recordings with 50 words" in section
    assert "earlier release" not in section and "earlier release" in render_recogniser(tmp_path, "b")
    assert "| SNR (dB) | noisy | `dry` 0 | `dry` 0.1 |" in section
    assert "| 10 | 25% (24% to 27%) |" in section


def test_blocks_are_filled_or_missed():
    assert fill_block("a <!-- x -->old<!-- /x --> b", "x", "new") == "a <!-- x -->\nnew\n<!-- /x --> b"
    with pytest.raises(ValueError, match="no block"):
        fill_block("nothing", "x", "new")


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_a_card_comes_to_use_and_results_before_the_rest(folder):
    card = ModelCard.load(folder / "README.md")
    titles = [line.removeprefix("## ") for line in card.text.splitlines() if line.startswith("## ")]
    heard = ["For a speech recogniser"] if (folder / "recogniser.json").is_file() else []
    assert titles == ["Use", "Results", *heard, "Limits", "Data", "Lineage", "Framework versions", "Citation"]
    lineage = card.text.split("## Lineage")[1].split("## ")[0]
    if (folder / "lineage.json").is_file():
        stages = json.loads((folder / "lineage.json").read_text())["stages"]
        assert lineage.count("\n| ") == len(stages) + 2  # the head and the line below it
    assert ("HISTORY.md" in lineage) == (folder / "HISTORY.md").is_file()
    assert len(card.data.datasets) == len(set(card.data.datasets)) > 1


def test_about_lacks_no_part():
    family = "## Limits\n\nMany."
    with pytest.raises(ValueError, match="expected a summary, ## Limits and ## Data, got summary, limits"):
        about_sections(family, "A model.")
    sections = about_sections(family, "A model.\n\n## Data\n\nSpeech.\n\n## Limits\n\nMore.")
    assert sections == {"summary": "A model.", "limits": "More.", "data": "Speech."}


def test_the_citation_of_cards_is_that_of_the_readme():
    assert CITATION in (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize(
    ("begun_at", "expected"),
    [
        ("owner/name", {"base_model": "owner/name"}),
        ("owner/this", {}),  # an earlier release of itself
        ("runs/teacher", {}),
        ("/a/folder", {}),
        (None, {}),
    ],
)
def test_a_base_model_is_another_one_of_the_hub(begun_at, expected):
    assert of_the_hub("base_model", begun_at, but="owner/this") == expected


@pytest.fixture
def distillation(tmp_path) -> DistillationTrainer:
    """A trainer that has not trained, of a student that is smaller than its teacher."""
    student, teacher = (MannerModel(MannerConfig(hidden_size=size, depth=2)) for size in (8, 12))
    teacher.config._name_or_path = teacher.name_or_path = "owner/teacher"
    args = DistillationConfig(
        str(tmp_path / "run"), beta=0.5, hub_model_id="owner/student", learning_rate=0.0123, eval_strategy="no",
        save_strategy="no", load_best_model_at_end=False, use_cpu=True,
    )  # fmt: skip
    return DistillationTrainer(student, args=args, data_collator=SegmentCollator(0.1), teacher=teacher)


def test_the_card_of_a_run_names_teacher_method_and_hyperparameters(distillation, tmp_path):
    distillation.create_model_card(license="mit", tags="mine", dataset=["owner/speech", "owner/noise"])
    card = ModelCard.load(tmp_path / "run" / "README.md")
    assert card.data.license == "mit" and card.data.datasets == ["owner/speech", "owner/noise"]
    assert {"mine", "knowledge-distillation"} <= set(card.data.tags)
    for said in (
        "owner/speech", "teacher: owner/teacher", "MultiViewAttentionTransfer, beta 0.5", "learning_rate 0.0123",
        "**Not measured on a test set.**", "- torch ", "@inproceedings",
    ):  # fmt: skip
        assert said in card.text


def test_the_card_of_an_unknown_run_says_so():
    card = ModelCard(render_run_card("owner/name", MannerConfig.from_preset("manner-s-2.2gf")))
    assert "Not recorded." in card.text and card.data.get("datasets") is None
    assert "knowledge-distillation" not in card.data.tags
