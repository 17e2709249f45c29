"""Models pushed to the Hub come back, and what is not fit to publish, or breaks off, leaves nothing there."""

import contextlib
import io
import json
import multiprocessing
import os
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from hub_checkpoints import HF, content_of, load_hash, write_card
from hub_server import failing
from mvat_hf.acceleration.export import onnx_graph
from mvat_hf.cli import main
from mvat_hf.hub.push import save_checkpoint
from mvat_hf.models.manner import MannerModel
from mvat_hf.utils.records import weights_hash

CODE = {f"{part}_manner.py" for part in (
    "attention", "chunking", "configuration", "feature_extraction", "leveling", "loss", "modeling", "pipeline",
)}  # fmt: skip
CHECKPOINT = {"config.json", "model.safetensors", "preprocessor_config.json"}


@pytest.fixture(scope="module")
def other(tiny_model):
    return tiny_model(seed=2, attention_levels="deepest")


@pytest.fixture(scope="module")
def exported(hub_model) -> bytes:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return onnx_graph(hub_model)


@pytest.fixture
def hub_checkpoint(hub_checkpoint, exported) -> Path:
    """With the export of its weights, which a push looks into."""
    (hub_checkpoint / "model.onnx").write_bytes(exported)
    return hub_checkpoint


# --- what runs in the process of the Hub's user ---


def push_model(folder, repo, **options):
    MannerModel.from_pretrained(folder).push_to_hub(repo, **options)


def save_and_push(folder, target, repo):
    MannerModel.from_pretrained(folder).save_pretrained(target, push_to_hub=True, repo_id=repo)


def push_and_listen(folder, repo) -> tuple[int, str]:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        return main(["push", folder, repo]), said.getvalue()


def push_to_branch(folder, repo):
    push_model(folder, repo, revision="other")


def push_run(folder, repo, output):
    from mvat_hf.data.collator import SegmentCollator
    from mvat_hf.models.manner import MannerFeatureExtractor
    from mvat_hf.training.arguments import EnhancementConfig
    from mvat_hf.training.trainer import EnhancementTrainer

    args = EnhancementConfig(
        output_dir=output, hub_model_id=repo, eval_strategy="no", save_strategy="no", load_best_model_at_end=False,
        use_cpu=True,
    )  # fmt: skip
    trainer = EnhancementTrainer(
        model=MannerModel.from_pretrained(folder), args=args, data_collator=SegmentCollator(1.0, 16000, 0),
        processing_class=MannerFeatureExtractor(),
    )  # fmt: skip
    trainer.state.global_step = 7
    trainer.state.log_history = [{"step": 7, "eval_pesq": 2.5, "eval_stoi": 0.9, "eval_si_sdr": 11.0}]
    trainer.push_to_hub()


def push_while_training(folder, repo, output):
    import numpy as np

    from mvat_hf.data.collator import SegmentCollator
    from mvat_hf.training.arguments import EnhancementConfig
    from mvat_hf.training.trainer import EnhancementTrainer

    args = EnhancementConfig(
        output_dir=output, hub_model_id=repo, push_to_hub=True, eval_strategy="no", save_strategy="steps", save_steps=1,
        max_steps=1, load_best_model_at_end=False, use_cpu=True, dataloader_num_workers=0,
    )  # fmt: skip
    noise = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    trainer = EnhancementTrainer(
        model=MannerModel.from_pretrained(folder), args=args, data_collator=SegmentCollator(0.1),
        train_dataset=[{"id": "0", "clean": 0.1 * noise, "noisy": 0.2 * noise}],
    )  # fmt: skip
    trainer.train()


def load_revisions(repo, *revisions) -> list[str]:
    return [load_hash(repo, revision=revision) for revision in revisions]


# --- there and back ---


def test_a_model_pushed_comes_back_by_id_branch_and_commit(hub, at_home, hub_model, other, tmp_path):
    folders = [str(save_checkpoint(m, tmp_path / name)) for name, m in (("main", hub_model), ("other", other))]
    at_home(push_model, folders[0], "tester/round")
    first = hub.repos["tester/round"].find("main")
    at_home(push_to_branch, folders[1], "tester/round")
    at_home(push_model, folders[1], "tester/round")
    assert hub.files("tester/round").keys() == CHECKPOINT | CODE | {"README.md"}
    hashes = {"model": weights_hash(hub_model), "other": weights_hash(other)}
    loaded = at_home(load_revisions, "tester/round", None, "other", first)
    assert loaded == [hashes["other"], hashes["other"], hashes["model"]]


