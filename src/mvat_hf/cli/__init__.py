"""The `mvat` command: a file a sub-command, which imports what it needs when it runs; `main` puts them together."""

from .main import main

__all__ = ["main"]
