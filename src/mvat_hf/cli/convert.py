"""`mvat convert`: upstream checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from .options import parse_path


def convert(
    checkpoint: Annotated[Path, typer.Argument(parser=parse_path, metavar="CKPT", help="Upstream .pth file.")],
    target: Annotated[Path, typer.Argument(parser=parse_path, metavar="DIR", help="Folder to write.")],
    stride: Annotated[int, typer.Option(help="Stride; not in the weights.")] = 4,
) -> int:
    """Turn an upstream MANNER checkpoint into one that from_pretrained loads."""
    from ..hub.push import save_checkpoint
    from ..models.convert import convert_checkpoint

    model = convert_checkpoint(checkpoint, stride)
    save_checkpoint(model, target)
    config = model.config
    print(
        f"{target}: hidden_size {config.hidden_size}, depth {config.depth}, attention_levels "
        f"{config.attention_levels}, {model.num_parameters():,} parameters"
    )
    return 0
