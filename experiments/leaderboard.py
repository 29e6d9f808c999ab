"""``splitbench leaderboard``: tables and a page of the records in a results folder."""

import argparse
import hashlib
import json
import os
import shlex
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError

from experiments.errors import UserError
from experiments.page.markdown import to_markdown
from experiments.page.plots import Series, lines_of
from experiments.page.render import render
from experiments.page.spreadsheet import to_csv
from experiments.page.words import DASH, percent, rate
from splitbench.leaderboard import Board, Evidence, LeaderboardError, Row, boards
from splitbench.link import Link
from splitbench.record import Record, SchemaError, Scores

DEMO = "`splitbench demo` makes some in minutes, `splitbench run` makes those of your experiment"
UNTRIED = frozenset({"repetition_untested"})  # what nobody tried casts no doubt on a number


def main(arguments: Sequence[str]) -> int:
    """Make the leaderboard of a results folder; return the exit code."""
    options = _parser().parse_args(list(arguments))
    try:
        page = _make(Path(options.runs), options.out and Path(options.out), _link(options.link))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if options.open:
        webbrowser.open(page.resolve().as_uri())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="splitbench leaderboard",
        description="Make tables (Markdown, CSV) and one self-contained HTML page of the records "
        "in a results folder. Nothing is computed anew but intervals; the same records give the "
        "same files.",
    )
    parser.add_argument(
        "runs",
        nargs="?",
        default=os.environ.get("SPLITBENCH_RUNS", "runs"),
        metavar="RUNS_DIR",
        help="folder that `splitbench run` wrote, or one with `cells` in it (%(default)s)",
    )
    parser.add_argument("--out", metavar="DIR", help="where to write (RUNS_DIR/leaderboard)")
    parser.add_argument(
        "--link",
        default="wifi",
        metavar="NAME",
        help=f"network of the modelled end-to-end time: {', '.join(_links())} (%(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    return parser


def _make(runs: Path, out: Path | None, link: Link) -> Path:
    evidence = load(runs / "cells")
    try:
        found = boards(evidence, link=link)
    except LeaderboardError as error:
        raise UserError(f"{runs}: {error}") from error
    folder = runs / "leaderboard" if out is None else out
    commands = load_commands(runs / "jobs", {e.record.job_id for e in evidence})
    page = folder / "leaderboard.html"
    write(page, render(found, link=link, commands=commands))
    write(folder / "leaderboard.md", to_markdown(found, link=link.name))
    write(folder / "leaderboard.csv", to_csv(found, link=link.name))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    for board in found:
        console.print(Text(f"{board.model} on {board.data}, {board.protocol}: leakage L, accuracy"))
        console.print(summary(board))
    console.print(Text("L 0: no more than a blind guess, 1: everything; ! in doubt, - naive"))
    console.print(Text(f"page: {page}\ntables: {folder / 'leaderboard.md'}, leaderboard.csv"))
    return page


def load(folder: Path, cells: Sequence[str] | None = None) -> list[Evidence]:
    """Read every record of a folder, or those of some cells, with its per-example scores.

    Raises:
        UserError: There is none, or one is damaged; the message names the file.
    """
    named = [folder / f"{cell}.json" for cell in cells or ()]
    paths = sorted(folder.glob("*.json")) if cells is None else named
    if not paths:
        raise UserError(f"there are no records in {folder}: {DEMO}")
    return [_evidence(path) for path in paths]


def _evidence(path: Path) -> Evidence:
    remedy = "delete it and run the same command again to make it anew"
    try:
        record = Record.from_json(path.read_text("utf-8"))
    except (SchemaError, OSError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not a record that can be read ({error}): {remedy}") from error
    if record.status != "ok":
        return Evidence(record)
    if record.scores_file is None or Path(record.scores_file).name != record.scores_file:
        raise UserError(f"{path} names no file of scores beside it: {remedy}")
    beside = path.parent / record.scores_file
    try:
        content = beside.read_bytes()
        if record.scores_sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise UserError(f"{beside} is damaged (wrong checksum): {remedy}, with {path.name}")
        scores = Scores.load(beside)
        if record.cell.secret == "image":
            _check(scores)
        else:
            _check_inference(scores)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        text = f"the scores {beside} cannot be read ({error}): {remedy}, with {path.name}"
        raise UserError(text) from error
    return Evidence(record, scores)


def _check(scores: Scores) -> None:
    """What the leaderboard relies on."""
    if "mse" not in scores.metrics:
        raise ValueError("no mse")
    count = len(scores.metrics["mse"])
    for name, values in scores.floors.items():
        if name.endswith("/mse") and values.shape != (count,):
            raise ValueError(f"{name} has shape {values.shape}, mse has {count} values")
    for name, values in scores.null.items():
        if values.shape != (count,):
            raise ValueError(f"null {name} has shape {values.shape}, mse has {count} values")
    for name, values in (*scores.metrics.items(), *scores.floors.items(), *scores.null.items()):
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(f"{name} is not a finite number per image")
    shapes = scores.guesses.shape, scores.truths.shape
    if shapes[0] != shapes[1] or len(shapes[0]) != 4 or scores.guesses.dtype != np.uint8:
        raise ValueError(f"gallery images of shapes {shapes} are not pairs of uint8 images")


def _check_inference(scores: Scores) -> None:
    """The same, of a cell whose secret is not the image."""
    named = {**scores.metrics, **scores.floors}
    lacking = sorted({"right", "group", "pixels", "prediction"} - {*named})
    if lacking:
        raise ValueError(f"no {', '.join(lacking)}")
    for name, values in named.items():
        if values.shape != named["right"].shape or not np.isfinite(values).all():
            raise ValueError(f"{name} is not a finite number per image")


def load_commands(folder: Path, jobs: set[str]) -> dict[str, str]:
    """The command of each job that its results folder remembers, without this machine's paths."""
    commands = {}
    for path in sorted(folder.glob("*.json")):
        if path.stem not in jobs:
            continue
        try:
            overrides = json.loads(path.read_text("utf-8"))["overrides"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the page shows the commands that it can
        words = [str(word) for word in overrides if not str(word).startswith(("paths.", "+paths."))]
        commands[path.stem] = shlex.join(["splitbench", "run", *words])
    return commands


def write(path: Path, text: str) -> None:
    """Write a file so that it appears complete or not at all.

    Raises:
        UserError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error}): choose another folder with --out"
        ) from error


def summary(board: Board) -> Table:
    """Defense by cut: leakage, and accuracy beside it; turned so that it has fewer columns."""
    lines = lines_of(board)
    table = Table()
    names = [("- " if line.naive else "") + line.name for line in lines]
    cells = [[_cell(line, cut) for cut in board.cuts] for line in lines]
    upright = len(board.cuts) <= len(lines)
    rows, columns = (names, board.cuts) if upright else (board.cuts, names)
    table.add_column("defense" if upright else "cut")
    for column in columns:
        table.add_column(Text(column), justify="right")
    for i, row in enumerate(rows):
        values = cells[i] if upright else [line[i] for line in cells]
        table.add_row(Text(row), *values)
    return table


def _cell(line: Series, cut: str) -> Text:
    row = next((row for row in line.rows if row.cut == cut), None)
    if row is None:
        return Text("")
    if row.closed is None:
        return Text("failed" if any(e.failed for e in row.attacks) else DASH, style="red")
    mark = "!" if {*row.flags} - UNTRIED else ""
    accuracy = percent(row.accuracy.mean) if row.accuracy else DASH
    return Text.assemble((f"{rate(row.closed.mean)}{mark}", _style(row)), (f" {accuracy}", "dim"))


def _style(row: Row) -> str:
    return "bold" if row.rank is not None and row.rank[0] == 1 else ""


def _links() -> list[str]:
    folder = files("configs") / "link"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if ".yaml" in p.name)


def _link(name: str) -> Link:
    from omegaconf import OmegaConf

    from experiments.compose import build

    if name not in _links():
        raise UserError(f"there is no link '{name}': choose from {', '.join(_links())}")
    text = (files("configs") / "link" / f"{name}.yaml").read_text("utf-8")
    link = build(dict(OmegaConf.create(text)))
    if not isinstance(link, Link):
        raise UserError(f"configs/link/{name}.yaml does not describe a splitbench.link.Link")
    return link
