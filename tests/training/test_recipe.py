"""Recipes: strict keys, command-line overrides, and a run that refuses another recipe's folder."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError

from conftest import REPOSITORY
from mvat_hf.data.augment import Augmentation
from mvat_hf.data.batch_augmentation import BatchAugmentation
from mvat_hf.data.matching import DataError
from mvat_hf.data.reverb import Rooms
from mvat_hf.training.arguments import EnhancementArguments
from mvat_hf.training.recipe import (
    DataArguments,
    DistillationArguments,
    ModelArguments,
    RecipeError,
    parse_recipe,
    read_recipe,
)
from mvat_hf.training.run import check_same_folder, check_same_processes, check_same_recipe

KINDS = [EnhancementArguments, ModelArguments, DataArguments, DistillationArguments]
RECIPES = sorted((REPOSITORY / "scripts/recipes").glob("*.yaml"))


def test_command_line_wins_over_recipe(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("beta: 0.3\nmax_steps: 7\npreset: manner-s\n")
    args, model, _, distillation = parse_recipe(KINDS, ["--config", str(recipe), "--max_steps", "9"])
    assert (args.max_steps, model.preset, distillation.beta) == (9, "manner-s", 0.3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unknown key learning_rat"),
        ("- 1", "mapping of options, got list"),
        ("a: [", "not YAML"),
        ("", "mapping of options, got NoneType"),
        ("max_steps: null", "max_steps cannot be null"),
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


def test_options_of_another_method_are_refused():
    for options, message in (
        ({"method": "at", "sides": "encoder"}, "sides is an option of mvat, the method is at"),
        ({"method": "none", "p": 1.0}, "p is an option of at, mvat, the method is none"),
    ):
        with pytest.raises(RecipeError, match=message):
            DistillationArguments(**options).build_method()
    assert DistillationArguments(method="at", p=1.0).build_method().p == 1


def test_another_number_of_processes_is_told(tmp_path):
    check_same_processes(tmp_path, 4)  # nothing tells how many saved the model alone
    for rank in range(2):
        (tmp_path / f"rng_state_{rank}.pth").touch()
    check_same_processes(tmp_path, 2)
    with pytest.raises(RecipeError, match="was saved by 2 processes, got 1"):
        check_same_processes(tmp_path, 1)


def test_missing_recipe_is_named():
    with pytest.raises(RecipeError, match="no such recipe: nowhere.yaml"):
        parse_recipe(KINDS, ["--config", "nowhere.yaml"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_and_builds_its_model(path):
    # in the precision that every machine has
    _, model, _, _ = parse_recipe(KINDS, ["--config", str(path), "--bf16", "false"])
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
        ({"dataset": "librispeech", "data_root": "."}, 'dataset must be one of dns, valentini, got "librispeech"'),
        ({"dataset": "dns"}, "data_root is not set"),
    ],
)
def test_bad_data_options(options, message):
    with pytest.raises(RecipeError, match=message):
        DataArguments(**options).load(0, None, 16000)


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
    train, validation = DataArguments(**valentini).load(0, None, 16000)
    assert list(train["id"]) == ["p226_001", "p226_002", "p300_001"] and list(validation["id"]) == ["p287_001"]
    hop = {"segments": "hop", "segment_seconds": 0.25, "hop_seconds": 0.125, "validation_speakers": "p287, p300"}
    train, validation = DataArguments(**valentini, **hop).load(0, None, 16000)
    assert list(train["id"]) == [f"p226_00{file}@{start}" for file in (1, 2) for start in (0, 2000, 4000)]
    assert list(validation["id"]) == ["p287_001", "p300_001"] and len(validation[0]["clean"]) == 8000
    with pytest.raises(RecipeError, match='segments must be random or hop, got "fixed"'):
        DataArguments(**valentini, segments="fixed").load(0, None, 16000)


def test_options_of_another_data_set_are_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("dataset: dns\nsnr_low: -5\n")
    config = ["--config", str(tmp_path / "recipe.yaml"), "--dataset", "valentini"]
    parse_recipe(KINDS, config)  # what the recipe has beside is no matter
    with pytest.raises(RecipeError, match="speed_change is an option of dns, the data set is valentini"):
        parse_recipe(KINDS, [*config, "--speed-change=0.1"])
    with pytest.raises(RecipeError, match="segments is an option of valentini, the data set is dns"):
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
    _, _, data, _ = parse_recipe(KINDS, arguments)
    assert data.part(Augmentation) == Augmentation(speed_change=0.1)
    assert data.part(Rooms) == Rooms(rt60_high=0.3)
    collator = data.collator(16000, 5)
    assert (collator.seconds, collator.seed, collator.augmentation) == (2, 5, BatchAugmentation(band_mask=0.2))
    with pytest.raises(ValueError, match="band_mask must be from 0 to 1, got 2"):
        DataArguments(band_mask=2).collator(16000, 5)


def test_options_of_mixing_are_refused_where_nothing_is_mixed(tmp_path):
    for kind in ("clean", "noisy"):
        (tmp_path / "training" / kind).mkdir(parents=True)
        for number in range(2):
            soundfile.write(tmp_path / "training" / kind / f"a_fileid_{number}.wav", np.ones(10) / 2, 16000)
    options = {"dataset": "dns", "data_root": str(tmp_path)}
    assert len(DataArguments(**options).load(0, 10, 16000)[0]) == 1
    with pytest.raises(DataError, match="synthesised already"):
        DataArguments(**options, snr_low=-5).load(0, 10, 16000)


def test_streaming_data_of_a_recipe():
    options = {"dataset": "dns", "data_root": str(REPOSITORY / "scripts" / "demo"), "streaming": True}
    with pytest.raises(DataError, match="no such folder: .*scripts/demo/clean"):
        DataArguments(**options).load(0, 10, 16000)
