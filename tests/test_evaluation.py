"""Evaluation records: noisy first, failures counted, independent of the number of processes; tables from records."""

import json

import numpy as np
import pytest
import soundfile

from mvat_hf.data.audio import find_audio, read_mono
from mvat_hf.data.pairs import load_pairs
from mvat_hf.evaluation import evaluate, render_table
from mvat_hf.metrics import si_sdr
from mvat_hf.models.manner import MannerConfig, MannerModel

RATE = 16000


@pytest.fixture
def folder(tmp_path):
    """Three pairs, the last of them silent."""
    rng = np.random.default_rng(0)
    for name in ("clean", "noisy"):
        (tmp_path / name).mkdir()
    for number, path in enumerate(find_audio("scripts/demo/speech/bert")[:2]):
        clean = read_mono(path, RATE)
        soundfile.write(tmp_path / "clean" / f"{number}.wav", clean, RATE)
        soundfile.write(tmp_path / "noisy" / f"{number}.wav", clean + 0.02 * rng.standard_normal(len(clean)), RATE)
    for name in ("clean", "noisy"):
        soundfile.write(tmp_path / name / "silence.wav", np.zeros(RATE), RATE)
    return tmp_path


def run(folder, **options):
    model = MannerModel(MannerConfig(hidden_size=6, depth=2, attention_levels="deepest"))
    dataset = load_pairs(folder / "clean", folder / "noisy")
    return evaluate({"model": model}, dataset, name="test", **options)


def test_noisy_row_comes_first_and_is_what_the_metrics_give(folder):
    record = run(folder, processes=1)
    noisy, model = record["systems"]
    assert (noisy["name"], model["name"]) == ("noisy", "model")
    pairs = load_pairs(folder / "clean", folder / "noisy")
    expected = [si_sdr(pairs[index]["clean"], pairs[index]["noisy"]) for index in (0, 1)]
    assert noisy["means"]["si_sdr"] == pytest.approx(np.mean(expected))


def test_silence_is_counted_and_not_scored(folder):
    for system in run(folder, processes=1)["systems"]:
        assert system["scored"] == 2
        assert [failure["id"] for failure in system["failures"]] == ["silence"]
        assert "silent" in system["failures"][0]["reason"]


def test_numbers_do_not_depend_on_processes(folder):
    one, two = ([system["scores"] for system in run(folder, processes=count)["systems"][:1]] for count in (1, 2))
    assert one == two


def test_unreadable_pair_is_reported_and_the_rest_goes_on(folder):
    (folder / "noisy" / "1.wav").write_bytes(b"not audio")
    noisy = run(folder, processes=1)["systems"][0]
    assert noisy["scored"] == 1
    assert any("cannot be read" in failure["reason"] for failure in noisy["failures"])


def test_record_is_json_and_renders(folder):
    record = json.loads(json.dumps(run(folder, processes=1)))
    table = render_table(record).splitlines()
    assert len(table) == 4
    assert f"{record['systems'][0]['means']['pesq']:.2f}" in table[2]
    assert "2 of 3" in table[2]
