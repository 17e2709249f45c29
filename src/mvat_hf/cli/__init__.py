"""The `mvat` command."""

from .main import main

__all__ = ["main"]
