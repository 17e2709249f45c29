"""Targets from the disk are those of the teacher, and the teacher is asked for a clip once."""

from types import SimpleNamespace

import pytest
import torch

from mvat_hf.distillation import METHODS, build_method
from mvat_hf.distillation.activations import activations, flattened
from mvat_hf.training.teacher_cache import TargetCache
from mvat_hf.utils.files import SPARE_BYTES

# the others are tested in tests/training/test_distillation_trainer.py: they hold networks of their own
NAMES = [name for name in METHODS if name not in ("none", "latent-augmentation", "peers")]


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
        return activations(self.model, self.model(noisy, **self.method.forward_options), self.method.reads, {})


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_is_taught_once_wherever_it_comes_again(name, tiny_model, clips, tmp_path):
    model, method = tiny_model(), build_method(name)
    teacher = Teacher(model, method)
    cache = TargetCache(tmp_path, model, method)
    cache(clips[:3], teacher)
    assert teacher.asked == 3
    kept = TargetCache(tmp_path, model, method)(clips[[2, 3, 0]], teacher)  # as another process does
    assert teacher.asked == 4
    expected = flattened(method.compact(teacher(clips[[2, 3, 0]])))
    assert set(flattened(kept)) == set(expected)
    for block, target in flattened(kept).items():
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


def test_teachers_of_the_same_weights_that_compute_otherwise_keep_their_own(tiny_model, clips, tmp_path):
    one, other = (tiny_model(stride=stride) for stride in (4, 2))
    other.load_state_dict(one.state_dict())
    for teachers in ((one, other), (torch.nn.AvgPool1d(3, 1, 1), torch.nn.AvgPool1d(9, 1, 4))):
        method = build_method("output")
        for model in teachers:
            with torch.no_grad():
                taught = activations(model, model(clips), method.reads, {})
            kept = TargetCache(tmp_path, model, method)(clips, Teacher(model, method))
            torch.testing.assert_close(kept["audio_values"], taught["audio_values"])


@torch.no_grad()
@pytest.mark.parametrize("name", ["at", "at-kl", "two-step", "latent-augmentation"])
def test_what_is_kept_of_modules_gives_the_terms_of_the_whole(name):
    """Of a teacher with more frames than the student, and of one with less."""
    method, student = build_method(name, modules={"mine": "theirs"}), {"mine": torch.randn(2, 5, 40)}
    if name == "latent-augmentation":
        method.recover.append(torch.nn.Conv1d(5, 7, 1))
    for frames in (1000, 20):
        whole, terms = {"theirs": torch.randn(2, 7, frames)}, []
        for taught in (whole, method.compact(whole)):
            torch.manual_seed(0)
            terms.append(method(student, taught, {}))
        for term, value in terms[0].items():
            torch.testing.assert_close(terms[1][term], value)


@pytest.mark.parametrize("left", [0, 5, 100])
def test_a_truncated_file_is_made_anew(left, tiny_model, clips, tmp_path):
    model, method = tiny_model(), build_method("mvat")
    teacher = Teacher(model, method)
    first = TargetCache(tmp_path, model, method)(clips, teacher)
    path = next(iter(tmp_path.rglob("*.safetensors")))
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    again = TargetCache(tmp_path, model, method)(clips, teacher)
    assert teacher.asked == len(clips) + 1 and len(path.read_bytes()) == len(whole)
    for name, value in flattened(again).items():
        torch.testing.assert_close(value, flattened(first)[name], rtol=1e-4, atol=1e-4)


def test_a_nearly_full_disk_keeps_no_more_clips(tiny_model, clips, tmp_path, monkeypatch, recwarn):
    model, method = tiny_model(), build_method("mvat")
    teacher = Teacher(model, method)
    cache = TargetCache(tmp_path, model, method)
    cache(clips[:1], teacher)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=SPARE_BYTES - 1))
    kept = [flattened(cache(clips, teacher)) for _ in range(2)]
    assert teacher.asked == 1 + 3 + 3 and len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert sum(f"{tmp_path}: less than 2 GiB" in str(warning.message) for warning in recwarn) == 1
    expected = flattened(method.compact(teacher(clips)))
    for block, target in kept[1].items():
        torch.testing.assert_close(target, expected[block], rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=SPARE_BYTES))
    cache(clips, teacher)
    assert len(list(tmp_path.rglob("*.safetensors"))) == len(clips)


def test_a_cache_that_cannot_be_written_stops_no_training(tiny_model, clips, tmp_path):
    model, method = tiny_model(), build_method("mvat")
    teacher = Teacher(model, method)
    cache = TargetCache(tmp_path, model, method)
    for clip in clips:
        cache.path(clip).parent.touch()  # a file in the place of the folder
    with pytest.warns(UserWarning, match="not all of the teacher's activations are kept in .*Not a directory"):
        assert len(cache(clips, teacher)) > 0
    assert teacher.asked == len(clips)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_gives_the_terms_of_the_whole(name, tiny_model, clips, tmp_path):
    model, method = tiny_model(), build_method(name)
    student = tiny_model(seed=1)(clips, **method.forward_options)
    teacher = Teacher(model, method)
    kept = TargetCache(tmp_path, model, method)(clips, teacher)
    for term, value in method(student, teacher(clips), {}).items():
        torch.testing.assert_close(method(student, kept, {})[term], value, rtol=1e-4, atol=1e-5)
