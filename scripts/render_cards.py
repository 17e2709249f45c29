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

from mvat_hf.evaluation.figures import COSTS, gain_over_snr, quality_against_cost
from mvat_hf.evaluation.report import markdown
from mvat_hf.hub.cards import (
    TEST_SETS,
    fill_block,
    read_records,
    render_card,
    render_history,
    render_results,
    render_trials,
    share_of_set,
)
from mvat_hf.metrics.scoring import METRICS, QUICK
from mvat_hf.models.complexity import complexity
from mvat_hf.models.manner import MannerConfig
from mvat_hf.models.snapshots import SNAPSHOTS

sys.path.append(str(Path(__file__).parent / "study"))  # which is no package
from method_figure import draw_method
from tables import PLAIN, differences, render_study, rows_of, spread

REPO = Path(__file__).parents[1]
SCRIPTS = REPO / "scripts"
PACKAGE = REPO / "src" / "mvat_hf"
RELEASE = REPO / "model_cards" / "manner-s-8.1gf"
FAMILY = ("manner-b", "manner-s", "manner-s-20.3gf", "manner-s-8.1gf", "manner-s-5.3gf", "manner-s-2.2gf")
UNKNOWN = "-"
COSTS_OF_A_CUT = ("PESQ to one pass", "lowest of a pair", "SI-SDR to one pass (dB)", "real-time factor")


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
        fill(files, f"scripts/{room}/README.md", BLOCKS.get(block, block), render(load(name)))
    return files


def load(name: str) -> dict[str, Any]:
    """The record `scripts/NAME.json`."""
    return json.loads((SCRIPTS / f"{name}.json").read_text(encoding="utf-8"))


def fill(files: dict[Path, str], name: str, block: str, content: str) -> None:
    """Fill a block of a file of the repository, among `files` already or not."""
    path = REPO / name
    files[path] = fill_block(files.get(path) or path.read_text(encoding="utf-8"), block, content)


def family_records() -> list[dict[str, Any]]:
    """The release's evaluations, with what the other models of the family scored on the same files."""
    _, records = read_records(RELEASE)
    for folder in sorted(path.parent for path in RELEASE.parent.glob("*/about.md") if path.parent != RELEASE):
        for record in read_records(folder)[1]:
            own = [system for system in record["systems"] if system["name"] == folder.name]
            for shared in records:
                if shared["dataset"] == record["dataset"]:
                    shared["systems"] += own
    for record in records:
        record["systems"].sort(key=lambda system: place_in_family(system["name"]))
    return records


def place_in_family(name: str) -> int:
    """Order of the rows of a table: the noisy input, the family, then the peers."""
    return FAMILY.index(name) if name in FAMILY else len(FAMILY) if name != "noisy" else -1


def render_measured() -> str:
    """What the package chooses a runtime by, see `acceleration.choice.measured`."""
    names = {"PyTorch fused": "torch", "ONNX Runtime": "onnx", "OpenVINO": "openvino"}
    speeds, records = {}, [load("benchmarks/inference"), load("benchmarks/inference_avx2")]
    for record in records:
        rows = [row for row in record["models"][RELEASE.name]["rows"] if (row["seconds"], row["threads"]) == (10, 1)]
        of_runtime = {names[row["system"]]: round(row["ratio"], 2) for row in rows if row["system"] in names}
        speeds[record["environment"]["machine"]["instructions"]] = of_runtime
    [loss] = [row for row in records[0]["models"][RELEASE.name]["quality"] if row["system"] == "OpenVINO bfloat16"]
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
        f"{markdown(rows)}\n\n{about}. Time: on one thread of {processor(speed['environment']['machine'])}. "
        f"{UNKNOWN}: no weights are released, or not measured."
    )


def show_means(record: Mapping[str, Any], name: str) -> str:
    """ "2.63 / 95.3% / 16.86" of a system in a record."""
    means: Mapping[str, float] = next((system["means"] for system in record["systems"] if system["name"] == name), {})
    return " / ".join(METRICS[key].format.format(means[key]) for key in QUICK) if means else UNKNOWN


def seconds_for_ten(speed: Mapping[str, Any]) -> dict[str, float]:
    """Seconds on one thread for 10 s of audio: of our models as `mvat enhance` runs them, and of the peers."""
    times = {
        name: row["median_seconds"]
        for name, model in speed["models"].items()
        for row in model["rows"]
        if (row["system"], row["threads"], row["seconds"]) == ("PyTorch fused", 1, 10)
    }
    return times | {peer["peer"]: 10 * peer["median_seconds"] / peer["seconds"] for peer in speed["peers"]}


