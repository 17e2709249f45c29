"""What an evaluation was killed with is kept, for the same evaluation of the same recordings alone."""

import json
import os

import pytest
import soundfile

from evaluations import RATE, Louder, run, write_pairs


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path)


def test_a_killed_evaluation_goes_on_where_it_stopped(folder, tmp_path):
    journal = tmp_path / "scores.jsonl"
    whole = run(folder, {"louder": Louder()}, processes=1)
    with pytest.raises(KeyboardInterrupt):
        run(folder, {"louder": Louder(allowed=2)}, processes=1, journal=journal)
    with journal.open("a") as file:
        file.write('{"row": "louder", "ind')  # the kill came in the middle of a line
    kept = sum('"row": "louder"' in line and line.endswith("}") for line in journal.read_text().splitlines())
    again = Louder()
    resumed = run(folder, {"louder": again}, processes=1, journal=journal)
    timed = 4  # the real-time factor is measured anew
    assert len(again.calls) - timed == 3 - kept
    assert [system["scores"] for system in resumed["systems"]] == [system["scores"] for system in whole["systems"]]
    assert len(journal.read_text().splitlines()) == 1 + 2 * 3  # it goes when the record is on disk


def test_a_journal_of_another_evaluation_is_not_used(folder, tmp_path):
    journal = tmp_path / "scores.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(folder, {"louder": Louder(allowed=2)}, processes=1, journal=journal)
    record = run(folder, processes=1, journal=journal, metrics=("si_sdr",))
    assert all(scores.keys() == {"si_sdr"} for system in record["systems"] for scores in system["scores"].values())


def interrupted(folder, journal) -> list[str]:
    """Ids of what is kept of an evaluation that was interrupted after its last file."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mvat_hf.evaluation.evaluating.environment", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        run(folder, processes=1, journal=journal, metrics=("si_sdr",))
    return [json.loads(line)["score"]["id"] for line in journal.read_text().splitlines()[1:]]


def test_scores_of_recordings_that_have_changed_are_not_used(folder, tmp_path):
    journal = tmp_path / "scores.jsonl"
    assert interrupted(folder, journal)
    path = folder / "noisy" / "0.wav"
    audio, _ = soundfile.read(path)
    soundfile.write(path, audio[::-1], RATE)  # as long, another recording
    again = Louder()
    resumed = run(folder, {"louder": again}, processes=1, journal=journal, metrics=("si_sdr",))
    assert resumed["systems"][0]["scores"] == run(folder, {}, processes=1, metrics=("si_sdr",))["systems"][0]["scores"]
    assert again.calls[:3] == ["0", "1", "silence"]


def test_what_could_not_be_read_is_tried_again(folder, tmp_path):
    journal, path = tmp_path / "scores.jsonl", folder / "noisy" / "0.wav"
    content, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=times)  # the same file, as far as its size and time tell
    assert "0" in interrupted(folder, journal)
    path.write_bytes(content)
    os.utime(path, ns=times)
    record = run(folder, processes=1, journal=journal, metrics=("si_sdr",))
    assert [failure["id"] for failure in record["systems"][0]["failures"]] == ["silence"]


def test_the_journal_stays_until_the_record_is_there(folder, tmp_path, monkeypatch):
    def broken(record):
        raise MemoryError

    monkeypatch.setattr("mvat_hf.evaluation.evaluating.add_statistics", broken)
    journal = tmp_path / "scores.jsonl"
    with pytest.raises(MemoryError):
        run(folder, processes=1, journal=journal, metrics=("si_sdr",))
    assert len(journal.read_text().splitlines()) == 1 + 2 * 3


def test_unknown_metrics_leave_no_journal(folder, tmp_path):
    with pytest.raises(ValueError, match="got foo"):
        run(folder, metrics=("foo",), journal=tmp_path / "scores.jsonl")
    assert not (tmp_path / "scores.jsonl").exists()
