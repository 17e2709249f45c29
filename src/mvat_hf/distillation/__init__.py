"""What a student learns from a teacher.

`attention_transfer`: maps and distances of attention transfer (AT) and multi-view attention transfer (MV-AT) as pure
functions; `methods`: the methods a student can be distilled by, and the seam where another one plugs in.
"""

from .attention_transfer import attention_distance, attention_map, attention_transfer, multi_view_attention_transfer
from .methods import (
    METHODS,
    AttentionTransfer,
    DistillationMethod,
    MultiViewAttentionTransfer,
    OutputDistillation,
    build_method,
)

__all__ = [
    "METHODS",
    "AttentionTransfer",
    "DistillationMethod",
    "MultiViewAttentionTransfer",
    "OutputDistillation",
    "attention_distance",
    "attention_map",
    "attention_transfer",
    "build_method",
    "multi_view_attention_transfer",
]
