"""Incremental passes: what they share with one pass over all, and what they forget."""

import numpy as np
import pytest
import torch

from closeness import assert_close
from configurations import CONFIGS
from mvat_hf import MannerConfig
from mvat_hf.acceleration.folding import folded_copy
from mvat_hf.acceleration.frames import Frames
from mvat_hf.acceleration.incremental import IncrementalManner
from mvat_hf.acceleration.streaming_input import StreamingInput
from mvat_hf.models.manner.modeling_manner import high_pass

ENDLESS = 10**6  # samples of context


def incremental(model, batch=1, context=ENDLESS) -> IncrementalManner:
    return IncrementalManner(folded_copy(model), batch, context)


def noise(*shape, seed=0):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class FixedScale(StreamingInput):
    """Divides by one."""

    def deviation(self):
        return torch.ones(len(self.filtered.memory), 1, 1)


def at_fixed_scale(model, batch=1) -> IncrementalManner:
    network = incremental(model, batch)
    network.input = FixedScale(model.config, batch, ENDLESS, 0)
    return network


@torch.inference_mode()
def one_pass_at_fixed_scale(model, audio):
    padding = model.config.padded_length(audio.shape[-1]) - audio.shape[-1]
    return model.estimate(torch.nn.functional.pad(audio, (0, padding)))[0][:, : audio.shape[-1]]


@torch.inference_mode()
def run_stream(network, audio, hop=333, lookahead=1500, beyond=0):
    """All of `audio`, a hop at a time, and each time `beyond` samples more, which are thrown away."""
    outputs, given, fed, total = [], 0, 0, audio.shape[-1]
    while given < total:
        end = min(given + hop + lookahead, total)
        ready = total if end == total else given + hop
        outputs.append(network.advance(audio[:, fed:end], given, min(ready + beyond, end))[:, : ready - given])
        given, fed = ready, end
    return torch.cat(outputs, dim=-1)


@pytest.mark.parametrize("length", [1, 5, 1777, 3000])
@pytest.mark.parametrize("config", CONFIGS)
@torch.inference_mode()
def test_the_first_step_is_one_pass(tiny_model, config, length):
    model, audio = tiny_model(**config), noise(2, length)
    output = incremental(model, batch=2).advance(audio, 0, length)
    assert_close(output, model(audio).audio_values, tolerance=1e-4)


@pytest.mark.parametrize("kernel_size, stride", [(8, 4), (7, 3), (4, 4), (3, 1)])
@pytest.mark.parametrize("hop", [1, 64, 333])
def test_convolutions_see_the_whole_stream(tiny_model, kernel_size, stride, hop):
    """Where the look-ahead is as long as they reach, steps are one pass."""
    model, audio = tiny_model(attention_levels="none", kernel_size=kernel_size, stride=stride), noise(2, 1500 + 8 * hop)
    output = run_stream(at_fixed_scale(model, 2), audio, hop)
    assert_close(output, one_pass_at_fixed_scale(model, audio))


@pytest.mark.parametrize("hop", [1, 64, 333])
@torch.inference_mode()
def test_what_the_filter_had_computed_with_silence_is_computed_anew(tiny_model, hop):
    """In the network too: where the look-ahead is longer by what the filter sees, steps are one step over all."""
    model, audio = tiny_model(attention_levels="none", high_pass_hz=70.0), noise(2, 2000 + 8 * hop)
    expected = at_fixed_scale(model, 2).advance(audio, 0, audio.shape[1])
    output = run_stream(at_fixed_scale(model, 2), audio, hop, lookahead=1820, beyond=1820)
    assert_close(output, expected)


@torch.inference_mode()
def test_the_past_is_not_touched_by_hops_shorter_than_what_the_filter_sees(tiny_model):
    """Without look-ahead, provisional samples were given out before they are settled."""
    model, audio = tiny_model(high_pass_hz=70.0, segment_len=8), noise(2, 1500)
    network, outputs = incremental(model, 2), []
    for start in range(0, 1500, 50):
        outputs.append(network.advance(audio[:, start : start + 50], start, start + 50))
    output = torch.cat(outputs, dim=-1)
    assert output.isfinite().all() and output.shape == audio.shape
    assert_close(network.input.filtered.read(0, 1500), one_step(model, audio).input.filtered.read(0, 1500))


def one_step(model, audio) -> IncrementalManner:
    network = incremental(model, len(audio))
    network.advance(audio, 0, audio.shape[1])
    return network


@pytest.mark.parametrize("levels", ["all", "deepest", [0]])
@torch.inference_mode()
def test_what_is_not_given_out_yet_is_one_pass_over_all(tiny_model, levels):
    """Attention too is computed anew for it."""
    model, audio = tiny_model(attention_levels=levels, segment_len=8, num_heads=2), noise(1, 2500)
    network, fed = at_fixed_scale(model), 0
    for end in (700, 701, 1400, 2500):
        output = network.advance(audio[:, fed:end], 0, end)
        assert_close(output, one_pass_at_fixed_scale(model, audio[:, :end]))
        fed = end


@pytest.mark.parametrize("levels", ["all", "deepest", [0], "none"])
@torch.inference_mode()
def test_how_much_is_given_out_does_not_change_it(tiny_model, levels):
    """The decoder computes no more than what is given out needs."""
    model, audio = tiny_model(attention_levels=levels, segment_len=8), noise(2, 6000)
    less, more = incremental(model, 2), incremental(model, 2)
    for given in range(0, 3000, 333):
        samples = audio[:, less.input.raw.stop : given + 2000]
        expected = more.advance(samples, given, given + 2000)
        assert_close(less.advance(samples, given, given + 333), expected[:, :333])


