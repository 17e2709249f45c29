"""Audio goes through a model in chunks, however its stream is cut, and the model's modes are left alone."""

import copy

import numpy as np
import pytest
import torch

from fake_model import SHORT, Fake, noise
from mvat_hf import StreamingEnhancer
from mvat_hf.inference.chunks import FastChunkedEnhancer
from mvat_hf.inference.enhancing import enhance
from mvat_hf.models.modes import evaluating


def forward(model, audio):
    with torch.no_grad():
        return model(torch.from_numpy(np.atleast_2d(audio))).audio_values.numpy()


def run_stream(model, audio, rate, cuts, **options):
    blocks = iter(np.split(audio, cuts, axis=1))
    return np.concatenate(list(FastChunkedEnhancer(model, **options).stream(blocks, rate, len(audio))), axis=1)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_how_the_stream_is_cut_changes_nothing(manner, rate):
    audio = noise(2, 15000)
    whole = run_stream(manner, audio, rate, [], **SHORT)
    assert np.abs(whole).max() > 1e-3
    for cuts in (range(500, 15000, 500), [1, 2, 3, 14999], [0, 7000, 7000], [4000, 7200]):
        np.testing.assert_array_equal(run_stream(manner, audio, rate, cuts, **SHORT), whole)


@pytest.mark.parametrize("length", [4000, 4001, 7200, 7201, 9999, 10400, 13000])
def test_every_chunk_is_whole_and_the_last_ends_the_signal(length):
    model = Fake()
    run_stream(model, np.arange(length, dtype=np.float32)[None], 16000, [], **SHORT)
    starts = [*range(0, length - 4000, 3200), length - 4000]
    assert [chunk.shape for chunk in model.chunks] == [(1, 4000)] * len(starts)
    assert [chunk[0, 0] for chunk in model.chunks] == starts


def test_seams_are_linear_and_no_longer_than_the_overlap():
    calls = iter(range(3))  # the three chunks become zeros, ones, twos
    output = enhance(Fake(lambda values: torch.full_like(values, next(calls))), noise(8000), 16000, **SHORT)
    rise = np.arange(1, 801) / 801
    # chunks at 0, 3200 and, the last, at 4000: it is faded in over what the second held back, from 6400 on
    expected = np.concatenate([np.zeros(3200), rise, np.ones(2400), 1 + rise, np.full(800, 2)])
    np.testing.assert_allclose(output, expected, atol=1e-6)


def test_chunks_are_passes_of_the_model(manner):
    audio = noise(9000)
    output = enhance(manner, audio, 16000, **SHORT)
    np.testing.assert_allclose(output[:3200], forward(manner, audio[:4000])[0, :3200], atol=1e-6)
    np.testing.assert_allclose(output[7200:], forward(manner, audio[-4000:])[0, -1800:], atol=1e-6)
    apart = enhance(manner, audio, 16000, chunk_seconds=0.25, overlap_seconds=0)
    np.testing.assert_allclose(apart[4000:8000], forward(manner, audio[4000:8000])[0], atol=1e-6)
    np.testing.assert_allclose(apart[8000:], forward(manner, audio[-4000:])[0, -1000:], atol=1e-6)


@pytest.mark.parametrize(
    "length, options", [(3999, SHORT), (1, SHORT), (500, SHORT), (170000, {"chunk_seconds": None})]
)
def test_one_pass_is_the_model(manner, length, options):
    audio = noise(2, length)
    np.testing.assert_allclose(enhance(manner, audio, 16000, **options), forward(manner, audio), atol=1e-6)


def test_at_most_two_chunks_are_held():
    taken = 0

    def source():
        nonlocal taken
        for _ in range(300):
            taken += 100
            yield noise(1, 100)

    given, held = 0, []
    for block in FastChunkedEnhancer(Fake(), **SHORT).stream(source(), 16000, 1):
        held.append(taken - given)
        given += block.shape[1]
    assert given == taken and max(held) <= 8000


def test_modes_and_statistics_are_left_alone(manner):
    manner.train()
    manner.mask.eval()
    modes = [module.training for module in manner.modules()]
    before = {name: value.clone() for name, value in manner.state_dict().items()}
    trained = enhance(manner, noise(5000), 16000)
    assert [module.training for module in manner.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in manner.state_dict().items())
    np.testing.assert_array_equal(trained, enhance(manner.eval(), noise(5000), 16000))


@pytest.mark.parametrize(("chunk", "overlap"), [(10.0, 1.0), (0.5, 0.125)])
def test_chunks_overlap_by_a_second_or_a_quarter(chunk, overlap):
    options = [FastChunkedEnhancer(Fake(), 0, None, chunk, given) for given in (None, overlap)]
    assert options[0].overlap == options[1].overlap == round(overlap * 16000)


def test_the_last_of_several_passes_restores_the_mode(tiny_model):
    model = tiny_model().train()
    first, second = evaluating(model), evaluating(model)  # as of two threads
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(module.training for module in model.modules())
    second.__exit__(None, None, None)
    assert all(module.training for module in model.modules())


def test_audio_is_not_rounded_to_the_type_of_the_model(manner):
    """On folded weights only what is computed within: bfloat16 holds 8 bits of a sample."""
    model = copy.deepcopy(manner).bfloat16()
    output = enhance(model, noise(4000), 16000)
    assert output.dtype == np.float32 and np.abs(output).max() > 1e-3
    assert not np.array_equal(output, torch.from_numpy(output).bfloat16().float().numpy())
    model.mask.register_forward_hook(lambda module, inputs, output: output)  # now it runs as it is
    np.testing.assert_allclose(enhance(model, noise(4000), 16000), output, atol=0.05 * np.abs(output).max())


def test_autocast_changes_nothing(manner):
    """On folded weights: in bfloat16 some of their convolutions would never end."""

    def outputs():
        live = StreamingEnhancer(manner, context_seconds=0.1, hop_seconds=0.05, lookahead_seconds=0.02)
        with torch.no_grad():
            fused = manner.fuse()(torch.from_numpy(noise(1, 4000))).audio_values.numpy()
        return enhance(manner.unfuse(), noise(4000), 16000), live.feed(noise(4000)), fused

    expected = outputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for output, alone in zip(outputs(), expected, strict=True):
            np.testing.assert_array_equal(output, alone)
