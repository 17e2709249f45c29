"""Targets from the disk are those of the teacher, and the teacher is asked for a clip once."""

import pytest
import torch

from mvat_hf.distillation import METHODS, build_method
from mvat_hf.training.teacher_cache import TargetCache

NAMES = [name for name in METHODS if name != "none"]


@pytest.fixture(scope="module")
def clips():
    return torch.randn(4, 2000, generator=torch.Generator().manual_seed(0))


class Teacher:
    """Counts the clips that it is asked for."""

    def __init__(self, model, method):
        self.model, self.method, self.asked = model, method, 0

    @torch.no_grad()
    def __call__(self, noisy):
        self.asked += len(noisy)
        return self.method.targets(self.model(noisy, **self.method.forward_options))


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_is_taught_once_wherever_it_comes_again(name, tiny_model, clips, tmp_path):
    model, method = tiny_model(), build_method(name)
    teacher = Teacher(model, method)
    cache = TargetCache(tmp_path, model, method)
    cache(clips[:3], teacher)
    assert teacher.asked == 3
    kept = TargetCache(tmp_path, model, method)(clips[[2, 3, 0]], teacher)  # as another process does
    assert teacher.asked == 4
    expected = teacher(clips[[2, 3, 0]])
    assert set(kept) == set(expected)
    for block, target in kept.items():
        torch.testing.assert_close(target, expected[block], rtol=1e-4, atol=1e-4)
    assert not list(tmp_path.rglob("*.part*"))


def test_other_teachers_and_options_keep_their_own(tiny_model, clips, tmp_path):
    model, method = tiny_model(), build_method("mvat")
    teacher = Teacher(model, method)
    TargetCache(tmp_path, model, method)(clips, teacher)
    for other, how in ((tiny_model(seed=1), method), (model, build_method("mvat", p=1)), (model, build_method("at"))):
        asked = Teacher(other, how)
        TargetCache(tmp_path, other, how)(clips, asked)
        assert asked.asked == len(clips)
    asked = Teacher(model, method)
    TargetCache(tmp_path, model, method, last_level=1)(clips, asked)
    assert asked.asked == len(clips)
