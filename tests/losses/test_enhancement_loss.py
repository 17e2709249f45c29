"""L_SE against the formula in numpy, and what must hold whatever the audio."""

import numpy as np
import pytest
import torch

from mvat_hf.losses import enhancement_loss
from mvat_hf.models.manner import loss_manner
from mvat_hf.models.manner.loss_manner import spectral_terms
from mvat_hf.models.spectral_terms import quick_terms

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # FFT, hop, window


def spectrogram(audio, fft_size, hop, window_length):
    """Magnitudes by hand: reflected edges, Hann window in the middle of the FFT frame."""
    padded = np.pad(audio, fft_size // 2, mode="reflect")
    window = np.zeros(fft_size)
    start = (fft_size - window_length) // 2
    window[start : start + window_length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    count = 1 + len(audio) // hop
    return np.abs(np.fft.rfft([padded[hop * n : hop * n + fft_size] * window for n in range(count)]))


def distance(estimate, target):
    """L = L1 + 0.5 spectral convergence + 0.5 log-magnitude L1, and these three."""
    pairs = [[spectrogram(audio, *resolution) for audio in (estimate, target)] for resolution in RESOLUTIONS]
    l1 = np.abs(estimate - target).mean()
    convergence = np.mean([np.sqrt(((t - e) ** 2).sum() / (t**2).sum()) for e, t in pairs])
    log_magnitude = np.mean([np.abs(np.log(e) - np.log(t)).mean() for e, t in pairs])
    return np.array([l1 + 0.5 * convergence + 0.5 * log_magnitude, l1, convergence, log_magnitude])


def reference(enhanced, clean, noisy):
    rows = []
    for output, speech, mixture in zip(*(audio.double().numpy() for audio in (enhanced, clean, noisy)), strict=True):
        noise = mixture - speech
        share = (speech**2).sum() / ((speech**2).sum() + (noise**2).sum())
        rows.append(share * distance(output, speech) + (1 - share) * distance(mixture - output, noise))
    return np.mean(rows, axis=0)


@pytest.fixture
def audio():
    """Enhanced, clean and noisy (3, 2500), at three signal-to-noise ratios."""
    generator = torch.Generator().manual_seed(0)
    clean, noise, error = (torch.randn(3, 2500, generator=generator) for _ in range(3))
    noisy = clean + torch.tensor([[0.1], [1.0], [4.0]]) * noise
    return clean + 0.2 * error, clean, noisy


def test_it_is_the_formula(audio):
    loss, terms = enhancement_loss(*audio)
    expected = reference(*audio)
    got = [loss, terms["l1"], terms["spectral_convergence"], terms["log_magnitude"]]
    np.testing.assert_allclose([float(value) for value in got], expected, rtol=1e-4)


def in_torch(enhanced, clean, noisy):
    """The formula with its four transforms per resolution, differentiated by PyTorch."""

    def magnitude(audio, fft_size, hop, window_length):
        window = torch.hann_window(window_length)
        spectrum = torch.stft(audio, fft_size, hop, window_length, window, return_complex=True)
        return (spectrum.real.square() + spectrum.imag.square()).clamp_min(1e-7).sqrt()

    def distance(estimate, target):
        total = (estimate - target).abs().mean(dim=-1)
        for resolution in RESOLUTIONS:
            got, wanted = magnitude(estimate, *resolution), magnitude(target, *resolution)
            convergence = (wanted - got).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))
            total = total + 0.5 / 3 * (convergence + (got.log() - wanted.log()).abs().mean(dim=(1, 2)))
        return total

    noise = noisy - clean
    share = clean.square().sum(dim=-1) / (clean.square().sum(dim=-1) + noise.square().sum(dim=-1))
    return (share * distance(enhanced, clean) + (1 - share) * distance(noisy - enhanced, noise)).mean()


@pytest.mark.parametrize("volume", [1.0, 1e-2, 1e-4])  # at the last, every bin is at its bound or near it
@pytest.mark.parametrize("terms", [quick_terms, spectral_terms])  # in the package, and where the code stands alone
def test_loss_and_gradient_are_those_of_the_straightforward_computation(terms, volume, audio, monkeypatch):
    monkeypatch.setattr(loss_manner, "quick_terms", terms)
    results = []
    for function in (in_torch, lambda *audio: enhancement_loss(*audio)[0]):
        enhanced, clean, noisy = (volume * part for part in audio)
        loss = function(enhanced.requires_grad_(), clean, noisy)
        loss.backward()
        results.append((loss.item(), enhanced.grad))
    (expected, gradient), (got, ours) = results
    assert got == pytest.approx(expected, rel=1e-6)
    assert (ours - gradient).norm() < 1e-3 * gradient.norm()


