"""Records: atomic writes, hashes that tell weights apart, an environment that names commit and versions."""

import json
from pathlib import Path

import pytest
import torch

from mvat_hf.utils.records import environment, weights_hash, write_json


def test_environment_names_versions_and_machine():
    described = environment()
    assert described["versions"]["torch"] == torch.__version__
    assert described["machine"]["cores"] >= 1


def test_a_write_that_fails_half_way_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = write_json(tmp_path / "a" / "results.json", {"one": 1})
    write = Path.write_text

    def disk_full(self, text, **options):
        write(self, text[: len(text) // 2], **options)
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(Path, "write_text", disk_full)
        write_json(path, {"two": 2})
    assert json.loads(path.read_text()) == {"one": 1}
    assert list(path.parent.iterdir()) == [path]


def test_what_is_no_json_leaves_the_old_file_alone(tmp_path):
    path = write_json(tmp_path / "results.json", {"one": 1})
    with pytest.raises(TypeError):
        write_json(path, {"two": object()})
    assert json.loads(path.read_text()) == {"one": 1}


def test_hash_tells_weights_apart():
    torch.manual_seed(0)
    one, same, other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    same.load_state_dict(one.state_dict())
    assert weights_hash(one) == weights_hash(same) != weights_hash(other)


def test_hash_tells_the_filter_before_the_weights(tiny_model):
    model = tiny_model()
    before = weights_hash(model)
    model.config.high_pass_hz = 70
    assert weights_hash(model) != before
    model.config.high_pass_hz = 0
    assert weights_hash(model) == before
