"""A model saved loads to the bit or is refused, and the one in the package stands in for the Hub."""

import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import logging as transformers_logging

from configurations import CONFIGS
from mvat_hf import MannerConfig, MannerFeatureExtractor, MannerModel
from mvat_hf.models import snapshots


def same_weights(one, other):
    """Parameters and buffers alike to the bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_save_and_load(config, tiny_model, tmp_path):
    model = tiny_model(**config)
    model.save_pretrained(tmp_path)
    loaded = MannerModel.from_pretrained(tmp_path)
    assert not any(module.training for module in loaded.modules())
    assert same_weights(loaded, model)
    assert loaded.config.attended_levels == model.config.attended_levels
    audio = torch.randn(2, 500)
    assert torch.equal(loaded(audio).audio_values, model(audio).audio_values)


@pytest.mark.parametrize("load", [MannerModel, AutoModel])
def test_what_was_noted_in_a_configuration_is_saved_and_loaded(load, tiny_model, tmp_path, caplog):
    model = tiny_model()
    noted = {"note": "x", "license": "mit", "pad_token_id": 0, "tie_word_embeddings": True, "is_decoder": False}
    model.config.update({**noted, "task_specific_params": {}, "gradient_checkpointing": True, "loss_type": "L_SE"})
    model.config.quantization_config = {"quant_method": "bitsandbytes"}  # by which the weights would be read
    model.save_pretrained(tmp_path)
    transformers_logging.get_logger().warning_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        loaded = load.from_pretrained(tmp_path)
    assert {name: getattr(loaded.config, name) for name in noted} == noted
    assert same_weights(loaded, model) and not hasattr(loaded.config, "quantization_config")
    assert "unknown field gradient_checkpointing, is_decoder, license, loss_type, note, pad" in caplog.text
    loaded.save_pretrained(tmp_path)
    assert MannerConfig.from_pretrained(tmp_path, note="y").note == "y"


@pytest.mark.parametrize("key", ["bottleneck.weight", "input_norm.running_mean", "decoder.1.up_norm.running_var"])
def test_missing_weights_are_refused(key, tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if name != key}, path, {"format": "pt"})
    with pytest.raises(OSError, match=rf"lacks 1 weights.*{key}"):
        MannerModel.from_pretrained(tmp_path)


def test_weights_of_another_width_are_refused(tiny_model, tmp_path):
    tiny_model(hidden_size=6).save_pretrained(tmp_path)
    MannerConfig(hidden_size=7, depth=2).save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"weights have another shape.*expected \("):
        MannerModel.from_pretrained(tmp_path)


def test_weights_of_another_width_are_made_by_resizing_them(tiny_model, tmp_path):
    tiny_model(hidden_size=6).save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"expected \(.*\); mvat_hf.resize makes a wider or narrower model"):
        MannerModel.from_pretrained(tmp_path, hidden_size=7, ignore_mismatched_sizes=True)


def test_a_model_without_memory(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    assert MannerModel.from_pretrained(tmp_path, device_map="meta").device.type == "meta"


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\0" * 100])
def test_a_broken_weights_file_is_refused(content, tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(OSError):
        MannerModel.from_pretrained(tmp_path)


def test_a_folder_of_pickles_is_refused(tiny_model, tmp_path):
    model = tiny_model()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        MannerModel.from_pretrained(tmp_path)
    with pytest.raises(OSError, match="safetensors"):
        MannerModel.from_pretrained(tmp_path, use_safetensors=None)
    with pytest.raises(ValueError, match="from safetensors files alone, got use_safetensors=False"):
        MannerModel.from_pretrained(tmp_path, use_safetensors=False)


@pytest.mark.parametrize("state", [False, True])
def test_weights_that_cannot_be_loaded_are_saved_with_a_warning(state, tiny_model, tmp_path, caplog):
    model = tiny_model()
    fine = model.state_dict()
    broken = {**fine, "output.bias": torch.full_like(fine["output.bias"], float("nan"))}
    if not state:
        model.load_state_dict(broken)
    model.save_pretrained(tmp_path, state_dict=broken if state else None)
    assert "output.bias hold NaN or infinity, expected finite numbers: they are saved, but cannot be" in caplog.text
    assert load_file(tmp_path / "model.safetensors")["output.bias"].isnan().all()


def test_the_main_process_alone_saves(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path / "other", is_main_process=False)
    assert not list((tmp_path / "other").glob("*.json"))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(OSError):
        MannerModel.from_pretrained(tmp_path)


@torch.no_grad()
def test_an_adapter_is_saved_and_loaded(tiny_model, tmp_path):
    peft = pytest.importorskip("peft")
    tiny_model().save_pretrained(tmp_path / "base")
    adapted, other = (MannerModel.from_pretrained(tmp_path / "base") for _ in range(2))
    adapted.add_adapter(peft.LoraConfig(r=2, target_modules=["bottleneck"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    other.load_adapter(str(tmp_path / "adapter"))
    by_name, audio = MannerModel.from_pretrained(tmp_path / "adapter"), torch.randn(1, 500)
    expected = adapted.eval()(audio).audio_values
    assert all(torch.equal(model(audio).audio_values, expected) for model in (other, by_name))
    assert not torch.equal(MannerModel.from_pretrained(tmp_path / "base")(audio).audio_values, expected)


def test_weights_of_an_adapter_are_not_held_against_the_model(tiny_model):
    """By what transformers calls once it has put an adapter's layers into a model."""
    model = tiny_model()
    model._hf_peft_config_loaded = True
    model.other = torch.nn.Linear(1, 1)
    weights = {"other.weight": torch.full((1, 1), 3.0)}
    model._load_pretrained_model(
        model=model,
        state_dict=weights,
        checkpoint_files=[],
        load_config=LoadStateDictConfig(pretrained_model_name_or_path=None, weight_mapping=[]),
        expected_keys=list(weights),
    )
    assert model.other.weight.item() == 3


