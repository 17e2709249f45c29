"""Checkpoints to the Hub and back over HTTP, with interruptions, with a Hub that is away, and with one that lies."""

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load

from hub_server import Answer, failing
from mvat_hf.acceleration.export import onnx_graph
from mvat_hf.cli import main
from mvat_hf.hub.push import save_checkpoint
from mvat_hf.models import snapshots
from mvat_hf.models.manner import MannerModel
from mvat_hf.utils.records import weights_hash

CODE = {f"{part}_manner.py" for part in (
    "attention", "chunking", "configuration", "feature_extraction", "loss", "modeling", "pipeline",
)}  # fmt: skip
CHECKPOINT = {"config.json", "model.safetensors", "preprocessor_config.json"}
HF = Path(sys.executable).with_name("hf")
EMBEDDED = "mvat/manner-s-8.1gf"


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(seed=1)


@pytest.fixture(scope="module")
def other(tiny_model):
    return tiny_model(seed=2)


def write_card(folder: Path, **metadata) -> None:
    """A card fit to publish `folder`; what is given in `metadata` replaces its part, None takes it away."""
    result = {"type": "pesq", "value": 2.0}
    index = {"name": "x", "results": [{"task": {"type": "audio-to-audio"}, "dataset": {"type": "d", "name": "d"},
                                       "metrics": [result]}]}  # fmt: skip
    complete = {
        "license": "apache-2.0",
        "datasets": ["openslr/librispeech_asr"],
        "model-index": [index],
        "weights_sha256": weights_hash(MannerModel.from_pretrained(folder)),
    }
    kept = {name: value for name, value in (complete | metadata).items() if value is not None}
    (folder / "README.md").write_text(f"---\n{json.dumps(kept)}\n---\n\n# x\n")


@pytest.fixture(scope="module")
def exported(model) -> bytes:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return onnx_graph(model)


