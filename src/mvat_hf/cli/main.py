"""The `mvat` command, put together from the files beside this one."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from .. import __version__
from .convert import convert
from .demo import demo
from .enhance import enhance
from .env import env
from .evaluate import evaluate
from .export import export
from .info import info
from .push import push
from .running import Finished, reporting
from .stream import stream

# each with the extra that it needs, for who lacks it; "" where `mvat_hf` itself brings all
COMMANDS: dict[Callable[..., int], str] = {
    enhance: "",
    stream: "",
    evaluate: "evaluation",
    info: "",
    convert: "",
    export: "export",
    push: "",
    demo: "demo",
    env: "",
}

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mvat {__version__}")
        raise typer.Exit


@app.callback()
def mvat(
    version: Annotated[
        bool, typer.Option("--version", callback=tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Efficient speech enhancement with MANNER and MV-AT students."""


for command, needed in COMMANDS.items():
    app.command(short_help=str(command.__doc__).splitlines()[0])(reporting(command, needed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status. Whatever goes wrong is one line on standard error and status 1."""
    try:
        app(sys.argv[1:] if arguments is None else [*arguments], prog_name="mvat")
    except Finished as end:
        return end.status
    return 0
