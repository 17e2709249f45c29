"""How errors are told: on one line, as they were raised."""

from importlib.util import find_spec

import pytest
from torch.utils.data import DataLoader

from mvat_hf import EnhancementTrainer, MannerConfig, MannerModel
from mvat_hf.cli import main
from mvat_hf.data.audio import AudioError
from mvat_hf.data.collator import SegmentCollator
from mvat_hf.training.arguments import EnhancementConfig
from mvat_hf.utils import errors
from mvat_hf.utils.errors import MissingExtraError, one_line


class Broken:
    """Items that fail with an error that another one caused."""

    def __init__(self, error: Exception):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise OSError("AudioError: the cause")
        except OSError as cause:
            raise self.error from cause


@pytest.mark.parametrize(
    "error", [AudioError("a.wav is empty,\nexpected audio"), FileNotFoundError("no such file: a.wav")]
)
def test_an_error_in_a_worker_is_told_as_one_in_the_process(error):
    with pytest.raises(type(error)) as caught:
        next(iter(DataLoader(Broken(error), num_workers=1)))
    assert "Original Traceback" in str(caught.value)
    assert one_line(caught.value) == one_line(error) and "\n" not in one_line(error)


def test_an_error_without_a_message_is_told_by_its_name():
    with pytest.raises(AudioError) as caught:
        next(iter(DataLoader(Broken(AudioError()), num_workers=1)))
    assert one_line(caught.value) == "error: AudioError"


@pytest.fixture
def without(monkeypatch):
    """without(package): as if it were not installed."""

    def hide(package: str) -> None:
        monkeypatch.setattr(errors, "find_spec", lambda name: None if name == package else find_spec(name))

    return hide


@pytest.mark.parametrize(
    ("package", "extra"),
    [("matplotlib", "evaluation"), ("pesq", "evaluation"), ("pystoi", "evaluation"), ("scipy", "evaluation"),
     ("datasets", "data"), ("filelock", "data")],
)  # fmt: skip
def test_evaluate_names_what_is_missing_before_it_does_anything(without, tmp_path, capsys, package, extra):
    without(package)
    command = ["evaluate", "no/model", "--data", "pairs", "--clean", "nowhere", "--noisy", "nowhere"]
    assert main([*command, "--output", str(tmp_path / "results")]) == 1
    assert capsys.readouterr().err == f"error: {package} is not installed: pip install 'mvat_hf[{extra}]'\n"
    assert not (tmp_path / "results").exists()


def test_a_trainer_that_validates_names_what_is_missing_before_it_trains(without, tmp_path):
    without("pesq")
    model = MannerModel(MannerConfig(hidden_size=6, depth=2, attention_levels="deepest"))
    parts = {"model": model, "data_collator": SegmentCollator(0.5), "train_dataset": [], "eval_dataset": []}
    with pytest.raises(MissingExtraError, match=r"^pesq is not installed: pip install 'mvat_hf\[evaluation\]'$"):
        EnhancementTrainer(args=EnhancementConfig(str(tmp_path), use_cpu=True), **parts)
    options = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    EnhancementTrainer(args=EnhancementConfig(str(tmp_path), use_cpu=True, **options), **parts)
