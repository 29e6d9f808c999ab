"""Rows of jobs that were stopped before all attacks had their turn."""

import json
from collections.abc import Mapping
from dataclasses import replace

from splitbench.leaderboard.rows import Row


def with_stopped(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Flag rows as incomplete that lack an attack which others under the same adversary met.

    An attack that failed or does not apply has a record that says so; one without any has not been
    tried. Without it a row looks more private than it is.

    Args:
        rows: Of one board, all of the same suite.
    """
    met: dict[str, set[str]] = {}
    for row in rows.values():
        met.setdefault(_adversary(row), set()).update(entry.name for entry in row.attacks)
    return {key: _checked(row, met[_adversary(row)]) for key, row in rows.items()}


def _checked(row: Row, met: set[str]) -> Row:
    lacking = sorted(met - {entry.name for entry in row.attacks})
    if not lacking:
        return row
    said = f"not tried on this row: {', '.join(lacking)}"
    flags = tuple(sorted({*row.flags, "incomplete"}))
    return replace(row, flags=flags, missing={**row.missing, "attacks": said})


def _adversary(row: Row) -> str:
    return json.dumps(dict(row.message.threat), sort_keys=True)
