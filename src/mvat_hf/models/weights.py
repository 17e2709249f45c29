"""Weights of a checkpoint, held against the model that they are for: before any memory is asked for, and after."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from .snapshots import hash_fault


class CheckpointError(Exception):
    """Weights that are not those of the Hub or the configuration; `from_pretrained` makes an OSError of it."""


def check_weights(model: Any, state: dict[str, Tensor] | None, paths: Iterable[str], sharded: Any) -> None:
    """
    Compare what is to be loaded with a model that has no memory yet, by the hash and the header of each file.

    Args:
        state, paths: the weights themselves, or the safetensors files that hold them.
        sharded: of transformers, what the index of several files says.

    Raises:
        CheckpointError: a file of another hash or from another folder; weights that are missing, left over, of another
            shape, or integers where numbers with a fraction are expected.
    """
    if fault := names_fault((sharded or {}).get("weight_map", {})):
        raise CheckpointError(fault)
    if state is not None:
        found = {name: (tuple(tensor.shape), tensor.dtype.is_floating_point) for name, tensor in state.items()}
    else:
        found = {}
        for path in map(Path, paths):
            if fault := hash_fault(path):
                raise CheckpointError(fault)
            found |= read_header(path)
    wanted = {name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in model.state_dict().items()}
    if fault := header_fault(found, wanted):
        raise CheckpointError(fault)


def read_header(path: Path) -> dict[str, tuple[tuple[int, ...], bool]]:
    """The shape of each tensor in a safetensors file, and whether its type is a floating one."""
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        return {
            name: (tuple(part.get_shape()), part.get_dtype().startswith(("F", "BF"))) for name, part in slices.items()
        }


def header_fault(found: dict[str, tuple], wanted: dict[str, tuple]) -> str | None:
    """The fault of weights of those shapes and types; None if there is none."""
    if missing := sorted(wanted.keys() - found.keys()):
        return f"it lacks {len(missing)} weights that the configuration expects, {missing[0]} for example"
    if unknown := sorted(found.keys() - wanted.keys()):
        return f"it has {len(unknown)} weights that the configuration has no place for, {unknown[0]} for example"
    if other := [name for name in sorted(wanted) if found[name][0] != wanted[name][0]]:
        got, expected = (shapes[other[0]][0] for shapes in (found, wanted))
        return (
            f"{len(other)} weights have another shape than the configuration says: {other[0]} is {got}, "
            f"expected {expected}; mvat_hf.resize makes a wider or narrower model of a trained one"
        )
    if integers := [name for name in sorted(wanted) if wanted[name][1] and not found[name][1]]:
        return f"{len(integers)} weights are integers or the like, {integers[0]} for example, expected floating point"
    return None


def index_fault(path: Path) -> str | None:
    """What is wrong with the index of a checkpoint in several files; None if nothing is."""
    try:
        index = json.loads(path.read_bytes())
        if isinstance(index["metadata"], dict) and all(isinstance(file, str) for file in index["weight_map"].values()):
            return names_fault(index["weight_map"])
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    return f'{path.name} is no index of files, expected JSON with "metadata" and a "weight_map" of weights to files'


def names_fault(weight_map: Mapping[str, str]) -> str | None:
    """The first file of an index that is not in its folder; None if there is none."""
    outside = [file for file in weight_map.values() if Path(file).name != file]
    return f"the index names {min(outside)}, expected names of files beside it" if outside else None


def weights_fault(state: Mapping[str, Tensor]) -> str | None:
    """The first parameter or buffer that holds NaN, infinity or a negative variance; None if there is none. What has no
    memory yet, or no fractions (of quantised layers), holds nothing of the kind."""
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.is_meta:
            continue
        if not tensor.isfinite().all():
            return f"the weights {name} hold NaN or infinity, expected finite numbers"
        if name.endswith("running_var") and (tensor < 0).any():
            return f"the weights {name} hold a negative variance"
    return None
