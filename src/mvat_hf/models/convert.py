"""Upstream MANNER checkpoints (`manner_small.pth`, `manner_base.pth`, `manner_large.pth`, …) as `MannerModel`.

The configuration is worked out from the weights; every key must be accounted for, in both directions.
"""

import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from .manner.configuration_manner import MannerConfig
from .manner.modeling_manner import MannerModel
from .weights import weights_fault

# Upstream key -> ours, by prefix; applied in turn after the decoder's order is turned into levels.
KEY_MAP = (
    (r"^manner_block\.", ""),
    (r"^in_conv\.0\.", "input."),
    (r"^in_conv\.1\.", "input_norm."),
    (r"^out_conv\.0\.", "output."),
    (r"^linear\.0\.", "bottleneck."),
    (r"^mask_gate\.output\.0\.", "mask.content."),
    (r"^mask_gate\.output_gate\.0\.", "mask.gate."),
    (r"^mask_gate\.mask\.0\.", "mask.out."),
    (r"\.(down|up)_conv\.0\.", r".\1."),
    (r"\.(down|up)_conv\.1\.", r".\1_norm."),
    (r"\.conv_block\.point_conv1\.0\.conv\.", ".residual.expand."),
    (r"\.conv_block\.point_conv1\.1\.", ".residual.expand_norm."),
    (r"\.conv_block\.point_conv2\.0\.conv\.", ".residual.project."),
    (r"\.conv_block\.point_conv2\.1\.", ".residual.project_norm."),
    (r"\.depth_conv\.0\.conv\.", ".depthwise.conv."),
    (r"\.depth_conv\.1\.", ".depthwise.norm."),
    (r"\.conv_block\.conv\.(conv|bn)\.", r".residual.out.\1."),
    (r"\.conv_block\.", ".residual."),
    (r"\.attn_block\.in_branch(\d)\.", r".attention.branches.\1."),
    (r"\.attn_block\.out_branch(\d)\.", r".attention.refine.\1."),
    (r"\.attn_block\.channel_attn\.fc\.", ".attention.channel_view.mlp."),
    (r"\.attn_block\.global_attn\.w_qs\.", ".attention.global_view.query."),
    (r"\.attn_block\.global_attn\.w_ks\.", ".attention.global_view.key."),
    (r"\.attn_block\.global_attn\.w_vs\.", ".attention.global_view.value."),
    (r"\.attn_block\.global_attn\.fc\.", ".attention.global_view.out."),
    (r"\.attn_block\.local_attn\.conv\.", ".attention.local_view.weight."),
    (r"\.attn_block\.local_attn\.", ".attention.local_view."),
    (r"\.attn_block\.output_tanh\.0\.", ".attention.gate.content."),
    (r"\.attn_block\.output_sigmoid\.0\.", ".attention.gate.gate."),
    (r"\.attn_block\.gate_conv\.0\.", ".attention.gate.out."),
    (r"\.attn_block\.conv\.", ".attention.join."),
    (r"\.attn_block\.", ".attention."),
    (r"\.bn\.", ".norm."),
)


def read_upstream(path: str | Path) -> dict[str, Tensor]:
    """The state dict of an upstream checkpoint file, read with `weights_only=True`.

    Raises:
        FileNotFoundError: no such file. ValueError: not a checkpoint of upstream's form.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint file: {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load meets foreign bytes with errors of every kind
        raise ValueError(f"{path} is not a PyTorch checkpoint of tensors alone (weights_only=True)") from error
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ValueError(f"{path}: expected a dict of tensors or one under 'state_dict', as upstream saves it")
    return {key.removeprefix("module."): value for key, value in state.items()}  # DataParallel's prefix


def infer_config(state: dict[str, Tensor], stride: int = 4) -> MannerConfig:
    """The configuration whose model holds the upstream `state`; only `stride` cannot be read off the weights.

    Raises:
        ValueError: the weights are not those of an upstream MANNER.
    """
    try:
        return MannerConfig(stride=stride, **sizes_of(state))
    except KeyError as error:
        raise ValueError(f"not an upstream MANNER checkpoint: it has no {error}") from error
    except (IndexError, StrictDataclassError) as error:
        raise ValueError(f"not an upstream MANNER checkpoint: {' '.join(str(error).split())}") from error


def sizes_of(state: dict[str, Tensor]) -> dict[str, Any]:
    """Arguments of `MannerConfig` as the shapes of upstream's `state` tell them."""
    block = "manner_block."
    hidden_size = state[f"{block}in_conv.0.weight"].shape[0]
    deepest = state[f"{block}linear.0.weight"].shape[0]
    growth = state[f"{block}encoder.0.conv_block.conv.conv.weight"].shape[0] // hidden_size
    depth = 1 + max(int(found[1]) for key in state if (found := re.match(rf"{block}encoder\.(\d+)\.", key)))
    if hidden_size * growth**depth != deepest:
        raise ValueError(
            f"not an upstream MANNER checkpoint: hidden {hidden_size}, growth {growth} and depth {depth} "
            f"give {hidden_size * growth**depth} channels at the bottleneck, it has {deepest}"
        )
    attended = {int(found[1]) for key in state if (found := re.match(rf"{block}encoder\.(\d+)\.attn_block\.", key))}
    levels = tuple(sorted(attended))
    named: dict[tuple[int, ...], str] = {tuple(range(depth)): "all", (depth - 1,): "deepest", (): "none"}
    sizes = {
        "hidden_size": hidden_size,
        "depth": depth,
        "attention_levels": named.get(levels, list(levels)),
        "kernel_size": state[f"{block}encoder.0.down_conv.0.weight"].shape[2],
        "growth": growth,
    }
    if levels:
        width, segment_len = state[f"{block}encoder.{levels[0]}.attn_block.global_attn.w_qs.weight"].shape
        sizes |= {"segment_len": segment_len, "num_heads": round((width / segment_len) ** 0.5)}
    return sizes


def rename_keys(state: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Upstream's state dict under our names; a key that the map does not know keeps a name no model has."""
    renamed = {}
    for key, value in state.items():
        # upstream counts the decoder from the deepest level, we from the shallowest
        name = re.sub(r"(?<=\bdecoder\.)\d+", lambda found: str(depth - 1 - int(found[0])), key)
        for pattern, replacement in KEY_MAP:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def convert_checkpoint(path: str | Path, stride: int = 4) -> MannerModel:
    """An upstream checkpoint file as `MannerModel` in evaluation mode.

    Raises:
        FileNotFoundError, ValueError: see `read_upstream` and `infer_config`; also for keys that are missing, left
        over, of another shape, of integers or not finite, which the message names.
    """
    state = read_upstream(path)
    config = infer_config(state, stride)
    model = MannerModel(config)
    wanted, given = model.state_dict(), rename_keys(state, config.depth)
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        raise ValueError(
            f"{path}: {len(missing)} weights are missing {missing[:3]}, {len(unknown)} are not known {unknown[:3]}"
        )
    for name, value in given.items():
        if value.shape != wanted[name].shape:
            raise ValueError(f"{path}: {name} is {tuple(value.shape)}, expected {tuple(wanted[name].shape)}")
        if wanted[name].is_floating_point() and not value.is_floating_point():
            raise ValueError(f"{path}: {name} is of type {value.dtype}, expected a floating-point one")
    model.load_state_dict(given)
    if fault := weights_fault(model.state_dict()):
        raise ValueError(f"{path}: {fault}")
    return model.eval()


__all__ = ["convert_checkpoint", "infer_config", "read_upstream"]