def test_a_model_saved_and_pushed_at_once_is_complete(hub, at_home, hub_model, tmp_path):
    at_home(save_and_push, str(save_checkpoint(hub_model, tmp_path / "start")), str(tmp_path / "saved"), "tester/saved")
    assert hub.files("tester/saved").keys() >= CHECKPOINT | CODE


def test_a_run_pushed_says_what_it_is_and_that_it_is_not_measured(hub, at_home, hub_model, tmp_path):
    at_home(push_run, str(save_checkpoint(hub_model, tmp_path / "start")), "tester/run", str(tmp_path / "run"))
    files = hub.files("tester/run")
    assert files.keys() >= CHECKPOINT | CODE
    card = ModelCard(files["README.md"].decode())
    assert card.data.pipeline_tag == "audio-to-audio" and card.data.library_name == "transformers"
    assert "**Not measured on a test set.**" in card.text
    assert "Validation chose step 7: PESQ-WB 2.500" in card.text and 'model="tester/run"' in card.text
    assert at_home(load_hash, "tester/run") == weights_hash(hub_model)


def test_a_checkpoint_pushed_in_training_has_the_code_that_loads_it(hub, at_home, hub_model, tmp_path):
    folder, output = save_checkpoint(hub_model, tmp_path / "start"), tmp_path / "run"
    at_home(push_while_training, str(folder), "tester/training", str(output))
    files = hub.files("tester/training")
    assert files.keys() >= CHECKPOINT | CODE
    assert files["model.safetensors"] == (output / "checkpoint-1" / "model.safetensors").read_bytes()


