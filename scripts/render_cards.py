"""Render every model card, and the tables of the README files, from their records.

    python scripts/render_cards.py [--pictures]

A block between `<!-- NAME -->` and `<!-- /NAME -->` is rendered; what stands around it is written by hand.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from mvat_hf.acceleration.runtime_choice import measured
from mvat_hf.evaluation.figures import COSTS, gain_over_snr, quality_against_cost
from mvat_hf.evaluation.report import markdown, show
from mvat_hf.hub.cards import fill_block, read_records, released_weights, render_card
from mvat_hf.hub.sections import TEST_SETS, render_history, render_results, render_trials, share_of_set
from mvat_hf.metrics.scoring import METRICS, QUICK
from mvat_hf.models.complexity import complexity
from mvat_hf.models.manner import MannerConfig
from mvat_hf.models.snapshots import SNAPSHOTS
from mvat_hf.utils.errors import run_script
from mvat_hf.utils.records import read_json, write_text

sys.path += [str(Path(__file__).parent / room) for room in ("benchmarks", "study")]  # which are no packages
from benchmark_tables import (
    UNKNOWN,
    processor,
    render_chunking,
    render_cold_start,
    render_full_band,
    render_live,
    render_long_file,
    render_many_files,
    render_small_install,
    render_speed,
    render_speed_gpu,
    render_training_step,
)
from method_figure import draw_method
from tables import PLAIN, differences, render_privileged, render_study, rows_of, spread

REPO = Path(__file__).parents[1]
SCRIPTS = REPO / "scripts"
PACKAGE = REPO / "src" / "mvat_hf"
RELEASE = REPO / "model_cards" / "manner-s-8.1gf"
USUAL_RUNTIME = "ONNX Runtime"  # of `mvat enhance` for 10 s if it is there, see `acceleration.runtime_choice`
FAMILY = ("manner-b", "manner-s", "manner-s-20.3gf", "manner-s-8.1gf", "manner-s-5.3gf", "manner-s-2.2gf")


def rendered() -> dict[Path, str]:
    """Every file that is rendered, with its content."""
    files = {SCRIPTS / "study" / "method.svg": draw_method()}
    for folder in sorted(path for path in (REPO / "model_cards").iterdir() if path.is_dir()):
        files[folder / "README.md"] = render_card(folder)
        history = f"model_cards/{folder.name}/HISTORY.md"
        if (REPO / history).is_file():
            fill(files, history, "trials", render_trials(folder / "trials.json"))
            fill(files, history, "releases", render_history(folder / "history.json"))
        if (SNAPSHOTS / folder.name).is_dir():
            files[SNAPSHOTS / folder.name / "README.md"] = files[folder / "README.md"]
    files[PACKAGE / "acceleration" / "measured.json"] = render_measured()
    speed, study, longer = (load(name) for name in ("benchmarks/inference", "study/study", "study/study_longer"))
    _, evaluations = read_records(RELEASE)
    fill(files, "README.md", "overview", render_overview(family_records(), speed))
    fill(files, "README.md", "added", render_added(study, longer))
    fill(files, "scripts/benchmarks/README.md", "small_install", render_small_install(load("benchmarks/cold_start")))
    fill(files, "model_cards/README.md", "results", render_results(evaluations, QUICK))
    for name, render in TABLES.items():
        room, block = name.split("/")
        record = load(name)
        content = render(record) + earlier_weights(record)
        fill(files, f"scripts/{room}/README.md", BLOCKS.get(block, block), content)
    return files


def load(name: str) -> dict[str, Any]:
    """The record `scripts/NAME.json`."""
    return read_json(SCRIPTS / f"{name}.json")


def earlier_weights(record: Mapping[str, Any]) -> str:
    """A line that names the models of a benchmark whose weights are not those of the present release; "" for none."""
    measured = dict(record.get("models", {}))
    for row in (record, *record.get("others", ())):
        measured |= {row["model"].rpartition("/")[2]: row} if "weights_sha256" in row else {}
    released = [name for name in measured if (SNAPSHOTS / name).is_dir()]
    present = {name: released_weights(RELEASE.parent / name) for name in released}
    earlier = [name for name, sha256 in present.items() if measured[name]["weights_sha256"] != sha256]
    return f"\n\nMeasured with the weights of an earlier release: {', '.join(earlier)}." if earlier else ""


def fill(files: dict[Path, str], name: str, block: str, content: str) -> None:
    """Fill a block of a file of the repository, among `files` already or not."""
    path = REPO / name
    files[path] = fill_block(files.get(path) or path.read_text(encoding="utf-8"), block, content)


def family_records() -> list[dict[str, Any]]:
    """Evaluations of the release, without its twin, with what the rest of the family scored on the same files."""
    _, records = read_records(RELEASE)
    for folder in sorted(path.parent for path in RELEASE.parent.glob("*/about.md") if path.parent != RELEASE):
        for record in read_records(folder)[1]:
            own = [system for system in record["systems"] if system["name"] == folder.name]
            for shared in records:
                if shared["dataset"] == record["dataset"]:
                    shared["systems"] += own
    for record in records:
        systems = [system for system in record["systems"] if system["name"] != f"{RELEASE.name}-plain"]
        record["systems"] = sorted(systems, key=lambda system: place_in_family(system["name"]))
    return records


def place_in_family(name: str) -> int:
    """Order of the rows of a table: the noisy input, the family, then the peers."""
    return FAMILY.index(name) if name in FAMILY else len(FAMILY) if name != "noisy" else -1


def render_measured() -> str:
    """The speeds that the package chooses a runtime by, see `acceleration.runtime_choice.measured`."""
    names = {"PyTorch fused": "torch", "ONNX Runtime": "onnx", "OpenVINO": "openvino"}
    speeds, records = {}, [load("benchmarks/inference"), load("benchmarks/inference_avx2")]
    for record in records:
        rows = [row for row in record["models"][RELEASE.name]["rows"] if (row["seconds"], row["threads"]) == (10, 1)]
        of_runtime = {names[row["system"]]: round(row["ratio"], 2) for row in rows if row["system"] in names}
        speeds[record["environment"]["machine"]["instructions"]] = of_runtime
    quality = {row["system"]: row for row in records[0]["models"][RELEASE.name].get("quality", ())}
    # the record of a CPU without bfloat16, or one without scores, leaves what was measured
    loss = quality.get("OpenVINO bfloat16", measured()["bfloat16"])
    kept = {name: loss[name] for name in ("pesq_change", "si_sdr_change", "pairs")}
    return json.dumps({"speed": speeds, "bfloat16": kept}, indent=1) + "\n"


def render_overview(evaluations: Sequence[Mapping[str, Any]], speed: Mapping[str, Any]) -> str:
    """One table of the family and its peers: means on every test set, parameters, FLOPs and time on one thread."""
    records = sorted(evaluations, key=lambda record: -record["dataset"]["files"])
    sets = [{"dns test": "DNS", "valentini test": "Valentini"}[record["dataset"]["name"]] for record in records]
    rows = [["", *(f"{name}: PESQ / STOI / SI-SDR" for name in sets), "parameters", "GFLOPs for 4 s", "10 s take"]]
    times = seconds_for_ten(speed)
    known = dict.fromkeys(system["name"] for record in records for system in record["systems"])
    for name in [*known, *(preset for preset in FAMILY if preset not in known)]:
        scores = [show_means(record, name) for record in records]
        cost = complexity(MannerConfig.from_preset(name)) if name in FAMILY else None
        size = [f"{cost.parameters / 1e6:.2f} M", f"{cost.flops / 1e9:.1f}"] if cost else [UNKNOWN, UNKNOWN]
        time = f"{1000 * times[name]:.0f} ms" if name in times else UNKNOWN
        rows.append([name, *scores, *size, time])
    about = "; ".join(
        f"{name}: {TEST_SETS[record['dataset']['name']][0]}, {share_of_set(record)}"
        for name, record in zip(sets, records, strict=True)
    )
    return (
        f"{markdown(rows)}\n\n{about}. Time: on one thread of {processor(speed['environment']['machine'])}, of ours by "
        f"{USUAL_RUNTIME}. {UNKNOWN}: no weights are released, or not measured."
    )


def show_means(record: Mapping[str, Any], name: str) -> str:
    """ "2.63 / 95.3% / 16.86" of a system in a record."""
    means: Mapping[str, float] = next((system["means"] for system in record["systems"] if system["name"] == name), {})
    return " / ".join(METRICS[key].show(means[key]) for key in QUICK) if means else UNKNOWN


def seconds_for_ten(speed: Mapping[str, Any]) -> dict[str, float]:
    """Seconds on one thread for 10 s of audio: of our models as `mvat enhance` runs them, and of the peers."""
    times = {
        name: row["median_seconds"]
        for name, model in speed["models"].items()
        for row in model["rows"]
        if (row["system"], row["threads"], row["seconds"]) == (USUAL_RUNTIME, 1, 10)
    }
    return times | {peer["peer"]: 10 * peer["median_seconds"] / peer["seconds"] for peer in speed["peers"]}


def render_added(study: Mapping[str, Any], longer: Mapping[str, Any]) -> str:
    """The gains of MV-AT, in three sentences."""
    short, long = ({key: gains(record, "mvat", key) for key in QUICK} for record in (study, longer))
    other = gains(study, "at", "si_sdr")
    early, late = (
        ", ".join(f"{METRICS[key].title} {spread(values, key, '+')}" for key, values in found.items())
        for found in (short, long)
    )
    return (
        f"Over {len(short['pesq'])} short runs, MV-AT changed plain training of the same size and seed by {early} "
        f"(means, and ranges over runs). Attention transfer with a single view changed SI-SDR by "
        f"{spread(other, 'si_sdr', '+')}. After six times as many steps, "
        f"{len(long['pesq'])} runs of MV-AT differ from plain training by {late}."
    )


def gains(record: Mapping[str, Any], method: str, key: str) -> list[float]:
    """Mean difference to plain training over the test sets, for every run of a method in a study."""
    rows = rows_of(record, ablation=False)
    return [
        mean(mean(seed) for test in cell["tests"] for seed in differences([cell], rows[preset, PLAIN], test, key))
        for (preset, name), cells in rows.items()
        if name == method
        for cell in cells
    ]


def draw_pictures() -> None:
    """Draw the pictures of the release's evaluations beside their records."""
    times = seconds_for_ten(load("benchmarks/inference"))
    for record in read_records(RELEASE)[1]:
        name = record["dataset"]["name"].split()[0]
        gain_over_snr(record, RELEASE / f"eval_{name}.png")
    for record in family_records():
        if record["dataset"]["name"] == "dns test":
            systems = [{key: value for key, value in row.items() if key not in COSTS} for row in record["systems"]]
            for row in systems:
                row |= {"real_time_factor": times[row["name"]] / 10} if row["name"] in times else {}
            quality_against_cost({**record, "systems": systems}, RELEASE / "quality_against_speed.png")


