"""Checkpoints load by id though downloads break off or the Hub is away, and are refused where it lies."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load

from forks import Ended
from hub_checkpoints import HF, content_of, load_hash
from hub_server import Answer, failing
from mvat_hf.models import snapshots
from mvat_hf.utils.records import weights_hash

EMBEDDED = "mvat/manner-s-8.1gf"

# --- what runs in the process of the Hub's user ---


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


def load_into(repo, cache) -> str:
    return load_or_error(repo, cache_dir=cache)


# --- interruptions ---


def cut(answer: Answer) -> None:
    answer.cut = True


def test_a_broken_download_is_repeated(hub, at_home, hub_model, hub_checkpoint):
    hub.add("tester/broken", content_of(hub_checkpoint))
    hub.misbehave("GET", "^/lfs/", cut, once=True)
    assert at_home(load_hash, "tester/broken") == weights_hash(hub_model)


def test_a_broken_download_of_a_large_file_is_resumed(hub, hub_user, tmp_path):
    content = os.urandom(2**20) * 24  # huggingface_hub writes, and keeps, 10 MiB at a time
    hub.add("tester/large", {"model.onnx": content})
    hub.misbehave("GET", "^/lfs/", cut, once=True)
    command = [HF, "download", "tester/large", "--local-dir", str(tmp_path)]
    subprocess.run(command, env=hub_user, capture_output=True, check=True)
    assert (tmp_path / "model.onnx").read_bytes() == content
    ranges = [headers.get("range") for method, path, headers in hub.requests if method == "GET" and "/lfs/" in path]
    assert ranges == [None, f"bytes={10 * 2**20}-"]


# --- a Hub that lies ---


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("^/lfs/", lambda body: body[:-1] + bytes([body[-1] ^ 1]), "model.safetensors has the SHA-256"),
        ("/config.json$", lambda body: body.replace(b'"depth": 2', b'"depth": 3'), "config.json has the SHA-1"),
    ],
)
def test_a_file_of_another_hash_is_refused(hub, at_home, hub_checkpoint, path, change, said):
    repo = f"tester/forged-{said[:5]}"
    hub.add(repo, content_of(hub_checkpoint))
    hub.misbehave("GET", path, lambda answer: setattr(answer, "body", change(answer.body)))
    assert said in at_home(load_or_error, repo)


def test_a_shard_of_another_hash_is_refused(hub, at_home, hub_model, tmp_path):
    hub_model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    files = content_of(tmp_path / "sharded")
    assert len([name for name in files if name.endswith(".safetensors")]) > 1
    hub.add("tester/sharded", files)
    assert at_home(load_or_error, "tester/sharded") == weights_hash(hub_model)
    hub.add("tester/forged-shard", files)
    last = max(name for name in files if name.endswith(".safetensors"))
    oid = hashlib.sha256(files[last]).hexdigest()
    hub.misbehave("GET", f"^/lfs/{oid}", lambda answer: setattr(answer, "body", answer.body[:-1] + b"?"))
    assert f"{last} has the SHA-256" in at_home(load_or_error, "tester/forged-shard")


def test_forged_weights_are_told_where_the_package_has_others(hub, at_home, hub_checkpoint, tmp_path):
    """The embedded checkpoint stands in for what cannot be had, not for what was tampered with."""
    hub.add(EMBEDDED, content_of(hub_checkpoint))
    hub.misbehave("GET", "^/lfs/", lambda answer: setattr(answer, "body", answer.body[:-1] + b"?"))
    assert "has the SHA-256" in at_home(load_into, EMBEDDED, str(tmp_path / "cache"))


def test_a_truncated_file_is_refused(hub, at_home, hub_checkpoint):
    hub.add("tester/short", content_of(hub_checkpoint))
    hub.misbehave("GET", "^/lfs/", lambda answer: setattr(answer, "body", answer.body[:-100]))
    assert at_home(load_or_error, "tester/short").startswith("error: ")


class Opened:
    """What a pickle of this does when it is loaded shows in the file system."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_is_never_opened(hub, at_home, hub_checkpoint, tmp_path, name):
    files = {
        "config.json": (hub_checkpoint / "config.json").read_bytes(),
        name: pickle.dumps(Opened(tmp_path / "opened")),
    }
    hub.add("tester/pickle", files)
    assert at_home(load_or_error, "tester/pickle").startswith("error: tester/pickle")
    assert not (tmp_path / "opened").exists()