@pytest.fixture
def checkpoint(model, exported, tmp_path) -> Path:
    """A measured checkpoint as `mvat push` wants it, beside what a run leaves."""
    folder = save_checkpoint(model, tmp_path / "checkpoint")
    write_card(folder)
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "optimizer.pt").write_bytes(b"another")
    (folder / "model.onnx").write_bytes(exported)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


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
    from mvat_hf.training.arguments import EnhancementArguments
    from mvat_hf.training.trainer import EnhancementTrainer

    args = EnhancementArguments(
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


def load_hash(repo, **options) -> str:
    return weights_hash(MannerModel.from_pretrained(repo, **options))


def load_revisions(repo, *revisions) -> list[str]:
    return [load_hash(repo, revision=revision) for revision in revisions]


def load_or_error(repo, **options) -> str:
    """The hash of the weights, or the one line that a user gets."""
    from mvat_hf.utils.errors import USER_ERRORS, one_line

    try:
        return load_hash(repo, **options)
    except USER_ERRORS as error:
        return one_line(error)


def load_auto(repo) -> str:
    """The class that AutoModel loads, or the one line that a user gets."""
    from transformers import AutoModel

    try:
        return type(AutoModel.from_pretrained(repo)).__name__
    except OSError as error:
        return str(error)


def load_and_listen(repo) -> tuple[str, str]:
    """The hash of the weights, and what was said beside progress bars; a Hub must answer soon."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    snapshots.PROBE_SECONDS = 0.2
    with contextlib.redirect_stderr(io.StringIO()) as said:
        return load_hash(repo), said.getvalue()


def load_released(repo):
    return load_or_error(repo, revision="v1")


# --- there and back ---


def test_a_model_pushed_comes_back_by_id_branch_and_commit(hub, at_home, model, other, tmp_path):
    folders = [str(save_checkpoint(m, tmp_path / name)) for name, m in (("main", model), ("other", other))]
    at_home(push_model, folders[0], "tester/round")
    first = hub.repos["tester/round"].find("main")
    at_home(push_to_branch, folders[1], "tester/round")
    at_home(push_model, folders[1], "tester/round")
    assert hub.files("tester/round").keys() == CHECKPOINT | CODE | {"README.md"}
    hashes = {"model": weights_hash(model), "other": weights_hash(other)}
    loaded = at_home(load_revisions, "tester/round", None, "other", first)
    assert loaded == [hashes["other"], hashes["other"], hashes["model"]]


def test_a_model_saved_and_pushed_at_once_is_complete(hub, at_home, model, tmp_path):
    at_home(save_and_push, str(save_checkpoint(model, tmp_path / "start")), str(tmp_path / "saved"), "tester/saved")
    assert hub.files("tester/saved").keys() >= CHECKPOINT | CODE


def test_a_run_pushed_says_what_it_is_and_that_it_is_not_measured(hub, at_home, model, tmp_path):
    at_home(push_run, str(save_checkpoint(model, tmp_path / "start")), "tester/run", str(tmp_path / "run"))
    files = hub.files("tester/run")
    assert files.keys() >= CHECKPOINT | CODE
    card = ModelCard(files["README.md"].decode())
    assert card.data.pipeline_tag == "audio-to-audio" and card.data.library_name == "transformers"
    assert "**Not measured on a test set.**" in card.text
    assert "Validation chose step 7: PESQ-WB 2.500" in card.text and 'model="tester/run"' in card.text
    assert at_home(load_hash, "tester/run") == weights_hash(model)


def test_mvat_push_publishes_what_was_measured(hub, at_home, model, checkpoint):
    assert at_home(main, ["push", str(checkpoint), "tester/released"]) == 0
    files = hub.files("tester/released")
    assert files.keys() == CHECKPOINT | CODE | {"README.md", "model.onnx"}
    assert files["README.md"] == (checkpoint / "README.md").read_bytes()
    assert json.loads(files["config.json"])["custom_pipelines"]["audio-to-audio"]["pt"] == ["AutoModel"]
    assert at_home(load_hash, "tester/released") == weights_hash(model)


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
def test_mvat_push_refuses_what_is_not_fit_to_publish(hub, checkpoint, capsys, metadata, message):
    write_card(checkpoint, **metadata)
    assert main(["push", str(checkpoint), "tester/released"]) == 1
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
        ("config.json", b'{"model_type": "manner", "hidden_size": 8, "depth": 2}', "another shape"),
        ("config.json", b'{"model_type": "manner", "hidden_size": "six"}', "hidden_size"),
    ],
)
def test_mvat_push_refuses_what_does_not_load(hub, checkpoint, capsys, name, content, message):
    (checkpoint / name).unlink()
    if content is not None:
        (checkpoint / name).write_bytes(content)
    assert main(["push", str(checkpoint), "tester/released"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not hub.requests


@pytest.mark.parametrize("draft", [[], ["--draft"]])
def test_mvat_push_refuses_a_broken_export_and_one_of_other_weights(hub, checkpoint, model, other, capsys, draft):
    (checkpoint / "broken.onnx").write_bytes(b"exported")
    (checkpoint / "model.onnx").write_bytes(onnx_graph(other))
    assert main(["push", str(checkpoint), "tester/released", *draft]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "broken.onnx is not an ONNX file" in error
    assert f"model.onnx is exported from weights {weights_hash(other)}, expected {weights_hash(model)}" in error
    assert not hub.requests


def test_a_draft_is_private(hub, at_home, checkpoint):
    (checkpoint / "README.md").unlink()
    assert at_home(main, ["push", str(checkpoint), "tester/draft", "--draft"]) == 0
    assert hub.repos["tester/draft"].private
    assert b"Not measured on a test set" in hub.files("tester/draft")["README.md"]
    hub.add("tester/public", {})
    assert at_home(main, ["push", str(checkpoint), "tester/public", "--draft"]) == 1
    assert hub.files("tester/public") == {}


def test_a_name_without_an_owner_is_the_users_own(hub, at_home, checkpoint, model):
    (checkpoint / "README.md").unlink()
    for _ in range(2):  # the second time it is there
        assert at_home(main, ["push", str(checkpoint), "alone", "--draft"]) == 0
    assert hub.repos.keys() == {"tester/alone"} and hub.repos["tester/alone"].private
    assert b'model="tester/alone"' in hub.files("tester/alone")["README.md"]
    assert at_home(load_hash, "tester/alone") == weights_hash(model)


def test_the_hf_command_uploads_and_downloads(hub, hub_user, checkpoint, tmp_path):
    for command in (
        ["upload", "tester/by-hf", str(checkpoint), "."],
        ["download", "tester/by-hf", "--local-dir", "back"],
    ):
        done = subprocess.run([HF, *command], env=hub_user, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert content_of(tmp_path / "back") == content_of(checkpoint)


# --- interruptions ---


def cut(answer: Answer) -> None:
    answer.cut = True


def test_a_broken_download_is_repeated(hub, at_home, model, checkpoint):
    hub.add("tester/broken", content_of(checkpoint))
    hub.misbehave("GET", "^/lfs/", cut, once=True)
    assert at_home(load_hash, "tester/broken") == weights_hash(model)


def test_a_broken_download_of_a_large_file_is_resumed(hub, hub_user, tmp_path):
    content = os.urandom(2**20) * 24  # huggingface_hub writes, and keeps, 10 MiB at a time
    hub.add("tester/large", {"model.onnx": content})
    hub.misbehave("GET", "^/lfs/", cut, once=True)
    command = [HF, "download", "tester/large", "--local-dir", str(tmp_path)]
    subprocess.run(command, env=hub_user, capture_output=True, check=True)
    assert (tmp_path / "model.onnx").read_bytes() == content
    ranges = [headers.get("range") for method, path, headers in hub.requests if method == "GET" and "/lfs/" in path]
    assert ranges == [None, f"bytes={10 * 2**20}-"]


def test_a_killed_upload_leaves_nothing_and_can_be_repeated(hub, at_home, model, checkpoint):
    process = multiprocessing.get_context("forkserver").Process(
        target=main, args=(["push", str(checkpoint), "tester/killed"],)
    )
    hub.at_half_upload = lambda: os.kill(process.pid, 9)
    process.start()
    process.join()
    assert process.exitcode == -9
    assert hub.files("tester/killed") == {}
    hub.at_half_upload = None
    assert at_home(main, ["push", str(checkpoint), "tester/killed"]) == 0
    assert at_home(load_hash, "tester/killed") == weights_hash(model)


def test_a_push_that_the_hub_refuses_is_one_line(hub, at_home, checkpoint):
    hub.misbehave("POST", "/commit/", failing(403))
    status, said = at_home(push_and_listen, str(checkpoint), "tester/refused")
    assert status == 1 and said.startswith("error: ") and said.count("\n") == 1
    assert hub.files("tester/refused") == {}


# --- a Hub that lies ---


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("^/lfs/", lambda body: body[:-1] + bytes([body[-1] ^ 1]), "model.safetensors has the SHA-256"),
        ("/config.json$", lambda body: body.replace(b'"depth": 2', b'"depth": 3'), "config.json has the SHA-1"),
    ],
)
def test_a_file_of_another_hash_is_refused(hub, at_home, checkpoint, path, change, said):
    repo = f"tester/forged-{said[:5]}"
    hub.add(repo, content_of(checkpoint))
    hub.misbehave("GET", path, lambda answer: setattr(answer, "body", change(answer.body)))
    assert said in at_home(load_or_error, repo)


def test_a_shard_of_another_hash_is_refused(hub, at_home, model, tmp_path):
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    files = content_of(tmp_path / "sharded")
    assert len([name for name in files if name.endswith(".safetensors")]) > 1
    hub.add("tester/sharded", files)
    assert at_home(load_or_error, "tester/sharded") == weights_hash(model)
    hub.add("tester/forged-shard", files)
    last = max(name for name in files if name.endswith(".safetensors"))
    oid = hashlib.sha256(files[last]).hexdigest()
    hub.misbehave("GET", f"^/lfs/{oid}", lambda answer: setattr(answer, "body", answer.body[:-1] + b"?"))
    assert f"{last} has the SHA-256" in at_home(load_or_error, "tester/forged-shard")


def load_into(repo, cache) -> str:
    return load_or_error(repo, cache_dir=cache)


def test_forged_weights_are_told_where_the_package_has_others(hub, at_home, checkpoint, tmp_path):
    """The embedded checkpoint stands in for what cannot be had, not for what was tampered with."""
    hub.add(EMBEDDED, content_of(checkpoint))
    hub.misbehave("GET", "^/lfs/", lambda answer: setattr(answer, "body", answer.body[:-1] + b"?"))
    assert "has the SHA-256" in at_home(load_into, EMBEDDED, str(tmp_path / "cache"))


def test_a_truncated_file_is_refused(hub, at_home, checkpoint):
    hub.add("tester/short", content_of(checkpoint))
    hub.misbehave("GET", "^/lfs/", lambda answer: setattr(answer, "body", answer.body[:-100]))
    assert at_home(load_or_error, "tester/short").startswith("error: ")


class Opened:
    """What a pickle of this does when it is loaded shows in the file system."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_is_never_opened(hub, at_home, checkpoint, tmp_path, name):
    files = {"config.json": (checkpoint / "config.json").read_bytes(), name: pickle.dumps(Opened(tmp_path / "opened"))}
    hub.add("tester/pickle", files)
    assert at_home(load_or_error, "tester/pickle").startswith("error: tester/pickle")
    assert not (tmp_path / "opened").exists()


def test_an_unknown_field_is_named(hub, at_home, checkpoint):
    config = json.loads((checkpoint / "config.json").read_text()) | {"dilation": 2}
    hub.add("tester/newer", content_of(checkpoint) | {"config.json": json.dumps(config).encode()})
    assert "unknown field dilation" in at_home(load_or_error, "tester/newer")


@pytest.mark.parametrize("header", ["ETag", "X-Repo-Commit"])
def test_no_file_is_written_outside_the_cache(hub, hub_user, at_home, checkpoint, header):
    """By our classes; transformers' own take the Hub's word."""
    repo = f"tester/escape-{header}".lower()
    hub.add(repo, content_of(checkpoint))
    way_out = "../" * 4 + "escaped"  # from the folder of blobs to that of HF_HOME
    hub.misbehave("GET|HEAD", "config.json", lambda answer: answer.headers.update({header: f'"{way_out}"'}))
    assert "which is none" in at_home(load_or_error, repo)
    assert not list(Path(hub_user["HF_HOME"]).parent.rglob("escaped*"))


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        ("index", "model.safetensors.index.json is no index of files"),
        ("weights", "model.safetensors has the SHA-256"),
        ("shape", "weights have another shape"),
        ("pickle", "tester/auto-pickle"),
    ],
)
def test_auto_classes_refuse_what_our_classes_do(hub, hub_user, at_home, checkpoint, spoiled, said):
    """They ask our model for its weights; the configuration they read themselves, and believe the Hub on its hash."""
    files = content_of(checkpoint)
    weights = files["model.safetensors"]
    if spoiled == "index":
        files.pop("model.safetensors")
        names = dict.fromkeys(load(weights), "../../../../../escaped.safetensors")
        files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": names}).encode()
        files["../../../../../escaped.safetensors"] = weights
    elif spoiled == "shape":
        files["config.json"] = files["config.json"].replace(b'"growth": 2', b'"growth": 3')
        assert files["config.json"] != (checkpoint / "config.json").read_bytes()
    elif spoiled == "pickle":
        files["pytorch_model.bin"] = files.pop("model.safetensors")
    repo = f"tester/auto-{spoiled}"
    hub.add(repo, files)
    if spoiled == "weights":
        hub.misbehave("GET", "^/lfs/", lambda answer: setattr(answer, "body", answer.body[:-1] + b"?"))
    assert said in at_home(load_auto, repo)
    assert not list(Path(hub_user["HF_HOME"]).parent.rglob("escaped*"))


