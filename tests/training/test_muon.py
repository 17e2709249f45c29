"""Muon: what moves how far, and that the rest is AdamW."""

import pytest
import torch
from torch import nn

from mvat_hf.training.muon import Muon, is_matrix, orthogonalise


@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (16, 16)])
def test_all_directions_become_alike(shape):
    matrix, other = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(torch.stack([1000 * other, matrix]))[1]
    # the same directions as before, each by nearly the same factor
    factors = (left.T @ result @ right.T).diagonal()
    assert factors.min() > 0.6 and factors.max() < 1.3
    off = left.T @ result @ right.T - factors.diag()
    assert off.abs().max() < 1e-4
    assert torch.allclose(orthogonalise(1000 * matrix[None])[0], result, atol=1e-4)
    assert singular.max() / singular.min() > 2  # they were not alike


def test_no_gradient_is_no_step():
    assert not orthogonalise(torch.zeros(1, 3, 5)).any()


def test_every_parameter_is_in_one_group(tiny_model):
    model = tiny_model()
    optimizer = Muon(model, 1e-3, 1e-2, weight_decay=0.1)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    matrices = next(group for group in optimizer.param_groups if "momentum" in group)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    moved = {names[id(parameter)] for parameter in matrices["params"]}
    assert {"bottleneck.weight", "encoder.0.down.weight", "mask.content.weight"} <= moved
    assert not any("depthwise" in name or "norm" in name or name in ("input.weight", "output.weight") for name in moved)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0.0]


class Mixed(nn.Module):
    """A depthwise kernel and a bias, which AdamW trains, and a matrix, which Muon does."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.kernel = nn.Parameter(torch.randn(4, 1, 3, generator=generator))
        self.bias = nn.Parameter(torch.randn(4, generator=generator))
        self.matrix = nn.Parameter(torch.randn(6, 4, 2, generator=generator))

    def loss(self) -> torch.Tensor:
        return sum((parameter - 1).square().sum() for parameter in self.parameters())


def test_what_is_no_matrix_moves_as_by_adamw():
    ours, theirs = Mixed(), Mixed()
    options = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.8, 0.9)}
    muon = Muon(ours, matrix_lr=1e-2, **options)
    adamw = torch.optim.AdamW([{"params": [theirs.kernel]}, {"params": [theirs.bias], "weight_decay": 0.0}], **options)
    for _ in range(5):
        for model, optimizer in ((ours, muon), (theirs, adamw)):
            optimizer.zero_grad()
            model.loss().backward()
            optimizer.step()
    assert torch.equal(ours.kernel, theirs.kernel) and torch.equal(ours.bias, theirs.bias)


def test_a_matrix_moves_as_far_as_by_adam_whatever_its_gradient():
    for scale in (1e-4, 1e4):
        model = Mixed()
        before = model.matrix.detach().clone()
        (scale * model.loss()).backward()
        Muon(model, lr=0.0, matrix_lr=1e-2).step()
        moved = (model.matrix.detach() - before).square().mean().sqrt()
        assert moved == pytest.approx(0.2e-2, rel=0.3)
        assert is_matrix(model.matrix) and model.matrix.grad is None


def test_a_matrix_moves_by_its_nesterov_momentum_and_decays_by_its_own_rate():
    first, second = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    model = nn.ParameterList([torch.ones(6, 8)])
    optimizer = Muon(model, lr=0.5, matrix_lr=1e-2, momentum=0.9, weight_decay=0.1)
    momentum, expected = torch.zeros(6, 8), torch.ones(6, 8)
    for gradient in (first, second):
        model[0].grad = gradient.clone()
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        ahead = 0.9 * momentum + 0.1 * gradient
        expected = (1 - 1e-2 * 0.1) * expected - 1e-2 * 0.2 * 8**0.5 * orthogonalise(ahead[None])[0]
    torch.testing.assert_close(model[0].detach(), expected)


def test_matrices_move_together_as_each_alone():
    shapes = [(6, 8), (5, 3), (6, 4, 2), (3, 5)]  # the first and the third are of one shape as matrices
    generator = torch.Generator().manual_seed(0)
    start, *gradients = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(3)]

    def moved(chosen: list[int]) -> list[torch.Tensor]:
        model = nn.ParameterList(start[index].clone() for index in chosen)
        optimizer = Muon(model, lr=0.0, matrix_lr=1e-2, weight_decay=0.1)
        for found in gradients:
            for parameter, index in zip(model, chosen, strict=True):
                parameter.grad = found[index].clone()
            optimizer.step()
        return list(model)

    for index, together in enumerate(moved([0, 1, 2, 3])):
        (alone,) = moved([index])
        torch.testing.assert_close(together, alone)
        assert not torch.equal(alone, start[index])


def test_a_quadratic_is_minimised():
    model = Mixed()
    optimizer = Muon(model, lr=3e-2, matrix_lr=1e-1)
    first = model.loss().item()
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = (1e-1 if "momentum" in group else 3e-2) * (1 - step / 300)
        loss = optimizer.step(lambda: backward(model))
    assert loss < 1e-2 * first


def backward(model: Mixed) -> float:
    model.zero_grad()
    loss = model.loss()
    loss.backward()
    return loss.item()
