"""`mvat push`: checkpoints to the Hub."""

from pathlib import Path
from typing import Annotated

import typer

from .options import parse_path


def push(
    folder: Annotated[
        Path,
        typer.Argument(parser=parse_path, metavar="DIR", help="Folder with a checkpoint and its card (README.md)."),
    ],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Hub id, owner/name; without an owner, you.")],
    private: Annotated[
        bool, typer.Option("--private", help="Push to a private repo; it is made if it is not there.")
    ] = False,
    draft: Annotated[
        bool, typer.Option("--draft", help="Push a checkpoint that was not measured, to a private repo only.")
    ] = False,
) -> int:
    """Publish a measured checkpoint on the Hub, with its card and code."""
    from ..hub.push import push_checkpoint

    print(push_checkpoint(folder, repo, private=private, draft=draft))
    return 0