def test_terms_add_up_and_are_for_logging_only(audio):
    enhanced, clean, noisy = audio
    loss, terms = enhancement_loss(enhanced.requires_grad_(), clean, noisy)
    assert loss.ndim == 0 and loss.requires_grad
    assert not any(term.requires_grad for term in terms.values())
    total = terms["l1"] + 0.5 * terms["spectral_convergence"] + 0.5 * terms["log_magnitude"]
    torch.testing.assert_close(loss.detach(), total)


def test_perfect_output_costs_nothing(audio):
    _, clean, noisy = audio
    loss, terms = enhancement_loss(clean, clean, noisy)
    # noisy - clean is computed alike on both sides
    assert loss == 0 and all(term == 0 for term in terms.values())


def test_loss_of_a_batch_is_the_mean(audio):
    alone = [enhancement_loss(*(part[item : item + 1] for part in audio))[0] for item in range(3)]
    torch.testing.assert_close(enhancement_loss(*audio)[0], torch.stack(alone).mean())


def test_speech_and_noise_may_change_places():
    """Removing the noise and keeping it are the same task: each side is weighted by its power."""
    torch.manual_seed(0)
    clean, noise, error = torch.randn(3, 2, 2000).mul(64).round().div(64).unbind()  # sums are exact in float32
    noisy, enhanced = clean + noise, clean + error
    swapped, _ = enhancement_loss(noisy - enhanced, noise, noisy)
    torch.testing.assert_close(enhancement_loss(enhanced, clean, noisy)[0], swapped)


def test_a_silent_side_does_not_count(audio):
    enhanced, clean, _ = audio
    only_speech, _ = enhancement_loss(enhanced, clean, clean)
    expected = np.mean([distance(*pair)[0] for pair in zip(enhanced.numpy(), clean.numpy(), strict=True)])
    assert float(only_speech) == pytest.approx(expected, rel=1e-4)
    only_noise, _ = enhancement_loss(enhanced, torch.zeros_like(clean), clean)
    rest = zip((clean - enhanced).numpy(), clean.numpy(), strict=True)
    assert float(only_noise) == pytest.approx(np.mean([distance(*pair)[0] for pair in rest]), rel=1e-4)


@pytest.mark.parametrize(
    "case", ["speech", "silent clean", "no noise", "all silent", "perfect", "silent output", "half silent", "tiny"]
)
def test_gradient_is_finite(case, audio):
    enhanced, clean, noisy = audio
    if case == "silent clean":
        clean = torch.zeros_like(clean)
    if case == "no noise":
        noisy = clean
    if case == "all silent":
        clean = noisy = torch.zeros_like(clean)
    if case == "perfect":
        enhanced = clean
    if case == "silent output":
        enhanced = torch.zeros_like(clean)
    if case == "half silent":
        enhanced, clean, noisy = (part.clone() for part in audio)
        for part in (enhanced, clean, noisy):
            part[:, :1200] = 0
    if case == "tiny":
        enhanced, clean, noisy = (1e-12 * part for part in audio)
    enhanced = enhanced.clone().requires_grad_()
    loss, _ = enhancement_loss(enhanced, clean, noisy)
    loss.backward()
    assert loss.isfinite() and enhanced.grad.isfinite().all()
    if case in ("speech", "no noise", "half silent"):
        assert enhanced.grad.any()


def test_a_step_against_the_gradient_lowers_the_loss(audio):
    enhanced, clean, noisy = audio
    enhanced = enhanced.clone().requires_grad_()
    loss, _ = enhancement_loss(enhanced, clean, noisy)
    loss.backward()
    step = 1e-3 * enhanced.grad / enhanced.grad.norm() * enhanced.detach().norm()
    assert enhancement_loss(enhanced.detach() - step, clean, noisy)[0] < loss


def test_shortest_audio():
    enhanced, clean, noisy = torch.randn(3, 1, 1025)
    assert enhancement_loss(enhanced, clean, noisy)[0].isfinite()
