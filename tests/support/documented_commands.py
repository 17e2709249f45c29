"""Commands in the code of a page of Markdown, and the options that these commands have."""

import argparse
import re
import runpy
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest
import typer

from conftest import REPOSITORY
from mvat_hf.cli.main import app

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
OTHER_LANGUAGES = {"python", "bibtex", "yaml"}
# a script that hands its options on to another
HANDED_ON = {"train_family.py": "distill.py"}


def code_of(text: str) -> list[str]:
    """Lines of the code blocks of a page, and its inline code."""
    blocks = [block for language, block in FENCE.findall(text) if language not in OTHER_LANGUAGES]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [*lines, *(" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text)))]


def commands_of(text: str) -> list[list[str]]:
    """The words of every command in the code of a page, those of a pipe each by itself; what no shell reads is none."""
    found: list[list[str]] = []
    for line in code_of(text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            continue
        found.append([])
        for word in words:
            found.append([]) if set(word) <= set("|&;") else found[-1].append(word)
    return [command for command in found if command]


def flags_of(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--\w", word)]


def script_of(word: str, page: Path) -> Path | None:
    """The script that a word names, from the repository's root or, on a page of scripts, beside it; None for another
    word. It need not be there."""
    if not word.endswith(".py") or set("*…") & set(word):
        return None
    if word.startswith("scripts/"):
        return REPOSITORY / word
    return page.parent / word if "/" not in word and REPOSITORY / "scripts" in page.parents else None


def own_part(words: list[str], page: Path) -> tuple[str | Path, list[str]] | None:
    """(the `mvat` command or the script, the words after it) of a command; None where it is neither."""
    for place, word in enumerate(words):
        if Path(word).name == "mvat" or words[place - 1 : place + 1] == ["-m", "mvat_hf"]:
            name = words[place + 1].rstrip(",") if len(words) > place + 1 else ""
            return ("" if name.startswith("-") else name), words[place + 1 :]
        if script := script_of(word, page):
            return script, words[place + 1 :]
    return None


class Asked(BaseException):
    """Holds the parser that was asked to read a command line."""


@cache
def options_of_script(script: Path) -> set[str]:
    """The options of a script, by the parser that it makes, whose command line is never read; none without a parser."""
    script = script.with_name(HANDED_ON.get(script.name, script.name))
    if not re.search(r"ArgumentParser\(|parse_recipe\(", script.read_text(encoding="utf-8")):
        return set()

    def ask(parser, *given, **kwargs):
        raise Asked(parser)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Asked) as asked:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", ask)
        patch.setattr(sys, "argv", [str(script), "--help"])
        patch.syspath_prepend(str(script.parent))
        runpy.run_path(str(script), run_name="__main__")
    return set(asked.value.args[0]._option_string_actions)


@cache
def options_of_mvat(name: str = "") -> set[str]:
    """The options of `mvat NAME`, or of `mvat` itself; KeyError where there is no such command."""
    group = typer.main.get_command(app)
    command = group.commands[name] if name else group
    return {"--help"}.union(*((*option.opts, *option.secondary_opts) for option in command.params))
