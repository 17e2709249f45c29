"""Peers learn from one another, each for a target of its own, and nobody's gradient reaches another."""

import pytest
import torch

from mvat_hf.distillation import build_method
from mvat_hf.distillation.peers import mimicry
from mvat_hf.losses import enhancement_loss, pesq_loss, snr_loss
from random_features import features


def test_peers_mimic_the_mean_of_the_others_and_pass_no_gradient():
    heard = [features(1, 50, seed)[:, 0].requires_grad_() for seed in range(3)]
    distance = mimicry(heard, 1)
    torch.testing.assert_close(distance, (heard[1] - (heard[0] + heard[2]) / 2).abs().mean())
    distance.backward()
    assert heard[0].grad is None and heard[2].grad is None and heard[1].grad.any()


def test_the_peers_losses_do_not_reach_the_student(tiny_model):
    method, student = build_method("peers"), tiny_model()
    method.prepare(student, None)
    noisy = features(1, 4000)[:, 0]
    terms = method(student(noisy), {}, {"input_values": noisy, "labels": 0.5 * noisy})
    terms["peers"].backward()
    assert all(parameter.grad is None for parameter in student.parameters())
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_a_peer_learns_speech_its_target_and_the_others(tiny_model):
    method, student = build_method("peers", targets=["snr", "pesq"], target_weight=0.3), tiny_model()
    method.prepare(student, None)
    clean = features(1, 4000)[:, 0]
    noisy = clean + 0.5 * features(1, 4000, 1)[:, 0]
    terms = method(student(noisy), {}, {"input_values": noisy, "labels": clean})
    heard = [student(noisy).audio_values, *(peer(noisy).audio_values for peer in method.peers)]
    own = [
        enhancement_loss(heard[index], clean, noisy)[0] + 0.3 * target(heard[index], clean) + mimicry(heard, index)
        for index, target in ((1, snr_loss), (2, pesq_loss))
    ]
    torch.testing.assert_close(terms["peers"], sum(own) / 2)
    torch.testing.assert_close(terms["mimicry"], mimicry(heard, 0))


def test_peers_differ_from_the_student_in_proportion_to_its_weights(tiny_model):
    method, student = build_method("peers", noise=0.2), tiny_model(hidden_size=24)
    torch.manual_seed(0)
    method.prepare(student, None)
    for peer in method.peers:
        for weight, other in zip(student.parameters(), peer.parameters(), strict=True):
            if weight.numel() > 500:
                assert (other - weight).std().item() == pytest.approx(0.2 * weight.std().item(), rel=0.2)
