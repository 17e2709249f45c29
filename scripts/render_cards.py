"""Render every model card and the README's tables from their records.

python scripts/render_cards.py
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvat_hf.study import render_study

from mvat_hf.evaluation.report import markdown
from mvat_hf.hub.cards import fill_block, read_records, render_card, render_results
from mvat_hf.metrics.scoring import QUICK
from mvat_hf.models.manner.snapshot_manner import SNAPSHOTS

REPO = Path(__file__).parents[1]
BENCHMARKS = REPO / "scripts" / "benchmarks"


def rendered() -> dict[Path, str]:
    """Every file that is rendered, with its content."""
    files = {}
    for folder in sorted(path for path in (REPO / "model_cards").iterdir() if path.is_dir()):
        files[folder / "README.md"] = render_card(folder)
        if (SNAPSHOTS / folder.name).is_dir():
            files[SNAPSHOTS / folder.name / "README.md"] = files[folder / "README.md"]
    readme = REPO / "README.md"
    _, evaluations = read_records(REPO / "model_cards" / "manner-s-8.1gf")
    text = fill_block(readme.read_text(encoding="utf-8"), "results", render_results(evaluations, QUICK))
    for name, (block, render) in TABLES.items():
        text = fill_block(text, block, render(json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))))
    files[readme] = text
    return files


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


def render_chunking(record: Mapping[str, Any]) -> str:
    """What chunks and live windows cost against one pass, in two tables."""
    titles = ["PESQ to one pass", "lowest of a pair", "SI-SDR to one pass (dB)", "real-time factor"]
    chunks = [["chunk (s)", "overlap (s)", *titles]]
    chunks += [[f"{row['chunk_seconds']:g}", f"{row['overlap_seconds']:g}", *costs(row)] for row in record["chunks"]]
    live = [["context (s)", "look-ahead (s)", "latency (s)", *titles]]
    for row in record["live"]:
        latency = row["hop_seconds"] + row["lookahead_seconds"]
        windows = (row["context_seconds"], row["lookahead_seconds"], latency)
        live.append([*(f"{value:g}" for value in windows), *costs(row)])
    one = record["one_pass"]
    return (
        f"{record['model']} on {record['pairs']} validation mixtures of DNS, {record['seconds']:.0f} s in all. One "
        f"pass scores PESQ {one['pesq']:.2f} (noisy {record['noisy_pesq']:.2f}) at a real-time factor of "
        f"{one['real_time_factor']:.3f} on one thread.\n\n{markdown(chunks)}\n\nLive:\n\n{markdown(live)}"
    )


def costs(row: Mapping[str, float]) -> list[str]:
    """The cells of a row that say what it costs."""
    changes = [f"{row[key]:+.3f}" for key in ("pesq_change", "pesq_lowest_change")]
    return [*changes, f"{row['si_sdr']:.1f}", f"{row['real_time_factor']:.3f}"]


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


# records of the benchmarks: the README's block, and what renders it
TABLES = {
    "inference": ("speed", render_speed),
    "inference_avx2": ("speed_avx2", render_speed),
    "inference_gpu": ("speed_gpu", render_speed_gpu),
    "long_file": ("long_file", render_long_file),
    "chunking": ("chunking", render_chunking),
    "training_step": ("training_step", render_training_step),
    "study": ("study", render_study),
    "study_longer": ("study_longer", render_study),
}


if __name__ == "__main__":
    for path, content in rendered().items():
        path.write_text(content, encoding="utf-8")
        print(path.relative_to(REPO))
