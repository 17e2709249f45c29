"""Model cards and README tables, rendered from the records of `model_cards/NAME/`; no number in them is typed.

A folder there holds `about.md` (licence, languages and data sets as metadata; a summary and `## Data` in prose;
`family.md` beside the folders has `## Limits`, of all models), `training.json` (the last run's record), one
`eval_*.json` for every test set, and perhaps `recogniser.json` (of `scripts/benchmarks/recogniser.py`), `lineage.json`
(the stages of training), `HISTORY.md` with blocks for `trials.json` (records of short runs by which the recipe was
chosen) and `history.json` (what every release scored). The cards are filled from `templates/`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CardData, EvalResult, ModelCard, ModelCardData

from ..metrics.scoring import TITLES
from ..utils.records import read_json
from .sections import (
    TEST_SETS,
    render_cost,
    render_lineage,
    render_recogniser,
    render_results,
    render_training,
    render_twin,
    render_versions,
    scored_pairs,
)

TEMPLATES = Path(__file__).parent / "templates"


def read_records(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(training record, evaluation records) of a card's folder."""
    evaluations = [read_json(path) for path in sorted(folder.glob("eval_*.json"))]
    return read_json(folder / "training.json"), evaluations


def with_earlier_releases(record: Mapping[str, Any], cards: Path) -> dict[str, Any]:
    """An evaluation whose rows say where they are of other weights than those that the card of their model is of."""
    systems = []
    for system in record["systems"]:
        name, card = system["name"], cards / system["name"]
        present = released_weights(card) if (card / "about.md").is_file() else None
        earlier = present is not None and system["weights_sha256"] != present
        systems.append({**system, "name": f"{name}, an earlier release" if earlier else name})
    return {**record, "systems": systems}


def render_card(folder: str | Path) -> str:
    """The card of `model_cards/NAME`, with the Hub's metadata in front."""
    folder = Path(folder)
    training, evaluations = read_records(folder)
    told = [with_earlier_releases(record, folder.parent) for record in evaluations]
    about = ModelCard.load(folder / "about.md")
    metadata = card_metadata(folder.name, about.data, training, evaluations)
    heard = render_recogniser(folder, metadata["weights_sha256"])
    card = ModelCard.from_template(
        metadata,
        template_path=str(TEMPLATES / "release.md"),
        name=folder.name,
        usage=USAGE.format(repo=f"mvat/{folder.name}"),
        results="\n\n".join(filter(None, [render_results(told), render_twin(folder.name, evaluations)])),
        cost="\n\n".join(filter(None, [render_cost(folder.name), heard])),
        lineage=render_lineage(folder),
        training=render_training(training),
        versions=render_versions(training["environment"]["versions"]),
        citation=CITATION,
        history=(folder / "HISTORY.md").is_file(),
        **about_sections((folder.parent / "family.md").read_text(encoding="utf-8"), about.text),
    )
    return f"{card.content.rstrip()}\n"


def about_sections(family: str, about: str) -> dict[str, str]:
    """The sections of `family.md` and `about.md`; where both have one, that of `about.md`: "summary" before the first
    heading, "limits" and "data" below theirs.

    Raises:
        ValueError: one of them is not there.
    """
    sections = {}
    for text in (family, about):
        summary, *parts = ("\n" + text.strip()).split("\n## ")
        sections["summary"] = summary.strip()
        for part in parts:
            title, _, body = part.partition("\n")
            sections[title.strip().lower()] = body.strip()
    if sections.keys() != {"summary", "limits", "data"}:
        raise ValueError(f"expected a summary, ## Limits and ## Data, got {', '.join(sections)}")
    return sections


CITATION = """```bibtex
@inproceedings{shin2022mvat,
  title = {Multi-View Attention Transfer for Efficient Speech Enhancement},
  author = {Shin, Wooseok and Park, Hyun Joon and Kim, Jin Sob and Lee, Byung Hoon and Han, Sung Won},
  booktitle = {Interspeech}, year = {2022}, note = {arXiv:2208.10367}
}
@inproceedings{park2022manner,
  title = {{MANNER}: Multi-View Attention Network for Noise Erasure},
  author = {Park, Hyun Joon and Kang, Byung Ha and Shin, Wooseok and Kim, Jin Sob and Han, Sung Won},
  booktitle = {ICASSP}, year = {2022}, note = {arXiv:2203.02181}
}
```"""
USAGE = """```python
from transformers import pipeline

clean = pipeline("audio-to-audio", model="{repo}", trust_remote_code=True)
cleaned = clean("noisy.wav")  # {{"audio": numpy, "sampling_rate": that of the file}}, of the file's length
```

That needs transformers, soundfile and soxr. With `mvat_hf` installed, no code is taken from the Hub:

```python
from mvat_hf import MannerModel, enhance

model = MannerModel.from_pretrained("{repo}")
cleaned = enhance(model, "noisy.wav")  # {{"audio": numpy, "sampling_rate": Hz}}, as the file has it
```"""