@pytest.mark.parametrize("config", [{}, {"attention_levels": "all", "high_pass_hz": 70.0}])
def test_the_context_is_all_that_is_remembered(tiny_model, config):
    """Four contexts after two streams became one they are alike: attention stands four times in a row at most."""
    model = tiny_model(segment_len=8, **config)
    audio = noise(2, 20000)
    audio[:, 4000:] = audio[0, 4000:]
    first, second = (run_stream(incremental(model, context=2000), row[None]) for row in audio)
    assert not torch.allclose(first[:, 3000:6000], second[:, 3000:6000], atol=1e-3)
    assert_close(first[:, 16500:], second[:, 16500:])


def test_what_is_held_does_not_grow(tiny_model):
    network, sizes = incremental(tiny_model(high_pass_hz=70.0), context=2000), []
    audio = noise(1, 60000)
    with torch.inference_mode():
        for given in range(0, 50000, 400):
            network.advance(audio[:, network.input.raw.stop : given + 2000], given, given + 400)
            sizes.append(sum(frames.memory.numel() for frames in all_frames(network)))
    assert len(set(sizes[len(sizes) // 4 :])) == 1


def all_frames(network) -> list[Frames]:
    attention = [block for block in network.encoder_attention + network.decoder_attention if block is not None]
    inside = [frames for block in attention for frames in (*block.branches, block.output)]
    front = [value for value in vars(network.input).values() if isinstance(value, Frames)]
    return [*front, *network.down, *network.encoded, *inside]


# --- the input ---


def taken_in(audio, cuts=(), **config):
    """What a `StreamingInput` makes of audio (B, T) that comes in parts: filtered, normalised, scale."""
    stream = StreamingInput(MannerConfig(**config), len(audio), ENDLESS, 1e-3)
    for part in np.split(audio, cuts, axis=1):
        stream.advance(torch.as_tensor(part, dtype=torch.float32), stream.raw.stop + part.shape[1])
    return [frames.read(0, audio.shape[1]).squeeze(-1) for frames in (stream.filtered, stream.normalized, stream.scale)]


def test_the_filter_is_that_of_the_model_but_for_what_it_cannot_see():
    time = np.arange(32000) / 16000
    within = slice(8000, 24000)
    for hertz, kept in ((0, 0), (30, 0), (50, 0), (100, 1), (200, 1), (3000, 1)):
        tone = np.cos(2 * np.pi * hertz * time)[None]
        filtered, _, _ = taken_in(tone, high_pass_hz=70.0)
        np.testing.assert_allclose(filtered[:, within], kept * tone[:, within], atol=0.03)
    filtered, _, _ = taken_in(noise(2, 32000).numpy(), high_pass_hz=70.0)
    expected = high_pass(noise(2, 32000), 70.0, 16000)
    assert (filtered - expected)[:, within].norm() < 0.02 * expected[:, within].norm()


def test_cuts_do_not_show_in_the_filter():
    audio = noise(2, 9000).numpy()
    whole, _, _ = taken_in(audio, high_pass_hz=70.0)
    filtered, _, _ = taken_in(audio, [1, 2, 300, 5000, 5001], high_pass_hz=70.0)
    assert_close(filtered, whole)


def test_samples_wait_for_what_the_filter_sees_unless_they_are_needed():
    stream = StreamingInput(MannerConfig(high_pass_hz=70.0), 1, ENDLESS, 1e-3)
    for total, needed, expected in ((2000, 1000, 1680), (2100, 1500, 1820), (2200, 1990, 2200), (3000, 3000, 3000)):
        stream.advance(noise(1, total - stream.raw.stop), needed)
        assert stream.normalized.stop == expected


def test_the_scale_is_the_deviation_of_what_has_come():
    audio = noise(2, 3000).numpy()
    filtered, normalized, scale = taken_in(audio, [1000])
    assert_close(filtered, torch.from_numpy(audio))
    assert_close(scale[:, 0], filtered[:, :1000].std(dim=1))
    assert_close(scale[:, -1], filtered.std(dim=1))
    assert_close(normalized, filtered / (scale + 1e-3))


# --- frames ---


def test_frames_are_a_list_that_forgets():
    random, frames, kept = np.random.default_rng(0), Frames(2, 3), torch.zeros(2, 0, 3)
    for _ in range(300):
        start = int(random.integers(frames.first, frames.stop + 1))
        rows = torch.from_numpy(random.standard_normal((2, random.integers(0, 20), 3)).astype(np.float32))
        frames.write(start, rows)
        kept = torch.cat([kept[:, :start], rows], dim=1)
        if random.random() < 0.3:
            frames.forget(int(random.integers(0, frames.stop + 1)))
        assert frames.stop == kept.shape[1]
        torch.testing.assert_close(frames.read(frames.first, frames.stop), kept[:, frames.first :], rtol=0, atol=0)
        beyond = frames.read(frames.first - 2, frames.stop + 3)
        assert beyond.shape[1] == frames.stop - frames.first + 5
        assert not beyond[:, :2].any() and not beyond[:, -3:].any()
