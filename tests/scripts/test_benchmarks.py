"""The graph that speeds are compared with computes what the model computes; a record is added to on its own machine."""

import json

import pytest
import torch

from mvat_hf import MannerModel
from mvat_hf.models.snapshots import SNAPSHOTS


@pytest.fixture(scope="module")
def baseline(load_script):
    """The class `Baseline` of the benchmark."""
    return load_script("benchmarks/baseline.py").Baseline


@torch.no_grad()
def assert_equal(baseline, model, audio):
    expected, output = model(audio).audio_values, baseline(model)(audio)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("config", [{"attention_levels": "all", "num_heads": 2}, {"depth": 3, "growth": 3}])
def test_baseline_is_the_model(config, baseline, tiny_model):
    model = tiny_model(**config)
    for length in (1, 900, 4001):
        assert_equal(baseline, model, torch.randn(2, length))


def test_baseline_is_the_model_on_real_weights(baseline, speech):
    assert_equal(baseline, MannerModel.from_pretrained(SNAPSHOTS / "manner-s-8.1gf"), torch.from_numpy(speech[0])[None])


def test_record_is_added_to_on_its_own_machine_only(load_script, tmp_path):
    earlier_record = load_script("benchmarks/inference.py").earlier_record
    here = {"commit": "b", "versions": {"torch": "2"}, "machine": {"cores": 2}}
    rows = [{"system": "baseline", "threads": 1}, {"system": "PyTorch", "threads": 1, "commit": "a"}]
    record = {"environment": {**here, "commit": "c"}, "models": {"manner-b": {"rows": rows}}}
    path = tmp_path / "inference.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    kept = earlier_record(path, here)["models"]["manner-b"]["rows"]
    assert [row["commit"] for row in kept] == ["c", "a"]
    with pytest.raises(SystemExit, match="other machine"):
        earlier_record(path, {**here, "machine": {"cores": 4}})
