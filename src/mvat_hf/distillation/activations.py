"""The activations that a method reads of a model: enhanced audio, recorded outputs, and outputs of modules by name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

# recorded outputs by name, and the option of the model's forward pass that asks for each
OUTPUTS: dict[str, str | None] = {
    "audio_values": None,
    "view_features": "output_view_features",
    "hidden_states": "output_hidden_states",
}

# activations by name: tensors (B, …), or mappings of names to such, as deep as the model gives them
Activations = Mapping[str, Any]


def forward_options(names: Sequence[str]) -> dict[str, bool]:
    """Options of `MannerModel.forward` that record the outputs of `names`."""
    return {option: True for name in names if (option := OUTPUTS.get(name)) is not None}


@contextmanager
def recording(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """
    Record the outputs of those `names` that are modules of `model`, in every pass within the context.

    Yields:
        a dict that a pass fills: the output of each module by its name; the first where it gives several.

    Raises:
        ValueError: a name is neither a recorded output nor a module.
    """
    seen: dict[str, Tensor] = {}
    hooks = []
    try:
        for name in names:
            if name not in OUTPUTS:
                hooks.append(module_of(model, name).register_forward_hook(keeper(seen, name)))
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def module_of(model: nn.Module, name: str) -> nn.Module:
    """The module of a name; ValueError that lists the modules there are."""
    modules = dict(model.named_modules())
    if not name or name not in modules:
        near = [known for known in modules if known and known.count(".") <= name.count(".")][:20]
        raise ValueError(
            f'{type(model).__name__} has no module "{name}", expected {", ".join(OUTPUTS)} or a module such as '
            f"{', '.join(near) or 'none: it has none'}"
        )
    return modules[name]


def keeper(seen: dict[str, Tensor], name: str) -> Any:
    """A forward hook that puts the output of a module into `seen`."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        seen[name] = output[0] if isinstance(output, (tuple, list)) else output

    return hook


def activations(model: nn.Module, output: Any, names: Sequence[str], seen: Mapping[str, Tensor]) -> dict[str, Any]:
    """
    The activations of `names` from a model's output and from what `recording` has `seen`.

    Raises:
        ValueError: the model does not give one of them.
    """
    return {name: seen[name] if name in seen else recorded(model, output, name) for name in names}


def recorded(model: nn.Module, output: Any, name: str) -> Any:
    """A recorded output by name; "audio_values" is also the tensor, or the first of several, that a model returns."""
    if isinstance(output, Mapping):
        value = output.get(name)
    elif name == "audio_values":
        value = output[0] if isinstance(output, (tuple, list)) else getattr(output, name, output)
    else:
        value = getattr(output, name, None)
    if name == "audio_values" and isinstance(value, Tensor) and value.ndim == 3 and value.shape[1] == 1:
        value = value.squeeze(1)
    if value is None or (name == "audio_values" and not isinstance(value, Tensor)):
        raise ValueError(
            f'{type(model).__name__} does not give "{name}", which the method reads: expected a MannerModel, or a '
            "method that reads modules by their names"
        )
    return value


def flattened(given: Activations, above: str = "") -> dict[str, Tensor]:
    """Activations as one dict of tensors under the keys "NAME/BLOCK/VIEW"."""
    flat: dict[str, Tensor] = {}
    for name, value in given.items():
        if isinstance(value, Tensor):
            flat[above + name] = value
        else:
            flat |= flattened(value, f"{above}{name}/")
    return flat


def nested(flat: Mapping[str, Tensor]) -> dict[str, Any]:
    """`flattened` undone."""
    given: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        into = given
        for folder in folders:
            into = into.setdefault(folder, {})
        into[name] = value
    return given
