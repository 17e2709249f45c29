"""Statistics against what they estimate, tables that say what the record says, pictures that are drawn."""

import numpy as np
import pytest

from mvat_hf.evaluation import figures
from mvat_hf.evaluation.report import (
    PICTURES,
    add_statistics,
    common_files,
    draw_report,
    interval,
    over_common_files,
    render_differences,
    render_report,
    render_table,
    write_report,
)
from mvat_hf.training.curves import training_curve

METRICS = ["pesq", "stoi", "si_sdr"]


def system(name: str, scores: np.ndarray, failures=(), **described) -> dict:
    """A system of a record, from its scores (files, metrics)."""
    by_file = {f"file_{number}": dict(zip(METRICS, map(float, row), strict=True)) for number, row in enumerate(scores)}
    return {"name": name, "scored": len(scores), "failures": list(failures), "scores": by_file, **described}


@pytest.fixture
def record() -> dict:
    """Noisy, a better system, and one that is better by the same on every file but the last, which it lacks."""
    rng = np.random.default_rng(0)
    noisy = rng.normal([1.6, 0.9, 8], [0.2, 0.02, 3], (30, 3))
    first = noisy + rng.normal([0.5, 0.02, 5], 0.01, (30, 3))
    second = first[:-1] + np.array([0.1, 0.01, 1])
    lost = [{"id": "file_29", "reason": "silent"}]
    systems = [
        system("noisy", noisy),
        system("first", first, parameters=10, flops_4s=1e9, real_time_factor=0.1),
        system("second", second, lost, parameters=20, flops_4s=2e9, real_time_factor=0.2),
    ]
    about = {"name": "test", "files": 30, "sampling_rate": 16000}
    return add_statistics({"dataset": about, "metrics": METRICS, "threads": 1, "systems": systems})


@pytest.fixture
def drawn(monkeypatch) -> dict[str, figures.Figure]:
    """The figures that were saved, by their file's name."""
    saved = {}
    save = figures.Figure.savefig

    def savefig(self, path, **options):
        saved[path.name] = self
        save(self, path, **options)

    monkeypatch.setattr(figures.Figure, "savefig", savefig)
    return saved


def dots(axis) -> list[np.ndarray]:
    """Of every scatter on an axis its points (files, 2)."""
    return [np.asarray(points.get_offsets()) for points in axis.collections if len(points.get_offsets()) > 1]


def scores_of(system: dict, names, metric: str) -> np.ndarray:
    return np.array([system["scores"][name][metric] for name in names])


def assert_scattered(figure, record, metrics) -> None:
    """A panel for each metric, in it for each system a dot a file that it and the noisy input have scores of."""
    noisy, *systems = record["systems"]
    for axis, metric in zip(figure.axes, metrics, strict=True):
        for points, system in zip(dots(axis), systems, strict=True):
            names = [name for name in system["scores"] if name in noisy["scores"]]
            expected = np.stack([scores_of(row, names, metric) for row in (noisy, system)], axis=1)
            np.testing.assert_array_equal(points, expected)


