"""Attention transfer: the student's activations are to peak at the same moments as the teacher's.

`multi_view_attention_transfer` is our reading of MV-AT (Shin et al., Interspeech 2022, arXiv 2208.10367) from its
abstract and from attention transfer (Zagoruyko and Komodakis, ICLR 2017), whose text was at hand; it is not a quotation
of the paper's equations.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

VIEWS = ("channel_view", "global_view", "local_view")


def attention_map(features: Tensor, p: float = 2) -> Tensor:
    """Q(F) = sum over channels of |F|^p, L2-normalised over time: (B, C, L) to (B, L)."""
    return F.normalize(features.float().abs().pow(p).sum(dim=1), dim=-1)


def attention_distance(student: Tensor, teacher: Tensor, p: float = 2) -> Tensor:
    """|| Q(F_S) - Q(F_T) ||_2, mean over the batch, of features (B, C_S, L) and (B, C_T, L) with any channel counts.

    Padding may make one a few frames longer: the longer is cut at its end.
    """
    frames = min(student.shape[-1], teacher.shape[-1])
    difference = attention_map(student[..., :frames], p) - attention_map(teacher[..., :frames].detach(), p)
    return torch.linalg.vector_norm(difference, dim=-1).mean()


def shared_blocks(student: Mapping[str, object], teacher: Mapping[str, object]) -> list[str]:
    """Keys "encoder.LEVEL" and "decoder.LEVEL" that both have, in the student's order.

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


def multi_view_attention_transfer(
    student: Mapping[str, Mapping[str, Tensor]],
    teacher: Mapping[str, Mapping[str, Tensor]],
    p: float = 2,
    views: tuple[str, ...] = VIEWS,
) -> Tensor:
    """
    MV-AT = sum over shared blocks and views of || Q_S - Q_T ||_2 (see `attention_distance`).

    Args:
        student, teacher: `view_features` of both outputs: by block, by view, (B, channels, frames). Blocks are matched
            by side and level, as level l has the same time resolution in both; widths and depths may differ.
        p: exponent of the attention map.
        views: the views to transfer.

    Raises:
        ValueError: no shared block.
    """
    terms = [
        attention_distance(student[block][view], teacher[block][view], p)
        for block in shared_blocks(student, teacher)
        for view in views
    ]
    return torch.stack(terms).sum()


def attention_transfer(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], p: float = 2) -> Tensor:
    """
    AT = sum over shared U-Net levels of || Q_S - Q_T ||_2 on their outputs: attention transfer with a single view.

    Args:
        student, teacher: `hidden_states` of both outputs: by level, (B, channels, frames).
        p: exponent of the attention map.

    Raises:
        ValueError: no shared level.
    """
    terms = [attention_distance(student[block], teacher[block], p) for block in shared_blocks(student, teacher)]
    return torch.stack(terms).sum()
