"""A model in evaluation mode while it is used, and in the mode that it was in afterwards."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from torch import nn

# of a model: how many `evaluating` are under way, and which of its modules were in training before the first
PASSING: "WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]]" = WeakKeyDictionary()
CHANGING = threading.Lock()  # of that


@contextmanager
def evaluating(model: "nn.Module") -> Iterator[None]:
    """Evaluation mode, and each module in the mode it was in once the last thread that passes through has left."""
    with CHANGING:
        others, training = PASSING.get(model, (0, [module for module in model.modules() if module.training]))
        PASSING[model] = others + 1, training
        model.eval()
    try:
        yield
    finally:
        with CHANGING:
            passing, training = PASSING.pop(model)
            if passing > 1:
                PASSING[model] = passing - 1, training
            else:
                for module in training:
                    module.training = True


__all__ = ["evaluating"]
