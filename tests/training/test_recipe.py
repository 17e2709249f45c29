"""A recipe and its command line are read strictly, and described again."""

import pytest
import yaml

from conftest import REPOSITORY
from mvat_hf.data.augment import Augmentation
from mvat_hf.data.batch_augmentation import BatchAugmentation
from mvat_hf.data.reverb import Rooms
from mvat_hf.models.complexity import complexity
from mvat_hf.models.manner import MannerConfig
from mvat_hf.training.arguments import EnhancementConfig
from mvat_hf.training.recipe import DataArguments, RecipeError, parse_recipe, read_recipe
from recipe_options import KINDS

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


def test_what_yaml_makes_of_no_and_of_levels_is_what_was_meant(tmp_path):
    (tmp_path / "recipe.yaml").write_text("eval_strategy: no\nsave_strategy: no\nattention_levels: [0, 2]\n")
    args, model, _ = parse_recipe(KINDS, ["--config", str(tmp_path / "recipe.yaml")])
    assert (args.eval_strategy, args.save_strategy, args.load_best_model_at_end) == ("no", "no", False)
    assert set(model.build().config.attended_levels) == {0, 2}


def test_the_short_name_of_an_option_is_described_by_its_own(tmp_path):
    recipe = parse_recipe(KINDS, ["--teacher", "a/b"])
    assert recipe.described() == {"teacher_model_name_or_path": "a/b"}


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


def test_defaults_are_those_that_options_end_with():
    recipe = parse_recipe(KINDS, ["--output_dir=elsewhere", "--use_cpu=true"])
    for name in ("eval_strategy", "save_strategy", "load_best_model_at_end", "loss_weights", "beta"):
        assert recipe.defaults()[name] == recipe.value(name)


def test_missing_recipe_is_named():
    with pytest.raises(RecipeError, match="no such recipe: nowhere.yaml"):
        parse_recipe(KINDS, ["--config", "nowhere.yaml"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_and_builds_its_model(path):
    # in the precision that every machine has
    _, model, _ = parse_recipe(KINDS, ["--config", str(path), "--bf16", "false"])
    recipe = read_recipe(path)
    sizes = {name: value for name, value in recipe.items() if hasattr(MannerConfig, name)}
    config = MannerConfig.from_preset(recipe["preset"], **sizes)
    built = model.build()
    assert built.config.to_diff_dict() == config.to_diff_dict()
    assert built.num_parameters() == complexity(config, 1.0).parameters


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--streaming=true", "--validation_share=0.2"], "validation_share cannot be with streaming"),
        (["--streaming=true", "--segments=hop"], "segments cannot be with streaming: segments of a grid need all"),
        (["--shuffle_buffer=9"], "shuffle_buffer is for a stream: expected --streaming true beside it"),
    ],
)
def test_what_a_stream_of_rows_cannot_have_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(KINDS, ["--dataset=hub", *options])


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
    assert described["accelerator_config"]["split_batches"] is False
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(described))
    assert parse_recipe(KINDS, ["--config", str(tmp_path / "recipe.yaml")]).described() == described


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
