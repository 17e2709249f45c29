"""`mvat demo`: a page to hear models on."""

from typing import Annotated

import typer

from ..models import DEFAULT_MODEL


def demo(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Folder, Hub id or .onnx file; once for each that visitors may choose.",
            show_default=DEFAULT_MODEL,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Port to listen on.", show_default="the first free one from 7860")
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Also through a public address that Gradio lends.")] = False,
    max_seconds: Annotated[float, typer.Option(help="Longest recording.")] = 600.0,
) -> int:
    """Serve a page to hear recordings before and after."""
    if not max_seconds > 0:
        raise ValueError(f"--max-seconds must be above 0, got {max_seconds:g}")
    from ..app import serve

    models = list(dict.fromkeys(model or [DEFAULT_MODEL]))
    serve(models, host=host, port=port, share=share, max_seconds=max_seconds)
    return 0
