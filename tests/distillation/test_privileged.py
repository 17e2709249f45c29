"""The privileged teacher hears the same speech in less noise."""

import pytest
import torch

from mvat_hf.distillation import build_method
from random_features import features


def test_the_privileged_teacher_hears_more_of_the_speech():
    clean, noise = features(1, 800)[:, 0], features(1, 800, 1)[:, 0]
    heard = build_method("mvat-privileged", snr_gain=20)
    inputs = {"input_values": clean + noise, "labels": clean}
    torch.testing.assert_close(heard.teacher_input(inputs), clean + 0.1 * noise)
    same = build_method("mvat-privileged", snr_gain=0)
    assert same.teacher_input(inputs) is inputs["input_values"]
    with pytest.raises(ValueError, match=r"needs the clean audio \(labels\), got input_values"):
        heard.teacher_input({"input_values": clean})
