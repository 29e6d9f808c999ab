"""What a kind of defense is worth at a given price in accuracy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from splitbench.leaderboard.board import UNRANKED, Board
from splitbench.leaderboard.rows import Row

DROPS = (0.01, 0.02, 0.05)  # fractions of accuracy that may be lost
UNFAIR = UNRANKED - {"utility_collapsed"}  # a collapsed task costs more accuracy than any of these


@dataclass(frozen=True, kw_only=True)
class Family:
    """All settings of one kind of defense at one cut, under one adversary.

    A defense is a curve, not a point: its knob trades accuracy for privacy. Only what was run
    counts; nothing is interpolated.

    Attributes:
        cut: Where.
        kind: Of the defense, for the reader.
        settings: How many settings were run.
        tunable: There is something to tune; a secret key is good or bad, not strong or weak.
        at: For each loss of accuracy the row that leaks least among those that lose no more;
            None where there is none.
    """

    cut: str
    kind: str
    settings: int
    tunable: bool
    at: Mapping[float, Row | None]


def families(board: Board) -> tuple[Family, ...]:
    """Kinds of defenses under the headline adversary; at each cut, whoever leaks least comes first.

    That is at the largest loss of accuracy; kinds without any setting that is so cheap come last.
    The loss is that of the mean accuracies; leakage is the closed one. Rows in doubt are left out.
    Which setting is shown is decided by the very numbers that are shown, so a kind that was run
    at many settings has a small advantage over one that was run at few.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in board.rows:
        if not (row.naive or row.keyless or row.undefended) and _headline(row):
            groups.setdefault((row.cut, row.kind), []).append(row)
    found = [
        Family(
            cut=cut,
            kind=kind,
            settings=len(rows),
            tunable=not any(row.message.traits.get("keyed") for row in rows),
            at={drop: _least(rows, drop) for drop in DROPS},
        )
        for (cut, kind), rows in groups.items()
    ]
    return tuple(sorted(found, key=lambda family: (board.cuts.index(family.cut), _leak(family))))


def _leak(family: Family) -> float:
    row = family.at[max(DROPS)]
    return row.closed.mean if row and row.closed else math.inf


def _least(rows: list[Row], drop: float) -> Row | None:
    """The row that leaks least among those that lose no more accuracy than this."""
    affordable = [
        row
        for row in rows
        if row.closed is not None
        and row.accuracy_drop is not None
        and row.accuracy_drop.mean <= drop
        and not UNFAIR & {*row.flags}
    ]
    return min(affordable, key=lambda row: row.closed.mean if row.closed else 1.0, default=None)


def _headline(row: Row) -> bool:
    threat = row.message.threat
    usual = {"client": "weights", "auxiliary": "same", "observations": 1}
    return all(threat.get(key, value) == value for key, value in usual.items())
