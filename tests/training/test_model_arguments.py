"""Options of the model build a new one, a checkpoint resized, or the mean of several."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from mvat_hf.training.recipe import ModelArguments, RecipeError


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