@pytest.fixture
def snapshot(tiny_model, tmp_path, monkeypatch):
    """The model inside the package under the id "mvat/tiny", on a machine without a network."""
    model = tiny_model(seed=3)
    model.save_pretrained(tmp_path / "checkpoints" / "tiny")
    MannerFeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "checkpoints" / "tiny")
    monkeypatch.setattr(snapshots, "SNAPSHOTS", tmp_path / "checkpoints")
    monkeypatch.setattr(snapshots, "hub_answers", lambda *_: False)
    transformers_logging.get_logger().warning_once.cache_clear()
    return model


def test_snapshot_stands_in_for_the_hub_and_says_so(snapshot, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        loaded = MannerModel.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache")
    assert same_weights(loaded, snapshot) and not loaded.training
    assert "mvat/tiny could not be had from the Hub or the cache" in caplog.text
    config = MannerConfig.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache")
    assert config.hidden_size == 6
    assert {loaded.name_or_path, loaded.config.name_or_path, config.name_or_path} == {"mvat/tiny"}
    extractor = MannerFeatureExtractor.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache")
    assert extractor.sampling_rate == 8000
    explicit = MannerModel.from_pretrained("mvat/tiny", revision="main", cache_dir=tmp_path / "cache")
    assert same_weights(explicit, snapshot)


@pytest.mark.parametrize("name", ["mvat/other", "someone/tiny", "tiny", "mvat/"])
def test_snapshot_is_for_its_own_id(name, snapshot, tmp_path):
    with pytest.raises(OSError):
        MannerModel.from_pretrained(name, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("loaded", [MannerModel, MannerConfig])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("manner-s-8.1gf", r"\(its id is mvat/manner-s-8.1gf\)"),
        ("mvat/manner-b", r'\(no weights of the preset "manner-b" are released, but those of mvat/manner-s-8.1gf, '),
        ("manner-b", r'\(no weights of the preset "manner-b" are released'),
    ],
)
def test_a_preset_that_is_no_id_is_told(loaded, name, hint, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "hub_answers", lambda *_: False)
    with pytest.raises(OSError, match=hint) as told:
        loaded.from_pretrained(name, cache_dir=tmp_path)
    assert str(told.value).count("did not give it") == 1


def test_snapshot_is_not_for_a_revision(snapshot, tmp_path):
    with pytest.raises(OSError):
        MannerModel.from_pretrained("mvat/tiny", revision="v1", cache_dir=tmp_path / "cache")
    with pytest.raises(OSError):
        MannerConfig.from_pretrained("mvat/tiny", revision="v1", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("loaded", [MannerModel, MannerConfig, MannerFeatureExtractor])
def test_snapshot_is_not_for_a_subfolder(loaded, snapshot, tmp_path):
    with pytest.raises(OSError, match="mvat/tiny") as told:
        loaded.from_pretrained("mvat/tiny", subfolder="half", cache_dir=tmp_path / "cache")
    assert str(tmp_path) not in str(told.value)


def test_cache_goes_before_the_snapshot(snapshot, tiny_model, tmp_path, caplog):
    cached, commit = tiny_model(seed=4), "0" * 40
    folder = tmp_path / "cache" / "models--mvat--tiny"
    cached.save_pretrained(folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    with caplog.at_level(logging.WARNING):
        loaded = MannerModel.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache")
    assert same_weights(loaded, cached) and not same_weights(loaded, snapshot)
    assert "mvat/tiny" not in caplog.text
    # without its weights the cached copy is of no use: all comes from the snapshot
    (folder / "snapshots" / commit / "model.safetensors").unlink()
    assert same_weights(MannerModel.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache"), snapshot)


def test_a_folder_goes_before_the_snapshot(snapshot, tiny_model, tmp_path, monkeypatch):
    folder = tiny_model(seed=5)
    folder.save_pretrained(tmp_path / "mvat" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert same_weights(MannerModel.from_pretrained("mvat/tiny"), folder)
    shutil.rmtree(tmp_path / "mvat")
    assert same_weights(MannerModel.from_pretrained("mvat/tiny", cache_dir=tmp_path / "cache"), snapshot)
