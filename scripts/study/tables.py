"""Tables of a study's record: what its methods gain over plain training."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from cells import PLAIN

from mvat_hf.evaluation.report import markdown, paired, show
from mvat_hf.metrics.scoring import METRICS, QUICK
from mvat_hf.models.complexity import complexity
from mvat_hf.models.manner import MannerConfig

Rows = dict[tuple[str, str], list[dict[str, Any]]]  # (preset, name): the cells of all seeds


def rows_of(record: Mapping[str, Any], ablation: bool) -> Rows:
    """Finished cells, a list of seeds for every (preset, name)."""
    rows: Rows = {}
    for cell in record["cells"]:
        if cell["ablation"] == ablation:
            rows.setdefault((cell["preset"], cell["name"]), []).append(cell)
    return rows


def differences(
    cells: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]], test: str, key: str
) -> list[list[float]]:
    """Difference to plain training of every file that all scored, for every seed that both have."""
    by_seed = {cell["seed"]: cell["tests"][test]["scores"][key] for cell in plain if test in cell["tests"]}
    pairs = [
        (cell["tests"][test]["scores"][key], by_seed[cell["seed"]])
        for cell in cells
        if cell["seed"] in by_seed and test in cell["tests"]
    ]
    names = set.intersection(*(set(scores) for pair in pairs for scores in pair)) if pairs else set()
    return [[mine[name] - other[name] for name in sorted(names)] for mine, other in pairs]


def gain(cells: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]], test: str, key: str) -> dict[str, Any]:
    """Paired difference to plain training, see `report.paired`, by file over all seeds; and that of every seed."""
    found = differences(cells, plain, test, key)
    if not found:
        return {"mean": None, "interval": None, "by_seed": []}
    return {**paired([mean(file) for file in zip(*found, strict=True)]), "by_seed": [mean(seed) for seed in found]}


def show_gain(key: str, gain: Mapping[str, Any]) -> str:
    """ "+0.02 [-0.01, +0.04] (+0.00 to +0.04)": a `gain`, its interval over files and its range over seeds."""
    return show(key, gain["mean"], gain["interval"], "+") + ends(gain["by_seed"], key, "+")


def spread(values: Sequence[float], key: str, sign: str = "") -> str:
    """ "2.10 (2.08 to 2.12)": a mean over seeds and its range; `sign` "+" shows it always."""
    return METRICS[key].show(mean(values), sign) + ends(values, key, sign)


def ends(values: Sequence[float], key: str, sign: str = "") -> str:
    """ " (2.08 to 2.12)": the range of several values, nothing of one."""
    if len(values) < 2:
        return ""
    low, high = (METRICS[key].show(end(values), sign) for end in (min, max))
    return f" ({low} to {high})"


def render_study(record: Mapping[str, Any]) -> str:
    """The record as Markdown: gains of every method and every part of MV-AT; folded away, by test set and size."""
    done, planned = len(record["cells"]), record["planned"]
    methods, parts_of_mvat = rows_of(record, ablation=False), rows_of(record, ablation=True)
    parts = [render_seeds(methods, parts_of_mvat), record["title"].strip()]
    if done < planned:
        parts.append(f"{done} of {planned} cells are measured; the others are not shown.")
    parts.append("Difference to plain training over all sizes and test sets (range over runs; how many runs gain):")
    parts.append(render_answer(methods, methods))
    if parts_of_mvat:
        presets = {preset for preset, _ in parts_of_mvat}
        whole = {key: methods[key] for preset in presets if (key := (preset, "mvat")) in methods}
        parts.append(f"Parts of MV-AT, {', '.join(presets)} alone:")
        parts.append(render_answer(whole | parts_of_mvat, methods))
    parts.append("<details><summary>By test set and size</summary>")
    parts.append(
        "Means over seeds (their range); differences to plain training with [95 % intervals over files, for these "
        "trained networks] (and their range over seeds)."
    )
    for name, test in record["tests"].items():
        parts.append(f"{name}, {test['files']} pairs:")
        parts.append(render_rows(record, name, ablation=False))
    if parts_of_mvat:
        for name in record["tests"]:
            parts.append(f"Parts of MV-AT, {name}:")
            parts.append(render_rows(record, name, ablation=True))
    return "\n\n".join([*parts, "</details>"])


def seed_range(cells: Sequence[dict[str, Any]], key: str) -> float:
    """Difference between the best and the worst of several seeds of one recipe, mean over test sets."""
    tests = set.intersection(*(set(cell["tests"]) for cell in cells))
    values = [[cell["tests"][test]["means"][key] for cell in cells] for test in sorted(tests)]
    return mean(max(of_test) - min(of_test) for of_test in values) if values else 0.0


def render_seeds(methods: Rows, parts_of_mvat: Rows) -> str:
    """The differences between seeds beside those of methods and variants: two sentences, and their table."""
    sizes = {preset: cells for (preset, name), cells in methods.items() if name == PLAIN}
    rows = [["plain training", "seeds", *(f"{METRICS[key].title} from seed to seed" for key in QUICK)]]
    for preset, cells in sizes.items():
        shown = [METRICS[key].show(seed_range(cells, key)) for key in QUICK]
        rows.append([preset, str(len({cell["seed"] for cell in cells})), *shown])
    within, variants = [], 0
    for key in QUICK:
        found = [
            (abs(mean(gains)), seed_range(sizes[preset], key))
            for (preset, name), cells in [*methods.items(), *parts_of_mvat.items()]
            if name != PLAIN and preset in sizes
            for gains in [
                [mean(seed) for test in cells[0]["tests"] for seed in differences(cells, sizes[preset], test, key)]
            ]
            if gains
        ]
        variants = max(variants, len(found))
        within.append(sum(of_variant <= of_seeds for of_variant, of_seeds in found))
    counts = ", ".join(f"{count} by {METRICS[key].title}" for key, count in zip(QUICK, within, strict=True))
    if all(len({cell["seed"] for cell in cells}) == 1 for cells in sizes.values()):
        told = "Only one seed was run, so the difference between seeds is not known"
    elif 2 * sum(within) > variants * len(QUICK):
        told = "Most variants differ from plain training by no more than its seeds differ from each other"
    else:
        told = "Some variants differ from plain training by more than its seeds differ from each other"
    return (
        f"{told}. The number of students (of {variants}, by method or variant) within the seeds' difference is "
        f"{counts}.\n\n{markdown(rows)}"
    )


def render_answer(rows: Rows, methods: Rows) -> str:
    """A line for every method or variant: gains of its runs over plain ones of their size and seed, with counts."""

    def gains(method: str, key: str) -> list[float]:
        runs = [
            [differences([cell], methods.get((preset, PLAIN), []), test, key) for test in cell["tests"]]
            for (preset, name), cells in rows.items()
            if name == method
            for cell in cells
        ]
        return [mean(mean(seed) for (seed,) in by_test) for by_test in runs if by_test and all(by_test)]

    lines = [["method", "runs", *(f"{METRICS[key].title} to plain" for key in QUICK)]]
    for method in dict.fromkeys(name for _, name in rows if name != PLAIN):
        found = {key: gains(method, key) for key in QUICK}
        shown = [
            f"{spread(values, key, '+')}, {sum(value > 0 for value in values)} of {len(values)}"
            if values
            else "not measured"
            for key, values in found.items()
        ]
        lines.append([method, str(len(found[QUICK[0]])), *shown])
    return markdown(lines)


def render_rows(record: Mapping[str, Any], test: str, ablation: bool) -> str:
    """A row for every size and method, or variant; the noisy input first."""
    titles = [METRICS[key].title for key in QUICK]
    rows = [["student", "method", "seeds", *titles, *(f"{title} to plain" for title in titles)]]
    about = record["tests"][test]
    noisy, files = about["noisy"], about["files"]
    title = f"noisy{share_of(about.get('noisy_scored', files), files)}"
    rows.append([title, "", "", *(METRICS[key].show(noisy[key]) for key in QUICK), *[""] * len(QUICK)])
    methods = rows_of(record, ablation=False)
    for (preset, name), all_cells in rows_of(record, ablation).items():
        cells = [cell for cell in all_cells if test in cell["tests"]]
        if not cells:
            continue
        gains = {key: gain(cells, methods.get((preset, PLAIN), []), test, key) for key in QUICK}
        scores = [spread([cell["tests"][test]["means"][key] for cell in cells], key) for key in QUICK]
        shown = [show_gain(key, found) for key, found in gains.items()]
        fewest = min(len(cell["tests"][test]["scores"][key]) for cell in cells for key in QUICK)
        title = f"{name}{share_of(fewest, files)}"
        rows.append([preset, title, str(len(cells)), *scores, *([""] * len(QUICK) if name == PLAIN else shown)])
    return markdown(rows)


def render_privileged(record: Mapping[str, Any]) -> str:
    """Scores of a model that hears the same mixtures at a better signal-to-noise ratio, a row for every gain."""
    rows = [["SNR better by", *(METRICS[key].title for key in QUICK)]]
    rows += [[f"{row['snr_gain']:g} dB", *(show(key, row[key], None) for key in QUICK)] for row in record["rows"]]
    about = f"{record['model']} on {record['mixtures']} validation mixtures, against the clean recordings."
    return f"{markdown(rows)}\n\n{about}"


def share_of(scored: int, files: int) -> str:
    """ " (148 of 150 files)" beside a row whose means lack some, of the seed that lacks most; else nothing."""
    return f" ({scored} of {files} files)" if scored < files else ""


def curves(record: Mapping[str, Any], test: str, key: str) -> dict[str, list[tuple[float, list[float]]]]:
    """For every method its points: FLOPs for 4 s of the student, and the means of its seeds."""
    points: dict[str, list[tuple[float, list[float]]]] = {}
    for (preset, name), cells in rows_of(record, ablation=False).items():
        means = [cell["tests"][test]["means"][key] for cell in cells if test in cell["tests"]]
        if means:
            points.setdefault(name, []).append((complexity(MannerConfig.from_preset(preset)).flops, means))
    return {name: sorted(found) for name, found in points.items()}
