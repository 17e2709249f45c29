"""One model for many threads and for other processes: what each gets is what it would get alone, to the bit."""

import copy
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import cycle

import numpy as np
import pytest
import torch
from transformers import pipeline
from transformers.utils import logging

from mvat_hf import MannerModel, StreamingEnhancer, enhance

THREADS, CALLS = 4, 6


@pytest.fixture
def model(tiny_model):
    return tiny_model(seed=2, attention_levels="deepest")


def recordings() -> list[np.ndarray]:
    """One for each thread, of two lengths."""
    random = np.random.default_rng(0)
    return [(0.1 * random.standard_normal(length)).astype("float32") for length in (3000, 5000, 3000, 5000)]


def at_once(call: Callable, beside: Callable | None = None) -> list[list[np.ndarray]]:
    """What `call` gives for each of the recordings, `CALLS` times in a thread of its own, all starting together, while
    one more thread goes on calling `beside`."""
    start, ended = threading.Barrier(THREADS + 1), threading.Event()

    def several(audio: np.ndarray) -> list[np.ndarray]:
        start.wait()
        return [call(audio) for _ in range(CALLS)]

    def disturb() -> None:
        start.wait()
        while beside is not None and not ended.is_set():
            beside()

    with ThreadPoolExecutor(THREADS + 1) as pool:
        disturber = pool.submit(disturb)
        futures = [pool.submit(several, audio) for audio in recordings()]
        try:
            outputs = [future.result() for future in futures]
        finally:
            ended.set()
        disturber.result()
    return outputs


def check(outputs: list[list[np.ndarray]], alone: Callable) -> None:
    for audio, of_a_thread in zip(recordings(), outputs, strict=True):
        expected = alone(audio)
        assert np.abs(expected).max() > 0.01
        for output in of_a_thread:
            np.testing.assert_array_equal(output, expected)


def toggling(model: MannerModel) -> Callable:
    """Calls one after another of what may be done to a model in evaluation without changing what it computes."""
    steps = cycle([model.fuse, model.unfuse, model.eval, lambda: model.requires_grad_(False), model.requires_grad_])
    return lambda: next(steps)()


@pytest.mark.parametrize("disturbed", [False, True])
@pytest.mark.parametrize("round", range(3))
def test_a_fresh_model(round, disturbed, model):
    twin = copy.deepcopy(model)
    outputs = at_once(lambda audio: enhance(model, audio, 16000), toggling(model) if disturbed else None)
    check(outputs, lambda audio: enhance(twin, audio, 16000))


def test_the_model_itself(model):
    """Its own passes on folded weights, while others fold it and undo that."""
    twin = copy.deepcopy(model).fuse()
    plain = copy.deepcopy(model)

    @torch.inference_mode()
    def one_pass(of: MannerModel, audio: np.ndarray) -> np.ndarray:
        return of(torch.from_numpy(audio)[None]).audio_values[0].numpy()

    outputs = at_once(lambda audio: one_pass(model, audio), toggling(model))
    for audio, of_a_thread in zip(recordings(), outputs, strict=True):
        either = one_pass(twin, audio), one_pass(plain, audio)
        assert all(any(np.array_equal(output, one) for one in either) for output in of_a_thread)


def test_a_pipeline(model):
    twin, clean = copy.deepcopy(model), pipeline("audio-to-audio", model=model)
    outputs = at_once(lambda audio: clean(audio)["audio"], toggling(model))
    check(outputs, lambda audio: enhance(twin, audio, 16000))


def live(model: MannerModel, audio: np.ndarray) -> np.ndarray:
    enhancer = StreamingEnhancer(model, context_seconds=0.1, hop_seconds=0.05, lookahead_seconds=0.02)
    blocks = [enhancer.feed(block) for block in np.array_split(audio, 7)]
    return np.concatenate([*blocks, enhancer.flush()])


def test_live_streams(model):
    twin = copy.deepcopy(model)
    outputs = at_once(lambda audio: live(model, audio), toggling(model))
    check(outputs, lambda audio: live(twin, audio))


@pytest.mark.parametrize("hooked", [False, True])
def test_a_model_in_training(hooked, model):
    """Enhanced as in evaluation, by folded weights or as it is; afterwards each of its layers is as it was."""
    if hooked:
        model.mask.register_forward_hook(lambda module, inputs, output: 0.5 * output)
    twin = copy.deepcopy(model)
    model.train().bottleneck.eval()
    modes = [module.training for module in model.modules()]
    statistics = {name: value.clone() for name, value in model.named_buffers()}
    check(at_once(lambda audio: enhance(model, audio, 16000)), lambda audio: enhance(twin, audio, 16000))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, statistics[name]) for name, value in model.named_buffers())


def test_loading_and_saving_leave_what_transformers_says(model, tmp_path, monkeypatch):
    """Its loudness is one for the whole process: it is neither changed nor put back."""
    changed = []
    for name in ("set_verbosity", "set_verbosity_error", "disable_progress_bar", "enable_progress_bar"):
        monkeypatch.setattr(logging, name, lambda *_, name=name: changed.append(name))
    model.save_pretrained(tmp_path)
    MannerModel.from_pretrained(tmp_path)
    assert not changed


def enhance_in_one_thread(model: MannerModel, audio: np.ndarray) -> np.ndarray:
    torch.set_num_threads(1)
    return enhance(model, audio, 16000)


def test_a_spawned_process(model):
    audio = recordings()[0]
    expected = enhance(model.fuse(), audio, 16000)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        output = pool.submit(enhance_in_one_thread, model, audio).result()
    np.testing.assert_array_equal(output, expected)