def render_added(study: Mapping[str, Any], longer: Mapping[str, Any]) -> str:
    """What MV-AT was found to add, in three sentences."""
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
        f"{len(long['pesq'])} runs of MV-AT are ahead by {late}."
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


def render_long_file(record: Mapping[str, Any]) -> str:
    """Memory and speed for the shortest and the longest file in a sentence."""
    short, long = (select(record["rows"], key=lambda row: row["minutes"]) for select in (min, max))
    left = ", ".join(record["left_by_sigterm"]) or "nothing"
    return (
        f"Measured on {record['sampling_rate'] // 1000} kHz files of {record['channels']} channels, on one thread: "
        f"{short['peak_memory_mb']:.0f} MB for {short['minutes']:g} min and {long['peak_memory_mb']:.0f} MB for "
        f"{long['minutes']:g} min, {long['real_time_factor']:.3f} s of CPU time a second of audio; `kill` in the midst "
        f"left {left}."
    )


def render_cold_start(record: Mapping[str, Any]) -> str:
    """Time and memory of each program in a table."""
    table = [["", "CPU time", "times `import torch`", "memory"]]
    base = next(row["cpu_seconds"] for row in record["rows"] if row["program"] == "import torch")
    for row in record["rows"]:
        runtime = f" ({row['runtime']})" if row.get("runtime") else ""
        times = f"{row['cpu_seconds']:.2f} s", f"{row['cpu_seconds'] / base:.2f}"
        table.append([f"`{row['program']}`{runtime}", *times, f"{row['peak_memory_mb']:.0f} MB"])
    return f"On one thread of {processor(record['environment']['machine'])}:\n\n{markdown(table)}"


def render_small_install(record: Mapping[str, Any]) -> str:
    """What an install without torch takes, in a sentence."""
    [row] = [row for row in record["rows"] if row["program"].endswith("install without torch")]
    return (
        f"The small install of the front page is {record['small_install']['megabytes']:.0f} MB on disk; 5 s of audio "
        f"take {row['cpu_seconds']:.1f} s of CPU time from start to end, and {row['peak_memory_mb']:.0f} MB of memory."
    )


def render_chunking(record: Mapping[str, Any]) -> str:
    """What chunks cost against one pass."""
    chunks = [["chunk (s)", "overlap (s)", *COSTS_OF_A_CUT]]
    chunks += [[f"{row['chunk_seconds']:g}", f"{row['overlap_seconds']:g}", *costs(row)] for row in record["chunks"]]
    one = record["one_pass"]
    return (
        f"{record['model']} on {record['pairs']} validation mixtures of DNS, {record['seconds']:.0f} s in all. One "
        f"pass scores PESQ {one['pesq']:.2f} (noisy {record['noisy_pesq']:.2f}) at a real-time factor of "
        f"{one['real_time_factor']:.3f} on one thread.\n\n{markdown(chunks)}"
    )


def render_live(record: Mapping[str, Any]) -> str:
    """What live enhancement costs against one pass, incrementally and by windows."""
    table = [["way", "context (s)", "hop (s)", "look-ahead (s)", "latency (s)", *COSTS_OF_A_CUT]]
    for row in record["rows"]:
        windows = [row[f"{name}_seconds"] for name in ("context", "hop", "lookahead")]
        table.append([row["way"], *(f"{value:g}" for value in (*windows, windows[1] + windows[2])), *costs(row)])
    error = max(row["pesq_change_error"] for row in record["rows"])
    return (
        f"{record['model']} on {record['pairs']} validation mixtures of DNS, {record['seconds']:.0f} s in all, on one "
        f"thread of {processor(record['environment']['machine'])}. One pass scores PESQ "
        f"{record['one_pass']['pesq']:.2f} (noisy {record['noisy_pesq']:.2f}); the standard error of a mean change is "
        f"at most {error:.2f}.\n\n{markdown(table)}"
    )


def costs(row: Mapping[str, float]) -> list[str]:
    """The cells of a row that say what it costs."""
    changes = [f"{row[key]:+.3f}" for key in ("pesq_change", "pesq_lowest_change")]
    return [*changes, f"{row['si_sdr']:.1f}", f"{row['real_time_factor']:.3f}"]