def test_auto_classes_load_other_models_as_before(hub, at_home, tmp_path):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    BertModel(BertConfig(**sizes, vocab_size=8)).save_pretrained(tmp_path / "bert")
    hub.add("tester/bert", content_of(tmp_path / "bert"))
    assert at_home(load_auto, "tester/bert") == at_home(load_auto, str(tmp_path / "bert")) == "BertModel"


def test_a_download_does_not_follow_a_path_outside_its_folder(hub, hub_user, checkpoint, tmp_path):
    hub.add("tester/climber", content_of(checkpoint) | {"../climbed.json": b"{}"})
    (tmp_path / "inner").mkdir()
    command = [HF, "download", "tester/climber", "--local-dir", str(tmp_path / "inner" / "folder")]
    done = subprocess.run(command, env=hub_user, capture_output=True, text=True)
    assert done.returncode != 0
    assert not list(tmp_path.rglob("climbed*"))


# --- the embedded default ---


def embedded_hash() -> str:
    return load_hash(snapshots.SNAPSHOTS / "manner-s-8.1gf")


def silent(answer: Answer) -> None:
    answer.silent = True


@pytest.mark.parametrize(
    "fault", [failing(401), failing(403), failing(404), failing(500), failing(503), silent],
    ids=["401", "403", "404", "500", "503", "silent"],
)  # fmt: skip
def test_a_hub_that_does_not_give_it_leaves_the_embedded_weights(hub, at_home, fault):
    hub.misbehave("GET|HEAD", ".", fault)
    loaded, said = at_home(load_and_listen, EMBEDDED)
    assert loaded == embedded_hash()
    assert said == f"{EMBEDDED} could not be had from the Hub or the cache: using the one in mvat_hf\n"


