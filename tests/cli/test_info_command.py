"""`mvat info` tells sizes and scores of presets and checkpoints, and refuses what is neither."""

import json
from pathlib import Path

import pytest

from conftest import REPOSITORY, error_of
from mvat_hf.cli import main


def test_info_prints_the_paper_s_ratios(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "1,380,901" in printed
    assert "15.4x fewer parameters, 4.7x fewer FLOPs by thop, 4.4x truly" in printed


def test_info_tells_what_the_family_scores(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for folder in (path.parent for path in (REPOSITORY / "model_cards").glob("*/eval_dns.json")):
        systems = json.loads((folder / "eval_dns.json").read_text(encoding="utf-8"))["systems"]
        means = next(system["means"] for system in systems if system["name"] == folder.name)
        assert f"mvat/{folder.name} on DNS Challenge 2020" in printed
        assert f"PESQ-WB {means['pesq']:.2f}, STOI {100 * means['stoi']:.1f}%" in printed


def test_info_of_a_checkpoint_named_like_a_preset(checkpoint, monkeypatch, capsys):
    monkeypatch.chdir(Path(checkpoint).parent)
    Path(checkpoint).rename("manner-b")
    assert main(["info", "manner-b"]) == 0
    assert "24,068,671" not in capsys.readouterr().out


def test_info_unknown_preset(capsys):
    assert main(["info", "manner-x"]) == 1
    assert "manner-s-8.1gf" in error_of(capsys)


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "1e+09", "1e+300"])
def test_info_of_a_length_that_cannot_be_counted(seconds, capsys):
    assert main(["info", "manner-b", f"--seconds={seconds}"]) == 1
    assert error_of(capsys).endswith(f"above 0 and at most 86400, got {seconds}")


def test_info_of_what_is_no_manner(tmp_path, capsys):
    (tmp_path / "bert").mkdir()
    assert main(["info", str(tmp_path / "bert")]) == 1
    assert "got no config.json" in error_of(capsys)
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    assert main(["info", str(tmp_path / "bert")]) == 1
    assert "got model_type 'bert'" in error_of(capsys)
