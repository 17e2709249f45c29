"""Peers learn from one another, each for a target of its own, and nobody's gradient reaches another."""

import torch

from mvat_hf.distillation import build_method
from mvat_hf.distillation.peers import mimicry
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