def assert_gains(figure, record, metrics) -> None:
    """A panel for each metric: dots of gain against the input's SI-SDR, and a line whose mean is theirs."""
    noisy, *systems = record["systems"]
    for axis, metric in zip(figure.axes, metrics, strict=True):
        lines = [line for line in axis.get_lines() if line.get_marker() == "o"]
        for points, line, system in zip(dots(axis), lines, systems, strict=True):
            names = sorted(system["scores"], key=lambda name: noisy["scores"][name]["si_sdr"])
            gain = scores_of(system, names, metric) - scores_of(noisy, names, metric)
            np.testing.assert_array_equal(points, np.stack([scores_of(noisy, names, "si_sdr"), gain], axis=1))
            assert line.get_label() == system["name"] and len(line.get_xdata()) == figures.GROUPS
            np.testing.assert_allclose(line.get_xydata()[0], points[: -(-len(points) // figures.GROUPS)].mean(axis=0))


def assert_costs(figure, record, metric) -> None:
    """A panel for each cost that is known: at it the mean of every system, with the ends of its interval."""
    systems = [system for system in record["systems"][1:] if system["scores"]]
    known = [key for key in figures.COSTS if any(key in system for system in systems)]
    for axis, key in zip(figure.axes, known, strict=True):
        for container, system in zip(axis.containers, systems, strict=True):
            point, _, (bar,) = container.lines
            assert point.get_xydata().tolist() == [[system[key], system["means"][metric]]]
            np.testing.assert_allclose(bar.get_segments()[0][:, 1], system["intervals"][metric])
        assert {text.get_text() for text in axis.texts} == {"noisy", *(system["name"] for system in systems)}


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = interval(rng.normal(0, 1, 40))
        covered += low <= 0 <= high
    assert 178 <= covered <= 199  # 95 % of 200, and three standard deviations


def test_an_interval_needs_three_files_and_may_have_no_width():
    assert interval([1.0, 2.0]) is None
    assert interval([1.0, 1.0, 1.0]) == [1.0, 1.0]
    nearly = [1.0, 1.0, 1.0, 1.0 + 2e-16, 1.0 + 4e-16]  # as STOI gives of copies
    assert interval(nearly) == [1.0, max(nearly)]
    assert interval([0.0, 0.0, 2e-16]) is not None


def test_paired_differences_are_taken_file_by_file(record):
    second = record["systems"][2]["differences"]["pesq"]
    assert second["files"] == 29
    assert second["mean"] == pytest.approx(0.1)
    low, high = second["interval"]
    assert high - low < 1e-6  # though the means of both systems are known to 0.1 only
    assert record["systems"][1]["differences"] == {}
    assert record["systems"][0]["differences"]["si_sdr"]["mean"] == pytest.approx(-5, abs=0.1)


def test_tables_show_means_intervals_and_failures(record):
    table = render_table(record)
    means, ends = record["systems"][1]["means"], record["systems"][1]["intervals"]
    assert f"{means['pesq']:.2f} [{ends['pesq'][0]:.2f}, {ends['pesq'][1]:.2f}]" in table
    assert "29 of 30" in table.split("\n\n")[0].splitlines()[-1]
    assert "| second | +0.10" in render_differences(record)
    assert "- second: file_29: silent" in render_report(record)


def test_rows_that_cover_unlike_files_are_compared_over_the_common_ones(record):
    hardest = min(record["systems"][1]["scores"], key=lambda name: record["systems"][1]["scores"][name]["pesq"])
    del record["systems"][2]["scores"][hardest]  # what is left of the second alone looks better still
    record["systems"][2]["scored"] = 28
    record = add_statistics(record)
    own, note, common = render_table(record, ["pesq"]).split("\n\n")
    assert "do not compare" in note and "Over the 28 files" in note
    assert [row.split("|")[-2].strip() for row in own.splitlines()[2:]] == ["30 of 30", "30 of 30", "28 of 30"]
    assert all("28 of 28" in row for row in common.splitlines()[2:])
    noisy, first, second = (row["scores"] for row in record["systems"])
    for row, scores in zip(common.splitlines()[2:], (noisy, first, second), strict=True):
        assert f"{np.mean([scores[name]['pesq'] for name in second]):.2f}" in row
    assert common_files(record) == list(second)
    means = [row["means"]["pesq"] for row in over_common_files(record)["systems"]]
    assert means[2] - means[1] == pytest.approx(0.1)  # as by file, and unlike the difference of the rows' own means
    assert record["systems"][2]["means"]["pesq"] - record["systems"][1]["means"]["pesq"] > 0.103


def test_rows_over_the_same_files_are_one_table(record):
    record["systems"].pop()
    assert "\n\n" not in render_table(record)


def test_rows_without_scores_or_a_common_file(record):
    lost = {**record["systems"][2], "scores": {}, "scored": 0, "means": {}, "intervals": {}}
    record["systems"][2] = lost
    assert "\n\n" not in render_table(record) and "not measured" in render_table(record)
    record["systems"][2] = {**record["systems"][1], "scores": {"other": record["systems"][1]["scores"]["file_0"]}}
    assert "There is no file that all rows have a score of." in render_table(record)


def test_the_picture_of_costs_compares_over_the_common_files(record, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "quality_against_cost", lambda record, path: drawn.append(record))
    draw_report(tmp_path, record, {})
    assert [row["scored"] for row in drawn[0]["systems"]] == [29, 29, 29]


def test_what_was_not_measured_is_said(record):
    record["systems"][1] |= {"means": {}, "intervals": {}}
    assert "not measured" in render_table(record)


def test_a_report_has_its_pictures_of_every_score(record, drawn, tmp_path):
    folder = tmp_path / "new" / "folder"
    write_report(folder, record)
    assert {path.name for path in folder.iterdir()} == {"results.json", "results.md"}  # before any picture
    tones = {"noisy": 1000, "enhanced": 2000, "clean": 3000}
    time = np.arange(4000) / 16000
    draw_report(folder, record, {"best": {name: np.sin(2 * np.pi * hz * time) for name, hz in tones.items()}})
    assert {path.name for path in folder.iterdir()} == {"results.json", "results.md", *PICTURES}
    assert drawn.keys() == set(PICTURES)
    assert_scattered(drawn["scatter.png"], record, ["pesq", "stoi", "si_sdr"])
    assert_gains(drawn["gain_over_snr.png"], record, ["pesq", "si_sdr"])
    assert_costs(drawn["quality_against_cost.png"], over_common_files(record), "pesq")
    for axis, hz in zip(drawn["spectrograms.png"].axes, tones.values(), strict=False):  # a colour bar is the last
        (image,) = axis.images
        decibels = np.asarray(image.get_array()).mean(axis=1)  # by frequency, from 8 kHz down
        assert 8000 * (1 - decibels.argmax() / (len(decibels) - 1)) == pytest.approx(hz, abs=1)


@pytest.mark.parametrize("metric", METRICS)
def test_pictures_of_a_single_metric(metric, record, drawn, tmp_path):
    (tmp_path / "gain_over_snr.png").touch()  # of a record that had more metrics
    single = add_statistics({**record, "metrics": [metric]})
    draw_report(tmp_path, single, {})
    expected = {"scatter.png", "quality_against_cost.png"} | ({"gain_over_snr.png"} if metric == "si_sdr" else set())
    assert {path.name for path in tmp_path.iterdir()} == drawn.keys() == expected
    assert_scattered(drawn["scatter.png"], single, [metric])
    assert_costs(drawn["quality_against_cost.png"], over_common_files(single), metric)
    if metric == "si_sdr":
        assert_gains(drawn["gain_over_snr.png"], single, [metric])


def test_pictures_of_scores_that_are_all_alike(record, drawn, tmp_path):
    alike = system("alike", np.full((3, 3), 0.1), parameters=1)
    systems = [{**row, "scores": dict(list(row["scores"].items())[:3])} for row in (record["systems"][0], alike)]
    record = add_statistics({**record, "systems": systems})
    assert record["systems"][1]["means"]["pesq"] > record["systems"][1]["intervals"]["pesq"][1]  # by rounding
    draw_report(tmp_path, record, {})
    assert_costs(drawn["quality_against_cost.png"], record, "pesq")


def test_pictures_of_systems_without_a_common_file(record, drawn, tmp_path):
    record["systems"][0] |= {"scores": {}, "means": {}, "intervals": {}}
    draw_report(tmp_path, record, {})
    assert not any(dots(axis) for name in ("gain_over_snr.png", "scatter.png") for axis in drawn[name].axes)
    means = {system["name"]: system["means"]["pesq"] for system in over_common_files(record)["systems"][1:]}
    axis = drawn["quality_against_cost.png"].axes[0]
    assert {text.get_text(): text.xy[1] for text in axis.texts} == means


def test_what_was_not_timed_is_said(record):
    record["systems"][2]["not_timed"] = "RuntimeError: too long"
    assert "- second: not timed: RuntimeError: too long" in render_report(record)


def test_a_scatter_is_square_with_the_whole_diagonal(record, drawn, tmp_path):
    figures.scatter_by_file(record, tmp_path / "a.png")
    for axis in drawn["a.png"].axes:
        assert axis.get_xlim() == axis.get_ylim() and axis.get_aspect() == 1
        (diagonal,) = axis.get_lines()
        assert tuple(diagonal.get_xdata()) == tuple(diagonal.get_ydata()) == axis.get_xlim()
        assert axis.get_legend() is None  # it is the figure's, outside
    assert [text.get_text() for text in drawn["a.png"].legends[0].get_texts()] == ["first", "second"]


def test_spectrograms_have_units_and_a_title_once(drawn, tmp_path):
    audio = np.random.default_rng(0).normal(size=4000)
    examples = {name: {"noisy": audio, "clean": audio} for name in ("best, a", "worst, b")}
    figures.spectrogram_grid(examples, 16000, tmp_path / "a.png")
    assert [row.get_suptitle() for row in drawn["a.png"].subfigs] == list(examples)
    axes = [row.axes for row in drawn["a.png"].subfigs]
    assert [axis.get_title() for row in axes for axis in row[:2]] == ["noisy", "clean", "", ""]
    assert [row[0].get_ylabel() for row in axes] == ["Hz", "Hz"]
    assert [axis.get_xlabel() for axis in axes[-1][:2]] == ["s", "s"]
    assert [row[2].get_ylabel() for row in axes] == ["dB", "dB"]  # colour bars


def test_a_panel_of_costs_names_who_has_none(record, drawn, tmp_path):
    del record["systems"][2]["flops_4s"]
    figures.quality_against_cost(record, tmp_path / "a.png")
    assert ["not known: second" in axis.get_xlabel() for axis in drawn["a.png"].axes] == [False, True, False]
    assert all("noisy" in [text.get_text() for text in axis.texts] for axis in drawn["a.png"].axes)


def test_a_time_on_another_device_is_told_as_such(record, drawn, tmp_path):
    record["systems"][2]["device"] = "cuda"
    figures.quality_against_cost(record, tmp_path / "a.png")
    shown = [{text.get_text() for text in axis.texts} for axis in drawn["a.png"].axes]
    assert ["second (cuda)" in names for names in shown] == [False, False, True]
    assert all("first" in names for names in shown)


def test_a_training_curve_shows_the_scores_that_its_loss_falls_with(drawn, tmp_path):
    history = [{"step": step, "loss": 1.0 - step, "l1": 0.5, "snr": 3.0 * step, "pesq": 2.0} for step in range(3)]
    training_curve(history, tmp_path / "a.png")
    (right,) = [axis for axis in drawn["a.png"].axes if axis.get_ylabel() == "SNR (dB)"]
    assert list(right.get_lines()[0].get_ydata()) == [0, 3, 6]
    assert drawn["a.png"].axes[0].get_legend() is None
    named = [text.get_text() for text in drawn["a.png"].legends[0].get_texts()]
    assert [text for text in named if "subtracted" in text] == [
        "PESQ-WB, weighted and subtracted from the loss", "SNR (right), weighted and subtracted from the loss",
    ]  # fmt: skip
    training_curve([{"step": 0, "eval_pesq": 1.0}], tmp_path / "a.png")  # nothing but validation
    assert not drawn["a.png"].legends
