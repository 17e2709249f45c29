"""`mvat evaluate` writes the record that it prints, and refuses what it cannot score."""

import json

import numpy as np
import pytest
import soundfile

from conftest import REPOSITORY, error_of
from mvat_hf.cli import main


def test_evaluate_writes_the_record_it_prints(checkpoint, tmp_path, capsys):
    from mvat_hf.data.audio import find_audio, read_mono

    for name, noise in (("clean", 0.0), ("noisy", 0.02)):
        (tmp_path / name).mkdir()
        speech = read_mono(find_audio(REPOSITORY / "scripts/demo/speech/cora")[0], 16000)
        soundfile.write(
            tmp_path / name / "a.wav", speech + noise * np.random.default_rng(0).standard_normal(len(speech)), 16000
        )
    output = tmp_path / "results"
    folders = ["--clean", str(tmp_path / "clean"), "--noisy", str(tmp_path / "noisy")]
    assert main(["evaluate", checkpoint, "--data", "pairs", *folders, "--output", str(output)]) == 0
    record = json.loads((output / "results.json").read_text())
    assert [system["name"] for system in record["systems"]] == ["noisy", checkpoint]
    assert f"{record['systems'][1]['means']['stoi'] * 100:.1f}" in capsys.readouterr().out
    assert not list(output.glob("*.jsonl"))

    other = ["--clean", str(tmp_path / "clean"), "--noisy", str(tmp_path / "clean"), "--output", str(output)]
    assert main(["evaluate", checkpoint, "--data", "pairs", *other]) == 1
    assert f"and pairs of {tmp_path.name}/clean and {tmp_path.name}/clean would replace it" in error_of(capsys)
    for name in ("clean", "noisy"):
        (tmp_path / name / "a.wav").rename(tmp_path / name / "b.wav")
    assert main(["evaluate", checkpoint, "--data", "pairs", *folders, "--output", str(output)]) == 1
    assert "is of other files of pairs of" in error_of(capsys)
    assert json.loads((output / "results.json").read_text()) == record


