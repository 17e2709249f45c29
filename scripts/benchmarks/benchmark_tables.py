"""The tables of `README.md` beside this file, each rendered from its record."""

from collections.abc import Mapping
from typing import Any

from mvat_hf.evaluation.report import markdown

UNKNOWN = "-"
VALENTINI_FILES, VALENTINI_EPOCHS = 11572, 350  # of 28 speakers (Valentini-Botinhao et al. 2016); upstream's protocol
COSTS_OF_A_CUT = ("PESQ to one pass", "lowest of a pair", "SI-SDR to one pass (dB)", "real-time factor")


def render_long_file(record: Mapping[str, Any]) -> str:
    """Memory and speed by length and runtime."""
    table = [["", "runtime", "memory", "CPU time a second of audio"]]
    for row in record["rows"]:
        length = f"{row['minutes']:g} min of {row['format']}"
        table.append([length, row["runtime"], f"{row['peak_memory_mb']:.0f} MB", f"{row['real_time_factor']:.3f} s"])
    return (
        f"Files of {record['sampling_rate'] // 1000} kHz and {record['channels']} channels, on one thread of "
        f"{processor(record['environment']['machine'])}. `kill` in the midst left "
        f"{', '.join(record['left_by_sigterm']) or 'nothing'}.\n\n{markdown(table)}"
    )


def render_many_files(record: Mapping[str, Any]) -> str:
    """Time and memory of a folder of short files, by how it is gone through."""
    table = [["", "files", "files a second", "CPU time a file", "memory of a process"]]
    for row in record["rows"]:
        speed = f"{row['files'] / row['wall_seconds']:.1f}", f"{1000 * row['cpu_seconds'] / row['files']:.0f} ms"
        table.append([row["way"], str(row["files"]), *speed, f"{row['peak_memory_mb']:.0f} MB"])
    machine, last = record["environment"]["machine"], record["rows"][-1]
    length = record["seconds"] / max(row["files"] for row in record["rows"])
    return (
        f"Files of {length:.1f} s on {machine['cores']} cores of {processor(machine)}:\n\n{markdown(table)}\n\nThe "
        f"last row is of the run with `--resume` alone: the one before it was killed with {last['done_before']} files "
        f"done, of which {last['done_again']} were done again, and left {len(last['left_half_written'])} half written."
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
    """Size, time and memory of an install without torch, in a sentence."""
    row = next((row for row in record["rows"] if row["program"].endswith("install without torch")), None)
    if row is None:
        return "The small install of the front page was not measured."
    return (
        f"The small install of the front page is {record['small_install']['megabytes']:.0f} MB on disk; 5 s of audio "
        f"take {row['cpu_seconds']:.1f} s of CPU time from start to end, and {row['peak_memory_mb']:.0f} MB of memory."
    )


def render_chunking(record: Mapping[str, Any]) -> str:
    """The cost of chunks against one pass."""
    chunks = [["chunk (s)", "overlap (s)", *COSTS_OF_A_CUT]]
    chunks += [[f"{row['chunk_seconds']:g}", f"{row['overlap_seconds']:g}", *costs(row)] for row in record["chunks"]]
    one = record["one_pass"]
    return (
        f"{record['model']} on {record['pairs']} validation mixtures of DNS, {record['seconds']:.0f} s in all. One "
        f"pass scores PESQ {one['pesq']:.2f} (noisy {record['noisy_pesq']:.2f}) at a real-time factor of "
        f"{one['real_time_factor']:.3f} on one thread.\n\n{markdown(chunks)}"
    )


def render_live(record: Mapping[str, Any]) -> str:
    """The cost of live enhancement against one pass: incrementally, by windows, and by smaller models."""
    titles = ["context (s)", "hop (s)", "look-ahead (s)", "latency (s)"]
    table = [["way", *titles, *COSTS_OF_A_CUT]]
    table += [[row["way"], *windows(row), *costs(row)] for row in record["rows"]]
    smaller = [["model, incremental", *titles, "PESQ of one pass", *COSTS_OF_A_CUT]]
    for other in record["others"]:
        pesq = f"{other['one_pass']['pesq']:.2f}"
        smaller += [[other["model"], *windows(row), pesq, *costs(row)] for row in other["rows"]]
    error = max(row["pesq_change_error"] for model in (record, *record["others"]) for row in model["rows"])
    return (
        f"{record['model']} on {record['pairs']} validation mixtures of DNS, {record['seconds']:.0f} s in all, on one "
        f"thread of {processor(record['environment']['machine'])}. One pass scores PESQ "
        f"{record['one_pass']['pesq']:.2f} (noisy {record['noisy_pesq']:.2f}); the standard error of a mean change is "
        f"at most {error:.2f}.\n\n{markdown(table)}\n\n{markdown(smaller)}"
    )


def windows(row: Mapping[str, Any]) -> list[str]:
    """The cells of a row that say what is heard, when, and how late that is."""
    seconds = [row[f"{name}_seconds"] for name in ("context", "hop", "lookahead")]
    return [f"{value:g}" for value in (*seconds, seconds[1] + seconds[2])]


def costs(row: Mapping[str, float]) -> list[str]:
    """The cells of a row that say what it costs."""
    changes = [f"{row[key]:+.3f}" for key in ("pesq_change", "pesq_lowest_change")]
    return [*changes, f"{row['si_sdr']:.1f}", f"{row['real_time_factor']:.3f}"]


def render_full_band(record: Mapping[str, Any]) -> str:
    """The band above 8 kHz, and the scores that the smoothing was chosen from, in two tables."""
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