def test_mvat_push_publishes_what_was_measured(hub, at_home, hub_model, hub_checkpoint):
    assert at_home(main, ["push", str(hub_checkpoint), "tester/released"]) == 0
    files = hub.files("tester/released")
    assert files.keys() == CHECKPOINT | CODE | {"README.md", "model.onnx"}
    assert files["README.md"] == (hub_checkpoint / "README.md").read_bytes()
    assert json.loads(files["config.json"])["custom_pipelines"]["audio-to-audio"]["pt"] == ["AutoModel"]
    assert at_home(load_hash, "tester/released") == weights_hash(hub_model)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"license": None}, "its card names no licence (license)"),
        ({"datasets": []}, "its card names no data (datasets)"),
        ({"model-index": None}, "its card names no results (model-index)"),
        ({"weights_sha256": None}, "does not say on which weights"),
        ({"weights_sha256": "0" * 64}, "measured on other weights"),
        ({"license": None, "datasets": None}, "no licence (license); its card names no data (datasets)"),
    ],
)
def test_mvat_push_refuses_what_is_not_fit_to_publish(hub, hub_checkpoint, capsys, metadata, message):
    write_card(hub_checkpoint, **metadata)
    assert main(["push", str(hub_checkpoint), "tester/released"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error and "is not fit to publish" in error
    assert not hub.requests


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("README.md", b"---\na: [\n---\n", "cannot be read"),
        ("README.md", None, "there is no card"),
        ("model.safetensors", None, "lacks model.safetensors"),
        ("model.safetensors", b"x" * 100, "no safetensors file"),
        ("model.safetensors", pickle.dumps({"a": torch.zeros(1)}), "no safetensors file"),
        ("config.json", b'{"model_type": "manner", "depth": 2, "attention_levels": "deepest"}', "another shape"),
        ("config.json", b'{"model_type": "manner", "hidden_size": "six"}', "hidden_size"),
    ],
)
def test_mvat_push_refuses_what_does_not_load(hub, hub_checkpoint, capsys, name, content, message):
    (hub_checkpoint / name).unlink()
    if content is not None:
        (hub_checkpoint / name).write_bytes(content)
    assert main(["push", str(hub_checkpoint), "tester/released"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not hub.requests


@pytest.mark.parametrize("draft", [[], ["--draft"]])
def test_mvat_push_refuses_a_broken_export_and_one_of_other_weights(
    hub, hub_checkpoint, hub_model, other, capsys, draft
):
    (hub_checkpoint / "broken.onnx").write_bytes(b"exported")
    (hub_checkpoint / "model.onnx").write_bytes(onnx_graph(other))
    assert main(["push", str(hub_checkpoint), "tester/released", *draft]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "broken.onnx is not an ONNX file" in error
    assert f"model.onnx is exported from weights {weights_hash(other)}, expected {weights_hash(hub_model)}" in error
    assert not hub.requests


def test_a_draft_is_private(hub, at_home, hub_checkpoint):
    (hub_checkpoint / "README.md").unlink()
    assert at_home(main, ["push", str(hub_checkpoint), "tester/draft", "--draft"]) == 0
    assert hub.repos["tester/draft"].private
    assert b"Not measured on a test set" in hub.files("tester/draft")["README.md"]
    hub.add("tester/public", {})
    assert at_home(main, ["push", str(hub_checkpoint), "tester/public", "--draft"]) == 1
    assert hub.files("tester/public") == {}


def test_what_is_of_other_weights_does_not_stay_beside_the_new_ones(hub, at_home, hub_checkpoint):
    (hub_checkpoint / "results.json").write_text("{}")
    (hub_checkpoint / "LICENSE").write_text("free")
    assert at_home(main, ["push", str(hub_checkpoint), "tester/again", "--draft"]) == 0
    assert {"model.onnx", "results.json", "LICENSE"} < hub.files("tester/again").keys()
    for name in ("model.onnx", "results.json", "LICENSE"):
        (hub_checkpoint / name).unlink()
    hub.add("tester/again", {**hub.files("tester/again"), "notes.md": b"mine"})
    assert at_home(main, ["push", str(hub_checkpoint), "tester/again", "--draft"]) == 0
    assert hub.files("tester/again").keys() & {"model.onnx", "results.json"} == set()
    assert {"notes.md", "LICENSE", "model.safetensors"} < hub.files("tester/again").keys()


def test_a_name_without_an_owner_is_the_users_own(hub, at_home, hub_checkpoint, hub_model):
    (hub_checkpoint / "README.md").unlink()
    for _ in range(2):  # the second time it is there
        assert at_home(main, ["push", str(hub_checkpoint), "alone", "--draft"]) == 0
    assert hub.repos.keys() == {"tester/alone"} and hub.repos["tester/alone"].private
    assert b'model="tester/alone"' in hub.files("tester/alone")["README.md"]
    assert at_home(load_hash, "tester/alone") == weights_hash(hub_model)


def test_the_hf_command_uploads_and_downloads(hub, hub_user, hub_checkpoint, tmp_path):
    for command in (
        ["upload", "tester/by-hf", str(hub_checkpoint), "."],
        ["download", "tester/by-hf", "--local-dir", "back"],
    ):
        done = subprocess.run([HF, *command], env=hub_user, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert content_of(tmp_path / "back") == content_of(hub_checkpoint)


# --- interruptions ---


def test_a_killed_upload_leaves_nothing_and_can_be_repeated(hub, at_home, hub_model, hub_checkpoint):
    process = multiprocessing.get_context("forkserver").Process(
        target=main, args=(["push", str(hub_checkpoint), "tester/killed"],)
    )
    hub.at_half_upload = lambda: os.kill(process.pid, 9)
    process.start()
    process.join()
    assert process.exitcode == -9
    assert hub.files("tester/killed") == {}
    hub.at_half_upload = None
    assert at_home(main, ["push", str(hub_checkpoint), "tester/killed"]) == 0
    assert at_home(load_hash, "tester/killed") == weights_hash(hub_model)


def test_a_push_that_the_hub_refuses_is_one_line(hub, at_home, hub_checkpoint):
    hub.misbehave("POST", "/commit/", failing(403))
    status, said = at_home(push_and_listen, str(hub_checkpoint), "tester/refused")
    assert status == 1 and said.startswith("error: ") and said.count("\n") == 1
    assert hub.files("tester/refused") == {}