def test_a_revision_that_is_not_there_is_an_error(hub, at_home):
    assert EMBEDDED in at_home(load_released, EMBEDDED)


AWAY = """
import sys
import numpy as np
import mvat_hf
from mvat_hf.utils.records import weights_hash
from transformers import pipeline

for repo in sys.argv[1:]:
    model = mvat_hf.MannerModel.from_pretrained(repo)
    print(weights_hash(model))
assert mvat_hf.MannerConfig.from_pretrained(repo).hidden_size == 30
assert mvat_hf.MannerFeatureExtractor.from_pretrained(repo).sampling_rate == 16000
audio = np.random.default_rng(0).standard_normal(8000).astype("float32")
for clean in (pipeline("audio-to-audio", model=model), pipeline("audio-to-audio")):
    assert np.array_equal(clean(audio)["audio"], mvat_hf.enhance(model, audio, 16000))
"""


def run_away(environment, *repos) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", AWAY, *repos]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("using the one in mvat_hf") == 1
    return done


def test_the_hub_comes_first_then_the_cache_then_the_package(hub, hub_user, at_home, model, checkpoint):
    """Offline, what was loaded once comes from the cache, and the embedded checkpoint from the package."""
    hub.add("tester/cached", content_of(checkpoint))
    assert at_home(load_hash, "tester/cached") == weights_hash(model)
    done = run_away(hub_user | {"HF_HUB_OFFLINE": "1"}, "tester/cached", EMBEDDED)
    assert done.stdout.split() == [weights_hash(model), embedded_hash()]

    hub.add(EMBEDDED, content_of(checkpoint))
    assert at_home(load_hash, EMBEDDED) == weights_hash(model)
    hub.misbehave("GET|HEAD", ".", failing(503))
    assert at_home(load_hash, EMBEDDED) == weights_hash(model)


def test_a_proxy_that_forbids_everything_leaves_the_embedded_weights(hub, hub_user, tmp_path):
    proxied = {name: value for name, value in hub_user.items() if name != "HF_ENDPOINT" and "proxy" not in name.lower()}
    proxied |= {"HTTPS_PROXY": hub.url, "HF_HOME": str(tmp_path)}
    assert run_away(proxied, EMBEDDED).stdout.split() == [embedded_hash()]
