"""`mvat evaluate`: models, peers and enhanced files, scored on noisy and clean pairs."""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..utils.errors import need
from ..utils.records import read_json
from .options import Device, parse_name, parse_path, parse_positive

Systems = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL|FOLDER]...",
        help="Model folders, Hub ids, folders of enhanced files; ROW=... names the row; differences are to the first.",
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        parser=parse_name, metavar="ROOT", help="Folder of the data set (valentini, dns), or its Hub id (valentini)."
    ),
]
Clean = Annotated[Path | None, typer.Option(parser=parse_path, metavar="DIR", help="Folder of clean files (pairs).")]
Noisy = Annotated[
    Path | None, typer.Option(parser=parse_path, metavar="DIR", help="Folder of noisy files of the same names (pairs).")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="For example pesq,stoi,dnsmos_ovrl.", show_default="all but LLR, WSS, DNSMOS and word_error_rate"
    ),
]
Processes = Annotated[
    Any, typer.Option(parser=parse_positive, metavar="N", help="Processes that score.", show_default="one per core")
]
Output = Annotated[
    Path | None,
    typer.Option(
        parser=parse_path, metavar="DIR", help="Folder of the record, the table and the pictures.",
        show_default="results/ and the name of the data set",
    ),
]  # fmt: skip


def evaluate(
    systems: Systems = None,
    *,
    data: Annotated[
        Literal["valentini", "dns", "pairs"],
        typer.Option(help="valentini or dns, with --root; pairs, with --clean and --noisy."),
    ],
    root: Root = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the data set (valentini, dns).", show_default="test")
    ] = None,
    clean: Clean = None,
    noisy: Noisy = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="Enhancer of another package, such as rnnoise; may be repeated.")
    ] = None,
    metrics: Metrics = None,
    processes: Processes = None,
    device: Device = None,
    output: Output = None,
) -> int:
    """Score models, peers and enhanced files on noisy and clean pairs."""
    from ..evaluation.evaluating import evaluate_systems, examples_of, names_of
    from ..evaluation.report import draw_report, render_differences, render_table, write_report
    from ..evaluation.systems import PeerSystem, build_system
    from ..metrics.scoring import FULL, check_metrics

    need("evaluation", "scipy", "matplotlib")  # of the intervals and pictures, which come last
    scored = check_metrics(FULL if metrics is None else parse_names(metrics))
    dataset, name = load_dataset(data, root, split, clean, noisy)
    entries = name_rows(systems or [], taken=("noisy", *(peer or [])))
    rows = {row: build_system(entry, device) for row, entry in entries.items()}
    rows |= {name: PeerSystem(name) for name in peer or []}
    output = output or Path("results") / re.sub(r"[^\w-]+", "_", name)
    there = output / "results.json", name, set(names_of(dataset)), {"noisy", *rows}, set(scored)
    refuse_other_record(*there)
    output.mkdir(parents=True, exist_ok=True)
    asked = hashlib.sha256(json.dumps([name, entries, peer, scored]).encode()).hexdigest()
    journal = output / f"scores.{asked[:8]}.jsonl"  # another evaluation that was not finished keeps its own
    record = evaluate_systems(
        rows, dataset, name=name, metrics=scored, processes=processes, journal=journal, progress=True
    )
    try:  # meanwhile another may have ended
        refuse_other_record(*there)
    except ValueError as error:
        raise ValueError(f"{error}. To go on from the scores of this one, move {journal} there") from None
    write_report(output, record)
    first = next(iter(rows.values()), None)
    draw_report(output, record, {} if first is None else examples_of(record, first, dataset))
    journal.unlink(missing_ok=True)
    print(render_table(record))
    if len(rows) > 0:
        print(f"\n{render_differences(record)}")
    return 1 if tell_failures(record) else 0


def tell_failures(record: Mapping[str, Any]) -> bool:
    """Print what was not scored or timed. True if a file has no score that should have one."""
    from ..evaluation.journal import UNREADABLE

    lost = False
    scorable = record["systems"][0]["scores"]  # the noisy input's: silence has no score by its nature, and is not lost
    for system in record["systems"]:
        for failure in system["failures"]:
            lost |= failure["id"] in scorable or failure["reason"].startswith(UNREADABLE)
            print(f"not scored: {system['name']}: {failure['id']}: {failure['reason']}", file=sys.stderr)
        if "not_timed" in system:
            print(f"not timed: {system['name']}: {system['not_timed']}", file=sys.stderr)
    return lost


def parse_names(text: str) -> list[str]:
    """ "A, B" as a list, each name once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def refuse_other_record(path: Path, name: str, ids: set[str], rows: set[str], metrics: set[str]) -> None:
    """ValueError if writing to `path` would lose a record: one of another data set than `name` or of other files than
    `ids`, or one with systems or metrics beside `rows` and `metrics`."""
    there = read_json(path) if path.is_file() else {}
    if there and there.get("dataset", {}).get("name") != name:
        raise ValueError(f"{path} is of another data set, and {name} would replace it: choose another --output")
    if there and ids != {*there["systems"][0]["scores"], *(lost["id"] for lost in there["systems"][0]["failures"])}:
        raise ValueError(f"{path} is of other files of {name}, and would be replaced: choose another --output")
    lost = [row["name"] for row in there.get("systems", ()) if row["name"] not in rows]
    lost += [key for key in there.get("metrics", ()) if key not in metrics]
    if lost:
        raise ValueError(f"{path} also has {', '.join(lost)}, which would be lost: choose another --output")


def name_rows(entries: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """Systems by the names of their rows, from entries X or ROW=X. ValueError for an entry without a name or a system
    (an unset shell variable), and for a row given twice or `taken`."""
    named: dict[str, str] = {}
    for entry in entries:
        row, separator, system = entry.partition("=")
        if Path(entry).exists() or not separator:
            row = system = entry
        if not (row and system):
            raise ValueError(f'expected MODEL, FOLDER or ROW=MODEL, got "{entry}"')
        if row in named or row in taken:
            raise ValueError(
                f'every row needs a name of its own, other than "noisy" and the peers\'; got "{row}" again'
            )
        named[row] = system
    return named


def load_dataset(data: str, root: str | None, split: str | None, clean: Path | None, noisy: Path | None):
    """(data set, its name in the record) of the options of `evaluate`."""
    from ..data.dns import load_dns
    from ..data.pairs import load_pairs
    from ..data.valentini import load_valentini

    of_others = {"--root": root, "--split": split} if data == "pairs" else {"--clean": clean, "--noisy": noisy}
    for option, value in of_others.items():
        if value is not None:
            raise ValueError(f"{option} is no option for --data {data}, got {value}")
    if data == "pairs":
        if clean is None or noisy is None:
            raise ValueError("--data pairs needs --clean and --noisy, two folders with files of the same names")
        sides = [Path(*side.resolve().parts[-2:]) for side in (noisy, clean)]
        return load_pairs(clean, noisy), f"pairs of {sides[0].as_posix()} and {sides[1].as_posix()}"
    if root is None:
        raise ValueError(f"--data {data} needs --root, the folder of the data set")
    load = load_valentini if data == "valentini" else load_dns
    split = "test" if split is None else split
    return load(root, split), f"{data} {split}"