def render_twins(record: Mapping[str, Any]) -> str:
    """Runs with and without a teacher, by model, steps and seed: what each validated, and the difference."""
    twins: dict[tuple[str, int, int], dict[str, Any]] = {}
    for run in record["runs"]:
        recipe = run["recipe"]
        twins.setdefault((recipe["preset"], run["steps"], run["seed"]), {})[recipe["method"]] = run["chosen"]
    rows = [["model", "steps", "seed", "validation: PESQ / STOI / SI-SDR, plain", "method", "by it", "difference"]]
    for which, runs in sorted(twins.items()):
        plain = [runs[PLAIN][f"eval_{key}"] for key in QUICK]
        for method in sorted(runs.keys() - {PLAIN}):
            distilled = [runs[method][f"eval_{key}"] for key in QUICK]
            differences = [after - before for before, after in zip(plain, distilled, strict=True)]
            shown = [
                " / ".join(show(key, value, None, sign) for key, value in zip(QUICK, values, strict=True))
                for values, sign in ((plain, ""), (distilled, ""), (differences, "+"))
            ]
            rows.append([*map(str, which), shown[0], method, *shown[1:]])
    return f"{markdown(rows)}\n\n{record['runs'][0]['validation_files']} mixtures to validate on."


# what renders the records below `scripts/`, each into the README.md beside it
TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "benchmarks/inference": render_speed,
    "benchmarks/inference_avx2": render_speed,
    "benchmarks/inference_gpu": render_speed_gpu,
    "benchmarks/cold_start": render_cold_start,
    "benchmarks/long_file": render_long_file,
    "benchmarks/many_files": render_many_files,
    "benchmarks/chunking": render_chunking,
    "benchmarks/full_band": render_full_band,
    "benchmarks/live": render_live,
    "benchmarks/training_step": render_training_step,
    "recipes/twins": render_twins,
    "study/study": render_study,
    "study/study_longer": render_study,
    "study/privileged": render_privileged,
}
# blocks that have another name than their record
BLOCKS = {"inference": "speed", "inference_avx2": "speed_avx2", "inference_gpu": "speed_gpu"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", action="store_true", help="draw those of the release's evaluations, too")
    if parser.parse_args().pictures:
        draw_pictures()
    for path, content in rendered().items():
        write_text(path, content)
        print(path.relative_to(REPO))


if __name__ == "__main__":
    run_script(main)