def test_evaluations_of_one_folder_lose_nothing_of_each_other(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("clean", "noisy", "enhanced"):
        audio = np.random.default_rng(0).standard_normal(1600) + (name == "noisy")
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "0.wav", audio / 10 + (name == "enhanced") / 20, 16000)
    command = ["--data=pairs", "--clean=clean", "--noisy=noisy", "--metrics=si_sdr", "--processes=1", "--output=out"]
    journals = []
    for row in ("A", "B"):  # both are interrupted when all is scored
        with monkeypatch.context() as patch:
            patch.setattr("mvat_hf.evaluation.evaluating.environment", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
            assert main(["evaluate", f"{row}=enhanced", *command]) == 130
        assert set(journals) < set(journals := sorted((tmp_path / "out").iterdir()))
    assert all(len(path.read_text().splitlines()) == 3 for path in journals)

    def ended(folder, record):  # another evaluation did, while this one was under way
        (folder / "results.json").write_text(json.dumps({**record, "systems": [*record["systems"], {"name": "C"}]}))
        return record

    monkeypatch.setattr("mvat_hf.evaluation.evaluating.environment", lambda: ended(tmp_path / "out", whole) and {})
    whole = {"dataset": {}, "systems": [{"name": "noisy", "scores": {"0": {}}, "failures": []}], "metrics": []}
    whole["dataset"]["name"] = f"pairs of {tmp_path.name}/noisy and {tmp_path.name}/clean"
    assert main(["evaluate", "A=enhanced", *command]) == 1
    assert "also has C, which would be lost: choose another --output. To go on" in (told := error_of(capsys))
    assert [str(path.relative_to(tmp_path)) in told for path in journals].count(True) == 1
    assert all(path.exists() for path in journals)


def test_evaluate_fails_where_a_system_lacks_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("clean", "noisy", "enhanced"):
        (tmp_path / name).mkdir()
        for number in range(2):
            audio = np.random.default_rng(number).standard_normal(1600) + (name == "noisy")
            soundfile.write(tmp_path / name / f"{number}.wav", audio / 10 + (name == "enhanced") / 20, 16000)
    command = ["evaluate", "enhanced", "--data", "pairs", "--clean", "clean", "--noisy", "noisy"]
    command += ["--metrics", "si_sdr, si_sdr", "--processes", "1"]
    assert main(command) == 0
    for other, lost in ((["other=enhanced", *command[2:]], "enhanced"), ([*command[1:], "--metrics=ssnr"], "si_sdr")):
        assert main(["evaluate", *other]) == 1
        assert f"results.json also has {lost}, which would be lost: choose another --output" in error_of(capsys)
    (tmp_path / "enhanced" / "1.wav").unlink()
    assert main(command) == 1
    assert "not scored: enhanced: 1: enhanced has no file named 1" in capsys.readouterr().err
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name == f"pairs_of_{tmp_path.name}_noisy_and_{tmp_path.name}_clean"
    record = json.loads((folder / "results.json").read_text())
    assert record["metrics"] == ["si_sdr"] and record["systems"][1]["scored"] == 1


@pytest.mark.parametrize("metrics", ["stoi", "pesq,dnsmos", "foo"])
def test_evaluate_with_other_metrics(metrics, checkpoint, tmp_path, capsys):
    noise = np.random.default_rng(0).standard_normal((2, 16000)) / 10
    for name, audio in zip(("clean", "noisy"), noise, strict=True):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", audio, 16000)
    output = tmp_path / "results"
    folders = ["--clean", str(tmp_path / "clean"), "--noisy", str(tmp_path / "noisy"), "--metrics", metrics]
    status = main(["evaluate", checkpoint, "--data", "pairs", *folders, "--output", str(output)])
    if metrics == "stoi":
        assert status == 0 and (output / "results.json").is_file() and (output / "spectrograms.png").is_file()
    else:
        assert status == 1 and "expected metrics of pesq" in error_of(capsys)
        assert not output.exists()


def test_evaluate_unmatched_pairs(checkpoint, wav, tmp_path, capsys):
    (tmp_path / "clean").mkdir()
    (tmp_path / "noisy").mkdir()
    soundfile.write(tmp_path / "clean" / "a.wav", np.zeros(10), 16000)
    soundfile.write(tmp_path / "noisy" / "b.wav", np.zeros(10), 16000)
    folders = ["--clean", str(tmp_path / "clean"), "--noisy", str(tmp_path / "noisy")]
    assert main(["evaluate", checkpoint, "--data", "pairs", *folders, "--output", str(tmp_path / "r")]) == 1
    assert "no partner" in error_of(capsys)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "systems", [["noisy=x"], ["rnnoise=x", "--peer", "rnnoise"], ["a=x", "a=y"], ["x", "x"]], ids=" ".join
)
def test_rows_have_names_of_their_own(systems, tmp_path, capsys):
    for name in ("clean", "noisy"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", np.ones(1600) / 2, 16000)
    folders = ["--clean", str(tmp_path / "clean"), "--noisy", str(tmp_path / "noisy"), "--output", str(tmp_path / "r")]
    assert main(["evaluate", *systems, "--data", "pairs", *folders, "--metrics", "si_sdr"]) == 1
    assert "error: every row needs a name of its own" in error_of(capsys)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "dns", "--root", "FOLDER", "--clean", "FOLDER"], "--clean is no option for --data dns, got"),
        (["--data", "valentini", "--root", "FOLDER", "--noisy", "FOLDER"], "--noisy is no option for --data valentini"),
        (["--data", "pairs", "--clean", "FOLDER", "--noisy", "FOLDER", "--root", "x"], "--root is no option for"),
        (["--data", "pairs", "--clean", "FOLDER", "--noisy", "FOLDER", "--split", "x"], "--split is no option for"),
        (["mine=", "--data", "pairs", "--clean", "FOLDER", "--noisy", "FOLDER"], 'or ROW=MODEL, got "mine="'),
        (["=FOLDER", "--data", "pairs", "--clean", "FOLDER", "--noisy", "FOLDER"], 'or ROW=MODEL, got "='),
        (["", "--data", "pairs", "--clean", "FOLDER", "--noisy", "FOLDER"], 'or ROW=MODEL, got ""'),
        (["--metrics", "", "--data", "pairs", "--clean", "FOLDER", "--noisy", "FOLDER"], "expected metrics of pesq"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_would_do_nothing_or_something_else_is_refused(arguments, message, tmp_path, capsys, monkeypatch):
    """As an option of another data set would, or a shell variable that is not set."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    soundfile.write(tmp_path / "folder" / "a.wav", np.ones(1600) / 2, 16000)
    folder = str(tmp_path / "folder")
    assert main(["evaluate", *(argument.replace("FOLDER", folder) for argument in arguments)]) == 1
    assert message in error_of(capsys)
    assert not (tmp_path / "results").exists()
