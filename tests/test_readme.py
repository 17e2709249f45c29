"""The README is short, its Python runs as it stands, and what pages name is there: files, commands, their options."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import soundfile
import typer
import yaml

from documented_commands import commands_of, flags_of, options_of_mvat, options_of_script, own_part
from mvat_hf.cli.main import app
from mvat_hf.data.audio import read_mono
from mvat_hf.distillation import METHODS
from mvat_hf.training.recipe import DataArguments
from recipe_options import KINDS

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
FOLDERS = {"runs", "checkpoints"}  # whose pages are not of the repository, or rendered again; and hidden ones
PAGES = sorted(
    path
    for path in REPOSITORY.rglob("README.md")
    if not any(part in FOLDERS or part[0] == "." for part in path.relative_to(REPOSITORY).parts)
)
RECIPES = sorted((REPOSITORY / "scripts" / "recipes").rglob("*.yaml"))
LONGEST = 200
STEPS = "max_steps=1000"  # what a reader trains for, and a test does not


def test_it_is_read_in_two_minutes():
    assert len(README.splitlines()) <= LONGEST


def test_its_python_runs_without_a_network(tmp_path):
    demo = REPOSITORY / "scripts" / "demo"
    noisy, clean = (read_mono(demo / f"sample_{kind}.flac", 16000) for kind in ("noisy", "clean"))
    soundfile.write(tmp_path / "noisy.wav", noisy, 16000)
    for kind, audio in (("noisy", noisy), ("clean", clean)):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        for number in range(2):
            soundfile.write(tmp_path / "pairs" / kind / f"{number}.wav", audio[: 3 * 16000], 16000)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 3
    script = "\n".join(blocks)
    assert STEPS in script
    (tmp_path / "blocks.py").write_text(script.replace(STEPS, "max_steps=1, use_cpu=True"))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "blocks.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(read_mono(tmp_path / "clean.wav", 16000)) == len(noisy)
    assert (tmp_path / "runs" / "student" / "model.safetensors").is_file()
    assert list((tmp_path / "runs" / "own").rglob("events.out.tfevents*")), "what the last block reports"


def test_the_page_of_recipes_names_every_method_and_its_source():
    page = (REPOSITORY / "scripts" / "recipes" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| .+ \| (.+) \|$", page, re.MULTILINE))
    assert rows.keys() == METHODS.keys()
    for name, source in rows.items():
        if years := re.findall(r"\b(?:19|20)\d\d\b", source):  # said in the file of the method too
            module = sys.modules[METHODS[name].__module__].__doc__
            assert years[0] in module and source.split()[0].rstrip(",") in module, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_what_a_page_links_to_is_there(page):
    """Links to files, and pictures by their address on the Hub, where this repository lies."""
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    hub = "https://huggingface.co/mvat/mvat_hf/resolve/main/"
    files = [REPOSITORY / link.removeprefix(hub) if link.startswith(hub) else page.parent / link for link in targets]
    assert not [str(file) for file in files if not file.exists() and "://" not in str(file) and "http" not in str(file)]


named = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


@named
def test_commands_of_a_page_are_there_with_their_options(page):
    wrong = []
    for words in commands_of(page.read_text(encoding="utf-8")):
        if (own := own_part(words, page)) is None:
            continue
        command, rest = own
        if isinstance(command, Path):
            known = options_of_script(command) if command.is_file() else None
        else:
            known = options_of_mvat(command) if command in {"", *typer.main.get_command(app).commands} else None
        if known is None:
            wrong.append(f"no {command}: {' '.join(words)}")
        else:
            wrong += [f"{flag}: {' '.join(words)}" for flag in flags_of(rest) if flag not in known]
    assert not wrong


def option_names(recipe: dict) -> Iterator[str]:
    """The options of a recipe, or of all cells of a study."""
    if "methods" not in recipe:
        yield from recipe
        return
    yield from recipe["recipe"]
    for cell in (*recipe["methods"].values(), *recipe.get("ablation", {}).get("cells", {}).values()):
        yield from cell


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_options_of_recipes_are_options_of_runs(recipe):
    kinds = [kind for each in KINDS for kind in (each.kinds().values() if each is DataArguments else (each,))]
    known = {option.name for kind in kinds for option in fields(kind)}
    assert not set(option_names(yaml.safe_load(recipe.read_text(encoding="utf-8")))) - known


@named
def test_options_that_a_page_names_alone_are_those_of_some_command(page):
    known = {"--help"}.union(*(options_of_mvat(name) for name in typer.main.get_command(app).commands))
    scripts = [*(REPOSITORY / "scripts").glob("*.py"), *page.parent.glob("*.py")]
    known = known.union(*(options_of_script(script) for script in scripts if script.name != "app.py"))
    alone = [words for words in commands_of(page.read_text(encoding="utf-8")) if words[0].startswith("--")]
    assert not [" ".join(words) for words in alone if not set(flags_of(words)) <= known]


def test_commands_and_options_are_found_in_code_of_every_kind():
    text = (
        "`mvat enhance A B --no-such 1` and `scripts/train.py --beta 1`\n\n```\na | .venv/bin/mvat stream --lost | b\n"
        "accelerate launch --quiet scripts/train.py \\\n    --seed=1 --teacher x  # --commented\n```\n"
    )
    page = REPOSITORY / "README.md"
    owned = [own for words in commands_of(text) if (own := own_part(words, page))]
    train = REPOSITORY / "scripts" / "train.py"
    found = [(command, flags_of(rest)) for command, rest in owned]
    assert found == [
        ("stream", ["--lost"]), (train, ["--seed", "--teacher"]), ("enhance", ["--no-such"]), (train, ["--beta"]),
    ]  # fmt: skip
    assert "--seed" in options_of_script(train) and "--beta" not in options_of_script(train)
    assert "--beta" in options_of_script(train.with_name("train_family.py"))
    assert "--no-full-band" in options_of_mvat("enhance") and "--no-full-band" not in options_of_mvat("stream")