def test_an_unknown_field_is_named(hub, at_home, hub_model, hub_checkpoint):
    config = json.loads((hub_checkpoint / "config.json").read_text()) | {"dilation": 2}
    hub.add("tester/newer", content_of(hub_checkpoint) | {"config.json": json.dumps(config).encode()})
    weights, said = at_home(load_and_listen, "tester/newer")
    assert weights == weights_hash(hub_model)
    assert said.count("unknown field dilation") == 1 and "is it of a newer mvat_hf?" in said


@pytest.mark.parametrize("header", ["ETag", "X-Repo-Commit"])
def test_no_file_is_written_outside_the_cache(hub, hub_user, at_home, hub_checkpoint, header):
    """By our classes; transformers' own take the Hub's word."""
    repo = f"tester/escape-{header}".lower()
    hub.add(repo, content_of(hub_checkpoint))
    way_out = "../" * 4 + "escaped"  # from the folder of blobs to that of HF_HOME
    hub.misbehave("GET|HEAD", "config.json", lambda answer: answer.headers.update({header: f'"{way_out}"'}))
    assert "which is none" in at_home(load_or_error, repo)
    assert not list(Path(hub_user["HF_HOME"]).parent.rglob("escaped*"))


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        ("index", "the index names ../../../../../escaped.safetensors"),
        ("weights", "model.safetensors has the SHA-256"),
        ("shape", "weights have another shape"),
        ("pickle", "tester/auto-pickle"),
    ],
)
def test_auto_classes_refuse_what_our_classes_do(hub, hub_user, at_home, hub_checkpoint, spoiled, said):
    """They ask our model for its weights; the configuration they read themselves, and believe the Hub on its hash."""
    files = content_of(hub_checkpoint)
    weights = files["model.safetensors"]
    if spoiled == "index":
        files.pop("model.safetensors")
        names = dict.fromkeys(load(weights), "../../../../../escaped.safetensors")
        files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": names}).encode()
        files["../../../../../escaped.safetensors"] = weights
    elif spoiled == "shape":
        files["config.json"] = files["config.json"].replace(b'"growth": 2', b'"growth": 3')
        assert files["config.json"] != (hub_checkpoint / "config.json").read_bytes()
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


def test_a_download_does_not_follow_a_path_outside_its_folder(hub, hub_user, hub_checkpoint, tmp_path):
    hub.add("tester/climber", content_of(hub_checkpoint) | {"../climbed.json": b"{}"})
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


def run_away(forks, environment, *repos) -> Ended:
    done = forks.run(AWAY, *repos, env=environment)
    assert done.status == 0, done.stderr
    assert done.stderr.count("using the one in mvat_hf") == 1
    return done


def test_the_hub_comes_first_then_the_cache_then_the_package(forks, hub, hub_user, at_home, hub_model, hub_checkpoint):
    """Offline, what was loaded once comes from the cache, and the embedded checkpoint from the package."""
    hub.add("tester/cached", content_of(hub_checkpoint))
    assert at_home(load_hash, "tester/cached") == weights_hash(hub_model)
    done = run_away(forks, hub_user | {"HF_HUB_OFFLINE": "1"}, "tester/cached", EMBEDDED)
    assert done.stdout.split() == [weights_hash(hub_model), embedded_hash()]

    hub.add(EMBEDDED, content_of(hub_checkpoint))
    assert at_home(load_hash, EMBEDDED) == weights_hash(hub_model)
    hub.misbehave("GET|HEAD", ".", failing(503))
    assert at_home(load_hash, EMBEDDED) == weights_hash(hub_model)


def test_a_proxy_that_forbids_everything_leaves_the_embedded_weights(forks, hub, hub_user, tmp_path):
    proxied = {name: value for name, value in hub_user.items() if name != "HF_ENDPOINT" and "proxy" not in name.lower()}
    proxied |= {"HTTPS_PROXY": hub.url, "HF_HOME": str(tmp_path)}
    assert run_away(forks, proxied, EMBEDDED).stdout.split() == [embedded_hash()]
