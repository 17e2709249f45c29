"""Attention transfer: the student's activations are to peak at the same moments as the teacher's.

`multi_view_attention_transfer` is our reading of MV-AT (Shin et al., Interspeech 2022, arXiv 2208.10367) from its
abstract and from attention transfer (Zagoruyko and Komodakis, ICLR 2017), whose text was at hand; it is not a quotation
of the paper's equations.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

VIEWS = ("channel_view", "global_view", "local_view")
SIDES = ("encoder", "decoder")


def attention_energy(features: Tensor, p: float = 2) -> Tensor:
    """sum over channels of |F|^p, (B, C, L) to (B, L): an attention map before its normalisation."""
    return features.float().abs().pow(p).sum(dim=1)


def attention_map(features: Tensor, p: float = 2) -> Tensor:
    """Q(F) = sum over channels of |F|^p, L2-normalised over time: (B, C, L) to (B, L)."""
    return F.normalize(attention_energy(features, p), dim=-1)


def energy_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """|| Q_S - Q_T ||_2, mean over the batch, of energies (B, L) as `attention_energy` gives them.

    Padding may make one a few frames longer: the longer is cut at its end.
    """
    frames = min(student.shape[-1], teacher.shape[-1])
    mine, theirs = (F.normalize(energy[..., :frames], dim=-1) for energy in (student, teacher.detach()))
    return torch.linalg.vector_norm(mine - theirs, dim=-1).mean()


def attention_distance(student: Tensor, teacher: Tensor, p: float = 2) -> Tensor:
    """|| Q(F_S) - Q(F_T) ||_2, mean over the batch, of features (B, C_S, L) and (B, C_T, L) with any channel counts."""
    return energy_distance(attention_energy(student, p), attention_energy(teacher, p))


def shared_blocks(student: Mapping[str, object], teacher: Mapping[str, object]) -> list[str]:
    """Keys "encoder.LEVEL" and "decoder.LEVEL" (and what is below them) that both have, in the student's order.

    Raises:
        ValueError: there is none.
    """
    shared = [name for name in student if name in teacher]
    if not shared:
        raise ValueError(
            f"teacher and student share no level: the student has {list(student) or 'none'}, the teacher "
            f"{list(teacher) or 'none'}; set attention_levels (or depth) of one so that a level is in both"
        )
    return shared


def check_exponent(p: float) -> float:
    """`p`; ValueError where it is below 1."""
    if p < 1:
        raise ValueError(f"p must be at least 1, got {p}: below, |F|^p has no gradient where features are 0")
    return p


def as_one_channel(features: Tensor, p: float = 2) -> Tensor:
    """Features of a single channel with the same attention map, (B, C, L) to (B, 1, L): all that AT needs."""
    return attention_energy(features, p).pow(1 / p).unsqueeze(1)


def view_energies(
    view_features: Mapping[str, Mapping[str, Tensor]],
    p: float = 2,
    views: Sequence[str] = VIEWS,
    sides: Sequence[str] = SIDES,
) -> dict[str, Tensor]:
    """Energies of the chosen views of all attention blocks on the chosen sides, under the keys "BLOCK.VIEW"."""
    return {
        f"{block}.{view}": attention_energy(features[view], p)
        for block, features in view_features.items()
        for view in views
        if block.partition(".")[0] in sides
    }


def summed_distance(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Sum of `energy_distance` over the keys that both have; ValueError if there is none."""
    return torch.stack(
        [energy_distance(student[name], teacher[name]) for name in shared_blocks(student, teacher)]
    ).sum()


def multi_view_attention_transfer(
    student: Mapping[str, Mapping[str, Tensor]],
    teacher: Mapping[str, Mapping[str, Tensor]],
    p: float = 2,
    views: Sequence[str] = VIEWS,
    sides: Sequence[str] = SIDES,
) -> Tensor:
    """
    MV-AT = sum over shared blocks and views of || Q_S - Q_T ||_2 (see `attention_distance`).

    Args:
        student, teacher: `view_features` of both outputs: by block, by view, (B, channels, frames). Blocks are matched
            by side and level, as level l has the same time resolution in both; widths and depths may differ.
        p: exponent of the attention map.
        views: the views to transfer.
        sides: of the U-Net, "encoder" and "decoder" or one of them.

    Raises:
        ValueError: no shared block.
    """
    shared_blocks(student, teacher)
    return summed_distance(*(view_energies(features, p, views, sides) for features in (student, teacher)))


def attention_transfer(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], p: float = 2) -> Tensor:
    """
    AT = sum over shared U-Net levels of || Q_S - Q_T ||_2 on their outputs: attention transfer with a single view.

    Args:
        student, teacher: `hidden_states` of both outputs: by level, (B, channels, frames).
        p: exponent of the attention map.

    Raises:
        ValueError: no shared level.
    """
    shared_blocks(student, teacher)
    return summed_distance(
        *({block: attention_energy(hidden, p) for block, hidden in states.items()} for states in (student, teacher))
    )