def render_full_band(record: Mapping[str, Any]) -> str:
    """What becomes of the band above 8 kHz, and what the smoothing was chosen from, in two tables."""
    titles = ["log-spectral distance (dB)", "SI-SDR (dB)", "noise left (dB)", "speech kept (dB)"]
    systems = [["above 8 kHz", *titles]]
    systems += [[row["system"], *band_cells(row)] for row in record["systems"]]
    smoothing = [["frames smoothed over", *titles]]
    smoothing += [[str(2 * row["hops"] + 1), *band_cells(row)] for row in record["smoothing"]]
    count, times = record["mixtures"], [record[f"real_time_factor{which}"] for which in ("", "_dropped")]
    return (
        f"{record['model']} on {count['reported']} mixtures at 48 kHz; what is not there has no ratio. On one thread "
        f"keeping the band takes {times[0]:.3f} s of CPU time a second of audio, dropping it {times[1]:.3f} s.\n\n"
        f"{markdown(systems)}\n\nBy smoothing, on {count['choosing']} others, which it was chosen from:\n\n"
        f"{markdown(smoothing)}"
    )


def band_cells(row: Mapping[str, float | None]) -> list[str]:
    """The measures of a row of `full_band.json`."""
    values = [row[key] for key in ("log_spectral_distance", "si_sdr", "noise_left", "speech_kept")]
    return [UNKNOWN if value is None else f"{value:.1f}" for value in values]


def processor(machine: Mapping[str, Any]) -> str:
    """Name of the CPU, with the instructions that PyTorch found where the record tells them."""
    return machine["processor"] + (f" ({machine['instructions']})" if "instructions" in machine else "")


def render_speed(record: Mapping[str, Any]) -> str:
    """A table of `scripts/benchmarks/inference.json` for every model and number of threads; the first is not folded."""
    machine, limit = record["environment"]["machine"], record["limit"]
    parts = []
    for name, model in record["models"].items():
        for threads in sorted({row["threads"] for row in model["rows"]}):
            rows = [row for row in model["rows"] if row["threads"] == threads]
            bound = model["gflops_of_10_seconds"] / limit["oneDNN"]
            parts.append(
                f"{name}, {threads} thread{'s' * (threads > 1)} of {processor(machine)}; times the speed of the "
                f"baseline, by length of the input:\n\n{speed_table(rows, model.get('quality', []))}\n\n"
                f"One core's float32 matrix products reach {limit['oneDNN']:.0f} GFLOP/s there by oneDNN, "
                f"{limit['matmul']:.0f} by `torch.matmul`. The straightforward graph is "
                f"{model['gflops_of_10_seconds']:.1f} GFLOP for 10 s: {1000 * bound:.0f} ms at the first rate."
            )
    if record.get("peers"):
        taken = (
            f"{peer['peer']} {1000 * peer['median_seconds']:.0f} ms for {peer['seconds']:g} s"
            for peer in record["peers"]
        )
        parts.append(f"CPU time of other packages' enhancers on that machine: {', '.join(taken)}.")
    first, *more = parts
    folded = ["<details><summary>More threads, other models and packages</summary>", *more, "</details>"]
    return "\n\n".join([first, *(folded if more else [])])


def speed_table(rows: list[dict[str, Any]], quality: list[dict[str, Any]]) -> str:
    """A line for every system: ratios by length, time for 10 s, largest error, memory at the longest, scores."""
    lengths = sorted({row["seconds"] for row in rows})
    titles = ["", *(f"{length:g} s" for length in lengths), "10 s take", "largest error", f"memory, {lengths[-1]:g} s"]
    titles += ["PESQ", "SI-SDR (dB)"] if quality else []
    table = [titles]
    for system in dict.fromkeys(row["system"] for row in rows):
        own = {row["seconds"]: row for row in rows if row["system"] == system}
        cells = [system, *(f"{own[length]['ratio']:.2f}x" for length in lengths)]
        cells.append(f"{1000 * own[10]['median_seconds']:.0f} ms" if 10 in own else "not measured")
        cells.append(f"{max(row['error'] for row in own.values()):.0e}")
        memory = own[lengths[-1]]
        above = memory["peak_megabytes"] - memory["loaded_megabytes"]
        cells.append(f"{memory['peak_megabytes']:.0f} MB ({above:.0f} for the pass)")
        for score in (score for score in quality if score["system"] == system):
            cells += [f"{score[key]:.3f} ({score[f'{key}_change']:+.4f})" for key in ("pesq", "si_sdr")]
        table.append(cells)
    return markdown(table)


