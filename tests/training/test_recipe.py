"""Recipes: strict keys, command-line overrides, and a run that refuses another recipe's folder."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import TrainerState

from conftest import REPOSITORY
from mvat_hf.data.augment import Augmentation
from mvat_hf.data.batch_augmentation import BatchAugmentation
from mvat_hf.data.matching import DataError
from mvat_hf.data.pairs import load_pairs
from mvat_hf.data.reverb import Rooms
from mvat_hf.training.arguments import DistillationConfig, EnhancementConfig
from mvat_hf.training.recipe import DataArguments, ModelArguments, RecipeError, parse_recipe, read_recipe
from mvat_hf.training.run import (
    asked_checkpoint,
    check_same_folder,
    check_same_processes,
    check_same_recipe,
    disk_errors,
    last_checkpoint,
    load_teacher,
    prepare,
)
from mvat_hf.utils.cores import usable_cores

KINDS = [DistillationConfig, ModelArguments, DataArguments]
RECIPES = sorted((REPOSITORY / "scripts/recipes").glob("*.yaml"))


def test_command_line_wins_over_recipe(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("beta: 0.3\nmax_steps: 7\npreset: manner-s\n")
    args, model, _ = parse_recipe(KINDS, ["--config", str(recipe), "--max_steps", "9"])
    assert (args.max_steps, model.preset, args.beta) == (9, "manner-s", 0.3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unknown key learning_rat"),
        ("- 1", "mapping of options, got list"),
        ("a: [", "not YAML"),
        ("", "mapping of options, got NoneType"),
        ("max_steps: null", "max_steps cannot be null"),
        ("max_steps: [1]", r"max_steps cannot be a list, got \[1\]"),
        ("max_steps: 1.5", "invalid int value: '1.5'"),
    ],
)
def test_bad_recipe_is_one_clear_line(tmp_path, text, message):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(RecipeError, match=message) as raised:
        parse_recipe(KINDS, [f"--config={recipe}"])
    assert "\n" not in str(raised.value)


def test_null_is_a_value_where_an_option_may_have_none(tmp_path):
    (tmp_path / "recipe.yaml").write_text("save_total_limit: null\n")
    recipe = parse_recipe(KINDS, ["--config", str(tmp_path / "recipe.yaml")])
    assert recipe.parts[0].save_total_limit is None and parse_recipe(KINDS, []).parts[0].save_total_limit == 2


def test_types_of_yaml_stay_types(tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        "report_to: [tensorboard, wandb]\nloss_weights: {snr: 0.5}\nmethod_kwargs: {p: 1, views: [local_view]}\n"
        "lr_scheduler_kwargs: {num_cycles: 2}\nlearning_rate: 1e-4\nbf16: false\n"
    )
    args, *_ = parse_recipe(KINDS, ["--config", str(tmp_path / "recipe.yaml")])
    assert args.report_to == ["tensorboard", "wandb"] and args.loss_weights == {"snr": 0.5}
    assert args.method_kwargs == {"p": 1, "views": ["local_view"]}
    assert args.lr_scheduler_kwargs == {"num_cycles": 2} and args.learning_rate == 1e-4 and args.bf16 is False


def test_earlier_names_are_understood_in_files_and_on_the_command_line(tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        "snr_weight: 0.1\npesq_weight: 1\nteacher: a/b\nviews: 'local_view, global_view'\n"
    )
    recipe = parse_recipe(KINDS, [f"--config={tmp_path / 'recipe.yaml'}", "--snr-weight", "5", "--p=1.0"])
    args = recipe.parts[0]
    assert args.loss_weights == {"snr": 5, "pesq": 1} and args.teacher_model_name_or_path == "a/b"
    assert args.method_kwargs["views"] == ["local_view", "global_view"] and float(args.method_kwargs["p"]) == 1
    assert {"loss_weights", "teacher_model_name_or_path", "method_kwargs"} == recipe.described().keys()


def test_two_recipes_are_refused():
    with pytest.raises(RecipeError, match="expected one --config, got 2: .*a.yaml.*"):
        parse_recipe(KINDS, ["--config", "b.yaml", "--config=a.yaml"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"sna": 1}, "no term sna, expected of snr, compressed, pesq"),
        ({"snr": -1}, "snr must be at least 0, got -1"),
        ({"snr": "much"}, "snr must be a number, got 'much'"),
        ("much", 'must be a mapping of terms to weights, got "much"'),
    ],
)
def test_weights_without_sense_are_refused(weights, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        EnhancementConfig(str(tmp_path), use_cpu=True, loss_weights=weights)


def test_only_what_bears_on_the_result_tells_runs_apart(tmp_path):
    (tmp_path / "recipe.yaml").write_text("run_name: a\nsnr_weight: 0.5\nlog_level: info\nuse_cpu: true\n")
    check_same_recipe(tmp_path, parse_recipe(KINDS, ["--run_name=b", "--loss_weights", '{"snr": 0.5}']))
    with pytest.raises(RecipeError, match="other loss_weights"):
        check_same_recipe(tmp_path, parse_recipe(KINDS, ["--run_name=b"]))


def test_another_number_of_processes_is_told(tmp_path):
    check_same_processes(tmp_path, 4)  # nothing tells how many saved the model alone
    for rank in range(2):
        (tmp_path / f"rng_state_{rank}.pth").touch()
    check_same_processes(tmp_path, 2)
    with pytest.raises(RecipeError, match="was saved by 2 processes, got 1"):
        check_same_processes(tmp_path, 1)


def test_a_checkpoint_that_cannot_be_read_is_named_and_the_one_before_it_taken(tmp_path, tiny_model, capsys):
    for step in (9, 10, 11, 12):  # by number, not by name
        tiny_model().save_pretrained(tmp_path / f"checkpoint-{step}")
        TrainerState(global_step=step).save_to_json(str(tmp_path / f"checkpoint-{step}" / "trainer_state.json"))
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-12") and not capsys.readouterr().err
    (tmp_path / "checkpoint-12" / "trainer_state.json").write_bytes(b"")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-11")
    assert "checkpoint-12: trainer_state.json (0 bytes) cannot be read" in capsys.readouterr().err
    weights = tmp_path / "checkpoint-11" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    (tmp_path / "checkpoint-10" / "optimizer.pt").write_bytes(b"PK")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    told = capsys.readouterr().err
    assert "checkpoint-11: model.safetensors cannot be read" in told and "checkpoint-10: optimizer.pt is cut" in told
    (tmp_path / "checkpoint-9" / "model.safetensors").unlink()
    assert last_checkpoint(tmp_path) is None
    assert "checkpoint-9: it has no weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "environment", "expected"), [(None, "1", 1), (2, "1", 2), (None, None, usable_cores())]
)
def test_threads_are_those_that_are_asked_for(tmp_path, asked, environment, expected):
    """In processes of their own: torch reads the variable as it starts."""
    code = (
        "from mvat_hf.training.arguments import EnhancementConfig\nfrom mvat_hf.training.run import threads_of\n"
        f"print(threads_of(EnhancementConfig('run', use_cpu=True, threads={asked})))"
    )
    others = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    variables = others | ({"OMP_NUM_THREADS": environment} if environment else {})
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    *told, threads = done.stdout.splitlines()
    assert threads == str(expected)
    fewer = asked is None and environment == "1" and usable_cores() > 1
    assert (
        told == [f"computing on 1 of {usable_cores()} cores, as OMP_NUM_THREADS says: --threads N for others"] * fewer
    )


@pytest.mark.parametrize(
    ("of_the_user", "command", "sets", "expected"),
    [
        (None, "bin/accelerate launch", "1", True),
        (None, "-m accelerate.commands.launch", "1", True),
        ("1", "bin/accelerate launch", "1", False),
        (None, "bin/accelerate launch --num_cpu_threads_per_process=1", "1", False),
        (None, "bin/accelerate launch", "4", False),
        (None, "a shell", "1", False),
    ],
)
def test_what_the_launcher_sets_is_told_from_what_its_user_sets(of_the_user, command, sets, expected):
    """A process that starts another, with the environment that `accelerate launch` gives it."""
    asks = "from mvat_hf.utils.cores import threads_of_launcher\nprint(threads_of_launcher())"
    launcher = (
        "import os, subprocess, sys\n"
        f"environment = {{**os.environ, 'OMP_NUM_THREADS': '{sets}'}}\n"
        f"subprocess.run([sys.executable, '-c', {asks!r}], env=environment, check=True)"
    )
    others = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    variables = others | ({"OMP_NUM_THREADS": of_the_user} if of_the_user else {})
    started = [sys.executable, "-c", launcher, *command.split()]
    done = subprocess.run(started, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(expected)]


def test_a_teacher_that_is_not_there_is_named(tmp_path):
    for name in (str(tmp_path / "nowhere"), "./nowhere"):
        with pytest.raises(RecipeError, match="no such teacher: .*nowhere, expected a checkpoint folder or Hub id"):
            load_teacher(name)


def test_a_checkpoint_that_is_asked_for_is_gone_on_from(tmp_path, tiny_model):
    """As elsewhere: a folder, or "true" for the last one."""
    folder = tmp_path / "checkpoint-3"
    tiny_model().save_pretrained(folder)
    with pytest.raises(RecipeError, match="checkpoint-3: trainer_state.json is missing"):
        asked_checkpoint(str(folder), None, tmp_path)
    TrainerState(global_step=3).save_to_json(str(folder / "trainer_state.json"))
    assert asked_checkpoint(str(folder), None, tmp_path) == str(folder)
    assert asked_checkpoint("True", "last", tmp_path) == "last"
    with pytest.raises(RecipeError, match="holds no checkpoint to go on from"):
        asked_checkpoint("true", None, tmp_path)
    with pytest.raises(RecipeError, match="resume_from_checkpoint: .*nowhere: no such folder"):
        asked_checkpoint(str(tmp_path / "nowhere"), None, tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told(tmp_path, error):
    with pytest.raises(OSError, match=f"{tmp_path} cannot be written: the disk is full"), disk_errors(tmp_path):
        raise error
    with pytest.raises(RuntimeError, match="shapes"), disk_errors(tmp_path):
        raise RuntimeError("shapes")


def test_missing_recipe_is_named():
    with pytest.raises(RecipeError, match="no such recipe: nowhere.yaml"):
        parse_recipe(KINDS, ["--config", "nowhere.yaml"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_and_builds_its_model(path):
    # in the precision that every machine has
    _, model, _ = parse_recipe(KINDS, ["--config", str(path), "--bf16", "false"])
    assert model.build().num_parameters() > 0


def test_described_options_are_those_that_were_set_and_matter(tmp_path):
    (tmp_path / "recipe.yaml").write_text("hidden_size: 24\ndataloader_num_workers: 3\n")
    options = [
        f"--config={tmp_path / 'recipe.yaml'}",
        "--beta",
        "0.5",
        "--output_dir=elsewhere",
        "--hub_token=secret",
        "--learning_rate=1e-3",
    ]
    assert parse_recipe(KINDS, options).described() == {"beta": 0.5, "hidden_size": 24, "learning_rate": 1e-3}


def test_another_recipe_is_told_from_the_same_one_with_its_defaults_spelt_out(tmp_path):
    (tmp_path / "recipe.yaml").write_text("beta: 0.5\n")
    check_same_recipe(tmp_path, parse_recipe(KINDS, ["--beta=0.5"]))
    (tmp_path / "recipe.yaml").write_text("beta: 0.1\n")
    check_same_recipe(tmp_path, parse_recipe(KINDS, []))
    check_same_recipe(tmp_path, parse_recipe(KINDS, ["--seed=42"]))
    with pytest.raises(RecipeError, match="other beta, seed"):
        check_same_recipe(tmp_path, parse_recipe(KINDS, ["--beta=0.5", "--seed=3"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dataset": "librispeech", "data_root": "."},
            'dataset must be one of dns, valentini, pairs, mixed, hub, got "librispeech"',
        ),
        ({"dataset": "dns"}, "data_root is not set"),
    ],
)
def test_bad_data_options(options, message):
    with pytest.raises(RecipeError, match=message):
        DataArguments.of(**options).load(0, None, 16000)


@pytest.fixture
def valentini(tmp_path):
    """Four pairs of half a second, two speakers."""
    rng = np.random.default_rng(0)
    for side in ("clean", "noisy"):
        (tmp_path / f"{side}_trainset_28spk_wav").mkdir()
        for name in ("p226_001", "p226_002", "p287_001", "p300_001"):
            path = tmp_path / f"{side}_trainset_28spk_wav" / f"{name}.wav"
            soundfile.write(path, 0.1 * rng.standard_normal(8000), 16000)
    return {"dataset": "valentini", "data_root": str(tmp_path)}


@pytest.mark.filterwarnings("ignore::mvat_hf.data.matching.PartialDataWarning")
def test_valentini_options(valentini):
    train, validation = DataArguments.of(**valentini).load(0, None, 16000)
    assert list(train["id"]) == ["p226_001", "p226_002", "p300_001"] and list(validation["id"]) == ["p287_001"]
    hop = {"segments": "hop", "segment_seconds": 0.25, "hop_seconds": 0.125, "validation_speakers": "p287, p300"}
    train, validation = DataArguments.of(**valentini, **hop).load(0, None, 16000)
    assert list(train["id"]) == [f"p226_00{file}@{start}" for file in (1, 2) for start in (0, 2000, 4000)]
    assert list(validation["id"]) == ["p287_001", "p300_001"] and len(validation[0]["clean"]) == 8000
    with pytest.raises(RecipeError, match='segments must be random or hop, got "fixed"'):
        DataArguments.of(**valentini, segments="fixed").load(0, None, 16000)


@pytest.fixture
def own(tmp_path):
    """Eleven pairs of a tenth of a second."""
    rng = np.random.default_rng(0)
    for side in ("clean", "noisy"):
        (tmp_path / side).mkdir()
        for name in range(11):
            soundfile.write(tmp_path / side / f"{name}.wav", 0.1 * rng.standard_normal(1600), 16000)
    return {"clean": str(tmp_path / "clean"), "noisy": str(tmp_path / "noisy"), "dataset": "pairs"}


def test_own_pairs_with_a_share_of_them_to_validate(own):
    train, validation = DataArguments.of(**own, validation_share=0.3).load(0, None, 16000)
    again, _ = DataArguments.of(**own, validation_share=0.3).load(5, None, 16000)
    assert (len(train), len(validation)) == (8, 3) and list(again["id"]) == list(train["id"])
    assert not set(train["id"]) & set(validation["id"]) and train[0]["clean"].shape == (1600,)
    with pytest.raises(RecipeError, match="validation_share must be above 0 and below 1, got 1"):
        DataArguments.of(**own, validation_share=1).load(0, None, 16000)


def test_own_pairs_with_folders_to_validate(own):
    folders = {"validation_clean": own["clean"], "validation_noisy": own["noisy"]}
    train, validation = DataArguments.of(**own, **folders, segments="hop", segment_seconds=0.05, hop_seconds=0.05).load(
        0, None, 16000
    )
    assert (len(train), len(validation)) == (22, 11)
    with pytest.raises(RecipeError, match="both validation_clean and validation_noisy or none"):
        DataArguments.of(**own, validation_clean=own["clean"]).load(0, None, 16000)
    with pytest.raises(RecipeError, match="noisy is not set, expected the folder of noisy recordings"):
        DataArguments.of(dataset="pairs", clean=own["clean"]).load(0, None, 16000)


def test_speech_and_noise_of_ones_own_are_mixed(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("speech", "noise"):
        for group in "ab":
            (tmp_path / kind / group).mkdir(parents=True)
            soundfile.write(tmp_path / kind / group / "0.wav", 0.1 * rng.standard_normal(8000), 16000)
    folders = {kind: str(tmp_path / kind) for kind in ("speech", "noise")}
    data = DataArguments.of(dataset="mixed", **folders, segment_seconds=0.25, snr_low=3, snr_high=3)
    train, validation = data.load(0, 7, 16000)
    assert (len(train), len(validation)) == (7, 1) and len(validation[0]["clean"]) == 8000
    clean, noisy = (train[0][side].astype(float) for side in ("clean", "noisy"))
    assert len(clean) == 4000
    assert 10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2)) == pytest.approx(3, abs=0.1)
    with pytest.raises(RecipeError, match="noise is not set, expected a folder"):
        DataArguments.of(dataset="mixed", speech=folders["speech"]).load(0, 7, 16000)


def test_columns_of_a_data_set_as_the_hub_has_it(own, tmp_path):
    rows = load_pairs(own["clean"], own["noisy"]).select_columns(["clean", "noisy"])
    (tmp_path / "hub").mkdir()
    rows.rename_columns({"clean": "reference", "noisy": "recording"}).to_parquet(tmp_path / "hub" / "train.parquet")
    columns = {"clean_column": "reference", "noisy_column": "recording"}
    options = {"dataset": "hub", "data_root": str(tmp_path / "hub")}
    train, validation = DataArguments.of(**options, **columns).load(0, None, 16000)
    assert (len(train), len(validation)) == (10, 1)
    files = load_pairs(own["clean"], own["noisy"])
    item = train[0]
    np.testing.assert_array_equal(item["clean"], files[int(item["id"])]["clean"])
    with pytest.raises(DataError, match="has no column clean of audio, those it has: reference, recording"):
        DataArguments.of(**options).load(0, None, 16000)


def test_a_data_set_of_the_hub_is_streamed(own, tmp_path):
    (tmp_path / "hub").mkdir()
    load_pairs(own["clean"], own["noisy"]).to_parquet(tmp_path / "hub" / "train.parquet")
    options = {"dataset": "hub", "data_root": str(tmp_path / "hub"), "streaming": True}
    train, validation = DataArguments.of(**options, validation_files=3).load(0, None, 16000)
    assert list(validation["id"]) == ["0", "1", "10"] and len(validation[0]["clean"]) == 1600
    assert not {item["id"] for item in train.first(8)} & set(validation["id"])
    in_order, _ = DataArguments.of(**options, validation_files=3, shuffle_buffer=0).load(0, None, 16000)
    names = [item["id"] for item in in_order.first(9)]
    assert names == [*sorted(names[:8]), "2#1"]
    split, validation = DataArguments.of(**options, validation_files=99, validation_split="train").load(0, None, 16000)
    assert len(validation) == len({item["id"] for item in split.first(11)}) == 11
    with pytest.raises(RecipeError, match="no length to validate on a share of: expected --validation_files N"):
        DataArguments.of(**options).load(0, None, 16000)
    with pytest.raises(RecipeError, match="shuffle_buffer must be at least 0, got -1"):
        DataArguments.of(**options, validation_files=3, shuffle_buffer=-1).load(0, None, 16000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--streaming=true", "--validation_share=0.2"], "validation_share cannot be with streaming"),
        (["--streaming=true", "--segments=hop"], "segments cannot be with streaming: segments of a grid need all"),
        (["--shuffle_buffer=9"], "shuffle_buffer is of a stream: expected --streaming true beside it"),
    ],
)
def test_what_a_stream_of_rows_cannot_have_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(KINDS, ["--dataset=hub", *options])


def test_a_stream_needs_a_number_of_steps(tmp_path):
    args, model, data = parse_recipe(KINDS, ["--streaming=true", f"--output_dir={tmp_path}", "--use_cpu"])
    with pytest.raises(RecipeError, match="streaming has no end: expected --max_steps, the steps to train for, got -1"):
        prepare(model, args, data)


@pytest.mark.parametrize("dataset", ["dns", "valentini"])
def test_plain_pairs_given_to_a_corpus_are_told_where_they_belong(own, dataset):
    root = str(Path(own["clean"]).parent)
    with pytest.raises(
        RecipeError, match=f"and not {dataset}: expected --dataset pairs --clean .*clean --noisy .*noisy"
    ):
        DataArguments.of(dataset=dataset, data_root=root).load(0, None, 16000)


def test_options_of_another_data_set_are_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("dataset: dns\nsnr_low: -5\n")
    config = ["--config", str(tmp_path / "recipe.yaml")]
    assert parse_recipe(KINDS, config).parts[2].mixing.snr_low == -5
    with pytest.raises(RecipeError, match="snr_low is an option of dns, mixed, the data set is valentini"):
        parse_recipe(KINDS, [*config, "--dataset=valentini"])
    with pytest.raises(RecipeError, match="speed_change is an option of dns, mixed, the data set is valentini"):
        parse_recipe(KINDS, ["--dataset=valentini", "--speed-change=0.1"])
    with pytest.raises(RecipeError, match="segments is an option of pairs, hub, valentini, the data set is dns"):
        parse_recipe(KINDS, ["--segments", "hop"])


def test_a_recorded_recipe_parses_to_itself(tmp_path):
    arguments = ["--lr_scheduler_kwargs", '{"num_cycles": 2}', "--accelerator_config", '{"split_batches": false}']
    described = parse_recipe(KINDS, arguments).described()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(described))
    assert parse_recipe(KINDS, ["--config", str(tmp_path / "recipe.yaml")]).described() == described


def test_processes_that_do_not_share_a_folder_are_told():
    check_same_folder(Path("runs"), ["checkpoint-1", "checkpoint-1"])
    with pytest.raises(RecipeError, match="disk that all processes share.*by rank: checkpoint-1, none"):
        check_same_folder(Path("runs"), ["checkpoint-1", None])


def test_a_checkpoint_is_resized_where_options_ask_for_it(tmp_path, tiny_model):
    tiny_model(hidden_size=6, depth=2, high_pass_hz=70).save_pretrained(tmp_path / "a")
    checkpoint, asked = str(tmp_path / "a"), []

    def batches(rate):
        asked.append(rate)
        return [torch.randn(2, 4000)]

    same = ModelArguments(init_from=checkpoint).build(batches)
    assert same.config.hidden_size == 6 and not asked
    wider = ModelArguments(init_from=checkpoint, hidden_size=9, attention_levels="0,1").build(batches)
    assert (wider.config.hidden_size, wider.config.attended_levels, asked) == (9, (0, 1), [16000])
    assert wider.config.high_pass_hz == 70
    with pytest.raises(ValueError, match="in width and attention alone: its depth is 2, got 3"):
        ModelArguments(init_from=checkpoint, preset="manner-s-2.2gf").build()
    with pytest.raises(RecipeError, match='attention_levels must be all, deepest, none or .*, got "x"'):
        ModelArguments(attention_levels="x").build()


def test_the_mean_of_checkpoints(tmp_path, tiny_model):
    first, second, other = tiny_model(seed=0), tiny_model(seed=1), tiny_model(hidden_size=18)
    for name, model in (("a", first), ("b", second), ("c", other)):
        model.save_pretrained(tmp_path / name)
    mean = ModelArguments(init_from=f"{tmp_path / 'a'}, {tmp_path / 'b'}").build().state_dict()
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (first.state_dict()[name] + second.state_dict()[name]) / 2)
    with pytest.raises(RecipeError, match="a and .*c have no mean: their hidden_size is .* and 18"):
        ModelArguments(init_from=f"{tmp_path / 'a'},{tmp_path / 'c'}").build()


def test_a_checkpoint_may_hear_less_from_now_on(tmp_path, tiny_model):
    tiny_model().save_pretrained(tmp_path / "a")
    checkpoint = str(tmp_path / "a")
    assert ModelArguments(init_from=checkpoint).build().config.high_pass_hz == 0
    assert ModelArguments(init_from=checkpoint, high_pass_hz=70).build().config.high_pass_hz == 70
    assert ModelArguments(preset="manner-s-2.2gf", high_pass_hz=70).build().config.high_pass_hz == 70
    for init_from in (checkpoint, None):
        with pytest.raises(StrictDataclassError, match="below half the sampling rate .* got 9000"):
            ModelArguments(init_from=init_from, high_pass_hz=9000).build()


def test_levels_from_the_command_line():
    model = ModelArguments(preset="manner-s-2.2gf", attention_levels="1,2").build()
    assert model.config.attended_levels == (1, 2)
    assert ModelArguments(preset="manner-s-2.2gf", attention_levels="none").build().config.attended_levels == ()


def test_read_recipe_gives_plain_values(tmp_path):
    (tmp_path / "recipe.yaml").write_text("beta: 1.5e-3\n")
    assert read_recipe(tmp_path / "recipe.yaml") == {"beta": 1.5e-3}


def test_options_of_augmentation_reach_their_part():
    arguments = ["--speed_change=0.1", "--band_mask=0.2", "--rt60_high=0.3", "--segment_seconds=2"]
    _, _, data = parse_recipe(KINDS, arguments)
    assert data.augmentation == Augmentation(speed_change=0.1)
    assert data.rooms == Rooms(rt60_high=0.3)
    collator = data.collator(16000, 5)
    assert (collator.seconds, collator.seed, collator.augmentation) == (2, 5, BatchAugmentation(band_mask=0.2))
    with pytest.raises(ValueError, match="band_mask must be from 0 to 1, got 2"):
        DataArguments.of(band_mask=2).collator(16000, 5)


def test_options_of_mixing_are_refused_where_nothing_is_mixed(tmp_path):
    for kind in ("clean", "noisy"):
        (tmp_path / "training" / kind).mkdir(parents=True)
        for number in range(2):
            soundfile.write(tmp_path / "training" / kind / f"a_fileid_{number}.wav", np.ones(10) / 2, 16000)
    options = {"dataset": "dns", "data_root": str(tmp_path)}
    assert len(DataArguments.of(**options).load(0, 10, 16000)[0]) == 1
    with pytest.raises(DataError, match="synthesised already"):
        DataArguments.of(**options, snr_low=-5).load(0, 10, 16000)


def test_streaming_data_of_a_recipe():
    options = {"dataset": "dns", "data_root": str(REPOSITORY / "scripts" / "demo"), "streaming": True}
    with pytest.raises(DataError, match="no such folder: .*scripts/demo/clean"):
        DataArguments.of(**options).load(0, 10, 16000)
