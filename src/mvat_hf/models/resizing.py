"""Models of another width, or with attention on other levels, made of a trained one: where training goes on from.

Widening is Net2WiderNet (Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR
2016). Narrowing keeps the channels whose batch norm makes them large, as in Liu et al., "Learning Efficient
Convolutional Networks through Network Slimming" (ICCV 2017).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from .manner import MannerConfig, MannerModel

Groups = tuple[str, ...]  # names of the groups of channels that a layer reads or gives, one after the other
# name of a module with weights, the groups it reads and those it gives; what is () stays as it is
Layer = tuple[str, Groups, Groups]
KEPT_OPTIONS = ("depth", "kernel_size", "stride", "growth", "num_heads", "segment_len", "sampling_rate", "high_pass_hz")
SHARE_RANGE = (0.5, 1.5)  # range of the shares of copies, before they are made to sum to one
GATE_BIAS = 1e-6  # what the gate of an added attention gives: next to nothing, and its ReLU still has a gradient there


@torch.no_grad()
def resize(model: MannerModel, config: MannerConfig, batches: Iterable[Tensor] = (), seed: int = 0) -> MannerModel:
    """
    A model of `config` made of the weights of `model`, in evaluation mode.

    The channels of the new model come from those of the old one by a map g. A layer with outputs o and inputs i gets

        W'[o, i] = W[g(o), g(i)] s[o, i],   the sum of s[o, i] over all i that have one g(i) being 1.

    Wider: g repeats channels, in order, and s shares unevenly, so that copies can learn different things. Where all are
    repeated equally often the output stays as it was, to rounding; elsewhere it is near, as the local view takes a mean
    over channels. Narrower: g keeps the strongest channels and s is 1; the output changes.

    Attention on a level that had none begins as the identity; where the new model has none, that of the old is left
    out, and the output is another.

    Args:
        model: it is not changed.
        config: differs from that of `model` in `hidden_size`, `attention_levels` and `initializer_scale` at most.
        batches: noisy audio, each (B, T). Given these, an added attention is near the identity in training mode too,
            where batch norms normalise by the batch; and where channels or attention are left out, the statistics of
            all batch norms are taken anew.
        seed: another seed, other shares, and other weights inside an added attention.

    Raises:
        ValueError: `config` differs in something else.
    """
    for name in KEPT_OPTIONS:
        got, expected = getattr(config, name), getattr(model.config, name)
        if got != expected:
            raise ValueError(f"a model is resized in width and attention alone: its {name} is {expected}, got {got}")
    batches = [batch.to(model.device, model.dtype) for batch in batches]
    had, have = set(model.config.attended_levels), set(config.attended_levels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        resized = MannerModel(config).eval()
        resized.to(device=model.device, dtype=model.dtype)
        fill(resized, model, list(layers(config.depth, had, have)))
    added = [side[level].attention for side in (resized.encoder, resized.decoder) for level in sorted(have - had)]
    become_identity(resized, added, batches)
    if batches and (had - have or config.hidden_size < model.config.hidden_size):
        update_bn(batches, resized)
    return resized.eval()


def layers(depth: int, had: set[int], have: set[int]) -> Iterator[Layer]:
    """The layers of MANNER that read or give channels of a group; attention stands on `had` and shall on `have`."""
    yield "input", (), ("first",)
    yield "input_norm", (), ("first",)
    for level in range(depth):
        name, outside, inside = f"encoder.{level}", (f"level.{level}" if level else "first",), (f"level.{level + 1}",)
        kept = (f"{name}.before",) if level in had & have else inside
        yield f"{name}.down", outside, (f"{name}.down",)
        yield f"{name}.down_norm", (), (f"{name}.down",)
        yield from residual_layers(f"{name}.residual", (f"{name}.down",), kept)
        if level in had & have:
            yield from attention_layers(f"{name}.attention", kept, inside)
    yield "bottleneck", (f"level.{depth}",), (f"level.{depth}",)
    for level in range(depth):
        name, inside, outside = f"decoder.{level}", (f"level.{level + 1}",), (f"level.{level}" if level else "last",)
        kept = (f"{name}.before",) if level in had & have else outside
        yield from residual_layers(f"{name}.residual", inside, (f"{name}.residual",))
        yield f"{name}.up", (f"{name}.residual",), kept
        yield f"{name}.up_norm", (), kept
        if level in had & have:
            yield from attention_layers(f"{name}.attention", kept, outside)
    yield from gate_layers("mask", ("last",), ("first",))
    yield "output", ("first",), ()


def residual_layers(name: str, reads: Groups, gives: Groups) -> Iterator[Layer]:
    """Those of a `ResidualConv`; the halves of its gated linear unit hold the same channels."""
    inner, middle = (f"{name}.inner",), (f"{name}.middle",)
    yield f"{name}.expand", reads, 2 * inner
    yield f"{name}.expand_norm", (), 2 * inner
    yield f"{name}.depthwise.conv", (), inner
    yield f"{name}.depthwise.norm", (), inner
    yield f"{name}.project", inner, middle
    yield f"{name}.project_norm", (), middle
    yield from norm_layers(f"{name}.out", middle, gives)
    yield from norm_layers(f"{name}.shortcut", reads, gives)


def attention_layers(name: str, reads: Groups, gives: Groups) -> Iterator[Layer]:
    """Those of a `MultiViewAttention` but the projections of the global view, which every channel passes by itself."""
    branches = [(f"{name}.branch.{view}",) for view in range(3)]
    views = [(f"{name}.view.{view}",) for view in range(3)]
    hidden, joined = (f"{name}.mlp",), (f"{name}.join",)
    for view in range(3):
        yield from norm_layers(f"{name}.branches.{view}", reads, branches[view])
        yield from norm_layers(f"{name}.refine.{view}", branches[view], views[view])
    yield f"{name}.channel_view.mlp.0", branches[0], hidden
    yield f"{name}.channel_view.mlp.2", hidden, branches[0]
    yield f"{name}.local_view.depthwise.conv", (), branches[2]
    yield f"{name}.local_view.depthwise.norm", (), branches[2]
    yield from norm_layers(f"{name}.join", views[0] + views[1] + views[2], joined)
    yield from gate_layers(f"{name}.gate", joined, gives)
    yield from norm_layers(f"{name}.shortcut", reads, gives)


def gate_layers(name: str, reads: Groups, gives: Groups) -> Iterator[Layer]:
    """Those of a `Gate`."""
    for half in ("content", "gate"):
        yield f"{name}.{half}", reads, (f"{name}.gated",)
    yield f"{name}.out", (f"{name}.gated",), gives


def norm_layers(name: str, reads: Groups, gives: Groups) -> Iterator[Layer]:
    """Those of a `ConvNorm`."""
    yield f"{name}.conv", reads, gives
    yield f"{name}.norm", (), gives


def fill(resized: MannerModel, model: MannerModel, table: Sequence[Layer]) -> None:
    """Give `resized` the weights of `model`: of the layers in `table` by channels, and all others that both have."""
    old, new = model.state_dict(), resized.state_dict()
    chosen = chosen_channels(old, new, table)
    counts = group_sizes(old, table)
    of_layers = {name: (reads, gives) for name, reads, gives in table}
    for name, value in old.items():
        reads, gives = of_layers.get(name.rpartition(".")[0], ((), ()))
        if name not in new:
            continue
        if value.ndim == 0 or not (reads or gives):
            new[name].copy_(value)
            continue
        # (outputs, inputs, …); those of a transposed convolution stand the other way round
        swapped = value.ndim > 1 and name.endswith(".up.weight")
        weight = value.transpose(0, 1) if swapped else value
        if gives:
            weight = weight[positions(gives, chosen, counts)]
        if reads and value.ndim > 1:
            sources = positions(reads, chosen, counts)
            weight = weight[:, sources] * shares(len(weight), sources).to(weight)[(..., *[None] * (weight.ndim - 2))]
        new[name].copy_(weight.transpose(0, 1) if swapped else weight)


def shares(outputs: int, sources: Tensor) -> Tensor:
    """Random s (outputs, inputs) of `resize`, given what every input is a copy of, (inputs,)."""
    drawn = torch.empty(outputs, len(sources)).uniform_(*SHARE_RANGE)
    sums = torch.zeros(outputs, int(sources.max()) + 1).index_add_(1, sources, drawn)
    return drawn / sums[:, sources]


def positions(groups: Groups, chosen: dict[str, Tensor], counts: dict[str, int]) -> Tensor:
    """Places in the old layer of the channels of the new one, which holds the groups one after the other."""
    places, start = [], 0
    for group in groups:
        places.append(chosen[group] + start)
        start += counts[group]
    return torch.cat(places)


def group_sizes(state: dict[str, Tensor], table: Sequence[Layer]) -> dict[str, int]:
    """Number of channels in every group: that of the biases or norms of a layer that gives it alone."""
    alone = {gives[0]: name for name, _, gives in table if len(gives) == 1 and f"{name}.bias" in state}
    return {group: len(state[f"{name}.bias"]) for group, name in alone.items()}


def chosen_channels(old: dict[str, Tensor], new: dict[str, Tensor], table: Sequence[Layer]) -> dict[str, Tensor]:
    """The map g of `resize` for every group: (channels of the new model,), ascending."""
    counts, wanted, strength = group_sizes(old, table), group_sizes(new, table), strengths(old, table)
    return {
        group: torch.arange(wanted[group]) * count // wanted[group]
        if wanted[group] >= count
        else strength[group].topk(wanted[group]).indices.sort().values
        for group, count in counts.items()
    }


def strengths(state: dict[str, Tensor], table: Sequence[Layer]) -> dict[str, Tensor]:
    """How much every channel of a group counts: the squares of the scale and shift of its batch norms; of a group that
    has none, the squares of the weights that give it times those of the weights that read it."""
    counts = group_sizes(state, table)
    made, read, normed = ({group: torch.zeros(count) for group, count in counts.items()} for _ in range(3))

    def note(totals: dict[str, Tensor], groups: Groups, squares: Tensor) -> None:
        parts = squares.split([counts[group] for group in groups]) if groups else ()
        for group, part in zip(groups, parts, strict=True):
            totals[group] += part

    for name, reads, gives in table:
        weight = state[f"{name}.weight"].float().cpu().square()
        if weight.ndim == 1:
            note(normed, gives, weight + state[f"{name}.bias"].float().cpu().square())
            continue
        weight = weight.sum(dim=-1) if weight.ndim == 3 else weight
        weight = weight.T if name.endswith(".up") else weight
        note(made, gives, weight.sum(dim=1))
        note(read, reads, weight.sum(dim=0))
    return {group: normed[group] if normed[group].any() else made[group] * read[group] for group in counts}


def become_identity(model: MannerModel, blocks: Sequence[Any], batches: Sequence[Tensor]) -> None:
    """Make the identity of new attention blocks of `model`, by the statistics of what they get from `batches`."""
    seen: dict[Any, list[Tensor]] = {block: [] for block in blocks}
    for block in blocks:
        nn.init.zeros_(block.gate.out.weight)
        nn.init.constant_(block.gate.out.bias, GATE_BIAS)
        nn.init.eye_(block.shortcut.conv.weight[..., 0])
        pass_on(block.shortcut.norm, torch.tensor(0.0), torch.tensor(1.0))
    if not batches or not blocks:
        return

    def note(block: nn.Module, inputs: tuple[Tensor]) -> None:
        seen[block].append(inputs[0].transpose(0, 1).flatten(1))  # (B, C, L) -> (C, B L)

    hooks = [block.register_forward_pre_hook(note) for block in blocks]
    for batch in batches:
        model(batch)
    for block, hook in zip(blocks, hooks, strict=True):
        hook.remove()
        values = torch.cat(seen[block], dim=1)
        pass_on(block.shortcut.norm, values.mean(dim=1), values.var(dim=1))


def pass_on(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Let a batch norm give what it gets, if that has these statistics, each (channels,) or one for all."""
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((norm.running_var + norm.eps).sqrt())
    norm.bias.copy_(norm.running_mean)


__all__ = ["resize"]