def render_speed_gpu(record: Mapping[str, Any]) -> str:
    """A table of `scripts/benchmarks/inference_gpu.json` for every model."""
    parts = []
    for name, model in record["models"].items():
        sizes = list(dict.fromkeys((row["batch"], row["seconds"]) for row in model["rows"]))
        lengths = [f"{batch} x {seconds:g} s" for batch, seconds in sizes]
        table = [["", *lengths, f"{lengths[-1]} take", "largest error", f"memory, {lengths[-1]}"]]
        for system in dict.fromkeys(row["system"] for row in model["rows"]):
            own = [row for row in model["rows"] if row["system"] == system]
            cells = [system, *(f"{row['ratio']:.2f}x" for row in own), f"{1000 * own[-1]['median_seconds']:.0f} ms"]
            table.append([*cells, f"{max(row['error'] for row in own):.0e}", f"{own[-1]['peak_gigabytes']:.1f} GB"])
        on = ", ".join(record["environment"]["machine"]["accelerators"])
        parts.append(f"{name} on {on}; times the speed of the baseline, by the input:\n\n{markdown(table)}")
    return "\n\n".join(parts)


VALENTINI_FILES, VALENTINI_EPOCHS = 11572, 350  # of 28 speakers (Valentini-Botinhao et al. 2016); upstream's protocol


def render_training_step(record: Mapping[str, Any]) -> str:
    """A line for every system and number of threads: clips per second, and the ratio to the straightforward step."""
    rows = [["", "threads", "s a step", "clips a second", "times the straightforward step"]]
    for row in record["rows"]:
        speed = (f"{row['seconds_per_step']:.2f}", f"{row['samples_per_second']:.2f}", f"{row['ratio']:.2f}x")
        rows.append([row["system"], str(row["threads"]), *speed])
    fastest = max(row["samples_per_second"] for row in record["rows"])
    days = VALENTINI_FILES * VALENTINI_EPOCHS / fastest / 86400
    return (
        f"A step of MV-AT, student {record['student']}, teacher {record['teacher']}, {record['batch']} x "
        f"{record['seconds']:g} s, on {processor(record['environment']['machine'])}:\n\n{markdown(rows)}\n\n"
        f"The {VALENTINI_EPOCHS} epochs of `valentini_distill.yaml`, with at least a clip of each of the "
        f"{VALENTINI_FILES:,} files, would take {days:.0f} days at {fastest:.2f} clips a second: they want GPUs."
    )


# what renders the records below `scripts/`, each into the README.md beside it
def render_twins(record: Mapping[str, Any]) -> str:
    """Runs of one recipe with and without a teacher, by seed: what each validated, and the difference."""
    runs = {(run["seed"], run["recipe"]["method"]): run["chosen"] for run in record["runs"]}
    names = [f"eval_{key}" for key in QUICK]
    rows = [["seed", "validation: PESQ / STOI / SI-SDR, plain", "MV-AT", "difference"]]
    for seed in sorted({seed for seed, _ in runs}):
        plain, distilled = ([runs[seed, method][name] for name in names] for method in (PLAIN, "mvat"))
        differences = [after - before for before, after in zip(plain, distilled, strict=True)]
        shown = [
            " / ".join(METRICS[key].format.replace("{:", "{:+" if signed else "{:").format(value)
                       for key, value in zip(QUICK, values, strict=True))
            for values, signed in ((plain, False), (distilled, False), (differences, True))
        ]  # fmt: skip
        rows.append([str(seed), *shown])
    first = record["runs"][0]
    return f"{markdown(rows)}\n\n{first['steps']} steps; {first['validation_files']} mixtures to validate on."


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "benchmarks/inference": render_speed,
    "benchmarks/inference_avx2": render_speed,
    "benchmarks/inference_gpu": render_speed_gpu,
    "benchmarks/cold_start": render_cold_start,
    "benchmarks/long_file": render_long_file,
    "benchmarks/chunking": render_chunking,
    "benchmarks/full_band": render_full_band,
    "benchmarks/live": render_live,
    "benchmarks/training_step": render_training_step,
    "recipes/twins": render_twins,
    "study/study": render_study,
    "study/study_longer": render_study,
}
# blocks that have another name than their record
BLOCKS = {"inference": "speed", "inference_avx2": "speed_avx2", "inference_gpu": "speed_gpu"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", action="store_true", help="draw those of the release's evaluations, too")
    if parser.parse_args().pictures:
        draw_pictures()
    for path, content in rendered().items():
        path.write_text(content, encoding="utf-8")
        print(path.relative_to(REPO))


if __name__ == "__main__":
    main()
