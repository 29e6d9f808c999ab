"""``splitbench facts``: what papers and their critics found, beside what was measured here."""

import argparse
import html
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.claims import FACTS, Fact, Finding
from experiments.errors import UserError
from experiments.leaderboard import load, write
from splitbench.leaderboard import Board, LeaderboardError, boards


def main(arguments: Sequence[str]) -> int:
    """Print the facts, and write them where asked; return the exit code."""
    options = _parser().parse_args(list(arguments))
    runs = Path(options.runs)
    try:
        found = boards(load(runs / "cells"))
    except (UserError, LeaderboardError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    Console(width=None if sys.stdout.isatty() else 140).print(as_table(found))
    if options.out:
        write(Path(options.out), as_markdown(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="splitbench facts",
        description="What the literature says of defenses, beside what the records of a results "
        "folder say. `splitbench run experiment=facts` makes the records.",
    )
    parser.add_argument("runs", metavar="RUNS_DIR", help="folder that `splitbench run` wrote")
    parser.add_argument("--out", metavar="FILE", help="write them as Markdown, too")
    return parser


def findings(found: Sequence[Board]) -> list[tuple[Fact, list[Finding]]]:
    """Every fact with its measurements, over the rows of all boards."""
    seen = [(board.model, row) for board in found for row in board.rows]
    return [(fact, list(fact.find(seen))) for fact in FACTS]


def verdict(measured: Sequence[Finding]) -> str:
    """In one word or two."""
    if not measured:
        return "not run"
    right = sum(one.holds for one in measured)
    if right == len(measured):
        return "holds"
    return "does not hold" if right == 0 else f"holds in {right} of {len(measured)}"


def as_table(found: Sequence[Board]) -> Table:
    """For the terminal."""
    table = Table(show_lines=True)
    for name in ("published", "measured here", ""):
        table.add_column(name, overflow="fold")
    for fact, measured in findings(found):
        text = "\n".join(one.what for one in measured) or "—"
        table.add_row(Text(fact.claim), Text(text), Text(verdict(measured)))
    return table


def as_markdown(found: Sequence[Board]) -> str:
    """For a file."""
    lines = ["# Published facts", "| published | source | holds if | measured | |"]
    lines.append("|" + " --- |" * 5)
    for fact, measured in findings(found):
        text = "; ".join(one.what for one in measured) or "—"
        cells = (fact.claim, fact.source, fact.means, text, verdict(measured))
        lines.append("| " + " | ".join(html.escape(c, quote=False) for c in cells) + " |")
    return "\n\n".join([lines[0], "\n".join(lines[1:])]) + "\n"
