"""MV-AT beside output distillation is the sum of both."""

from mvat_hf.distillation import build_method
from random_features import features


def test_mvat_and_output_are_the_sum_of_both(tiny_model):
    audio = features(1, 1500)[:, 0]
    outputs = [tiny_model(seed=seed)(audio, output_view_features=True) for seed in (1, 2)]
    both = build_method("mvat-output", output_weight=3.0)(*outputs, {})
    assert both["mvat"] == build_method("mvat")(*outputs, {})["mvat"]
    assert both["output"] == 3 * build_method("output")(*outputs, {})["output"]