# of every card
HUB_METADATA: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "audio-to-audio"}
TAGS = ["speech-enhancement", "denoising", "manner"]
DISTILLED_TAGS = ["knowledge-distillation"]


def publish_faults(card: Path, weights_sha256: str) -> list[str]:
    """
    Why weights of that hash (`records.weights_hash`) cannot be published with `card`: it lacks its licence, its data or
    its results, or its results were measured on other weights.
    """
    if not card.is_file():
        return [f"there is no card ({card.name})"]
    try:
        data = ModelCard.load(card).data
    except (yaml.YAMLError, ValueError) as error:
        return [f"the metadata of its card cannot be read: {error}"]
    needed = {"license": "licence (license)", "datasets": "data (datasets)", "eval_results": "results (model-index)"}
    faults = [f"its card names no {what}" for key, what in needed.items() if not data.get(key)]
    measured = data.get("weights_sha256")
    if measured is None:
        faults.append("its card does not say on which weights the results were measured (weights_sha256)")
    elif measured != weights_sha256:
        faults.append(f"its results were measured on other weights ({measured}) than these ({weights_sha256})")
    return faults


def measured_weights(name: str, evaluations: list[dict[str, Any]]) -> str:
    """Hash of the weights on which all results of a model were measured; ValueError if there are several."""
    systems = [system for record in evaluations for system in record["systems"] if system["name"] == name]
    hashes = {system["weights_sha256"] for system in systems}
    if len(hashes) != 1:
        raise ValueError(f"the results of {name} must be of one set of weights, got {len(hashes)}")
    return hashes.pop()


def released_weights(card: Path) -> str:
    """Hash of the weights that the card in a folder is of."""
    return measured_weights(card.name, read_records(card)[1])


def card_metadata(
    name: str, about: CardData, training: Mapping[str, Any], evaluations: list[dict[str, Any]]
) -> ModelCardData:
    """The Hub's metadata: licence, languages and data sets of `about`, every mean of this model as a result."""
    results = [
        EvalResult(
            task_type="audio-to-audio",
            task_name="Speech enhancement",
            dataset_type=TEST_SETS[record["dataset"]["name"]][2],
            dataset_name=f"{TEST_SETS[record['dataset']['name']][0]}, {scored_pairs(system, record)}",
            metric_type=key,
            metric_name=title,
            metric_value=round(system["means"][key], 4),
        )
        for record in evaluations
        for system in record["systems"]
        if system["name"] == name
        for key, title in TITLES.items()
    ]
    return ModelCardData(
        model_name=name,
        license=about.get("license"),
        language=about.get("language"),
        datasets=about.get("datasets"),
        tags=[*TAGS, *(DISTILLED_TAGS if training["teacher"] else [])],
        metrics=list(TITLES),
        eval_results=results,
        **of_the_hub("teacher", training["recipe"].get("teacher_model_name_or_path") if training["teacher"] else None),
        **of_the_hub("base_model", training["recipe"].get("init_from"), but=f"mvat/{name}"),
        weights_sha256=measured_weights(name, evaluations),
        **HUB_METADATA,
    )


def of_the_hub(key: str, model: str | None, but: str | None = None) -> dict[str, Any]:
    """{key: model} of a Hub id; {} for None, a folder, or `but`, the repo that is released itself."""
    named = model is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None
    local = str(model).startswith("runs/") or Path(str(model)).exists()
    return {key: str(model)} if named and not local and model != but else {}


def fill_block(text: str, name: str, content: str) -> str:
    """`text` with what stands between `<!-- NAME -->` and `<!-- /NAME -->` replaced.

    Raises:
        ValueError: the markers are not there.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise ValueError(f"no block {start} … {end} to fill")
    before, rest = text.split(start, 1)
    return f"{before}{start}\n{content}\n{end}{rest.split(end, 1)[1]}"
