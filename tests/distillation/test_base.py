"""A method is built from its name and options, and one that cannot be is refused."""

import pytest

from mvat_hf.distillation import METHODS, build_method


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("two-step", {"first": 1.5}, "first must be a share of the run from 0 to 1, got 1.5"),
        ("two-step", {"bins": 1}, "bins must be at least 2, got 1"),
        ("at-kl", {"temperature": 0}, "temperature above 0, got 1.0 and 0"),
        ("at", {"modules": {}}, "modules must have a pair"),
        ("at", {"modules": {"view_features": "inner"}}, "must be names of modules, got view_features"),
        ("mvat-output", {"output_weight": -1}, "output_weight must be at least 0, got -1"),
        ("mvat-privileged", {"snr_gain": -3}, "snr_gain must be at least 0 dB, got -3"),
        ("latent-augmentation", {"hidden_share": 1}, "hidden_share must be from 0 to below 1"),
        ("peers", {"targets": ["stoi"]}, "targets must be one or more of snr, compressed, pesq, got stoi"),
        ("mvat", {"q": 1}, '"mvat" has no option q, expected p, views, sides'),
        ("none", {"p": 1}, '"none" has no option p, expected none'),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        build_method(name, **options)


def test_methods_of_the_design():
    assert set(METHODS) >= {"none", "output", "at", "mvat"}
    assert build_method("none") is None


def test_unknown_method_lists_the_known():
    with pytest.raises(ValueError) as caught:
        build_method("kd")
    assert '"kd"' in str(caught.value) and all(name in str(caught.value) for name in METHODS)
