"""Rows that may be compared: grouped, closed, compared and ranked."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splitbench.latency import Link
from splitbench.leaderboard.build import build_row
from splitbench.leaderboard.evidence import RESAMPLES, Evidence, LeaderboardError, System
from splitbench.leaderboard.relations import BROKEN, closed, compared
from splitbench.leaderboard.rows import Row
from splitbench.leaderboard.simulable import parse
from splitbench.record import Record

# Flags that say the number is wrong, or not yet what it should be: shown, but not ranked.
UNRANKED = BROKEN | {
    "gradients_mislead",
    "incomplete",
    "utility_collapsed",
    "weaker_access_wins",
}


@dataclass(frozen=True, kw_only=True)
class Board:
    """Rows that may be compared with each other.

    Attributes:
        protocol: Suite with its version.
        data: Name of the data set.
        model: Name of the model.
        fingerprints: SHA-256 of the four data roles.
        rows: By cut, then threat, then leakage; naive rows last in their cut.
        environments: Distinct environments of the records.
        jobs: Ids of the jobs that made them.
        claimed: Numbers of a paper that these cells reproduce.
        notes: What a reader must know about the whole board.
    """

    protocol: str
    data: str
    model: str
    fingerprints: Mapping[str, str]
    rows: tuple[Row, ...]
    environments: tuple[Mapping[str, str], ...]
    jobs: tuple[str, ...]
    claimed: Mapping[str, float]
    notes: tuple[str, ...] = ()

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the cuts, from the input to the output."""
        return tuple(dict.fromkeys(row.cut for row in self.rows))


def boards(
    evidence: Iterable[Evidence], *, link: Link | None = None, resamples: int = RESAMPLES
) -> tuple[Board, ...]:
    """Group records into boards and rows.

    Args:
        evidence: Records with their scores, in any order.
        link: Network of the modelled end-to-end latency; None leaves it out.
        resamples: Of every bootstrap, >= 100.

    Raises:
        LeaderboardError: Two records of one cell and seed, from the same code, or a successful
            record without scores.
    """
    groups: dict[tuple[str, ...], list[Evidence]] = {}
    ordered = sorted(evidence, key=lambda e: e.record.cell_id)
    for item in ordered:
        record = item.record
        roles = json.dumps(dict(record.data_fingerprints), sort_keys=True)
        key = (record.protocol, record.cell.data, record.cell.model, roles)
        groups.setdefault(key, []).append(item)
    return tuple(_board(groups[key], link, resamples) for key in sorted(groups))


def _board(found: list[Evidence], link: Link | None, resamples: int) -> Board:
    kept, notes = _without_duplicates(found)
    parts: dict[str, list[Evidence]] = {}
    for item in kept:
        parts.setdefault(_system_key(item.record), []).append(item)
    systems = {key: System(parts[key]) for key in sorted(parts)}
    labels = _labels(systems)
    rows = {key: build_row(system, labels[key], link, resamples) for key, system in systems.items()}
    rows = closed(rows, systems, resamples)
    rows = compared(rows, systems, resamples)
    first = kept[0].record
    environments = {json.dumps(dict(e.record.environment), sort_keys=True) for e in kept}
    return Board(
        protocol=first.protocol,
        data=first.cell.data,
        model=first.cell.model,
        fingerprints=dict(first.data_fingerprints),
        rows=_ranked(rows.values()),
        environments=tuple(json.loads(text) for text in sorted(environments)),
        jobs=tuple(sorted({e.record.job_id for e in kept})),
        claimed={k: v for e in kept for k, v in sorted(e.record.claimed.items())},
        notes=notes,
    )


def _system_key(record: Record) -> str:
    cell = record.cell
    threat = json.dumps(dict(cell.threat), sort_keys=True)
    return repr((cell.cut_index, cell.cut, cell.defense_name, cell.defense, cell.codec, threat))


def _without_duplicates(found: list[Evidence]) -> tuple[list[Evidence], tuple[str, ...]]:
    """One record per cell and seed: that of the code which made most of the records."""
    versions = Counter(e.record.environment.get("code", "") for e in found)
    order = sorted(versions, key=lambda code: (versions[code], code), reverse=True)
    kept: dict[str, Evidence] = {}
    dropped = 0
    for item in sorted(found, key=lambda e: order.index(e.record.environment.get("code", ""))):
        cell = repr((_system_key(item.record), item.record.cell))
        other = kept.setdefault(cell, item)
        if other is item:
            continue
        code = item.record.environment.get("code")
        if other.record.environment.get("code") == code:
            raise LeaderboardError(
                f"cells {other.record.cell_id} and {item.record.cell_id} describe the same "
                f"experiment ({item.record.cell.attack_name} at {item.record.cell.cut}, "
                f"{item.record.cell.defense}) but differ in a setting that a row does not show, "
                "such as the training of the model: keep such runs in separate folders"
            )
        dropped += 1
    notes = []
    if dropped:
        notes.append(f"{dropped} records were left out: another version of the code made the same")
    if len({e.record.environment.get("code", "") for e in kept.values()}) > 1:
        notes.append("the rows were computed by more than one version of the code")
    return sorted(kept.values(), key=lambda e: e.record.cell_id), tuple(notes)


def _ranked(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows in reading order, with the places that their intervals allow.

    Places count the defenses of one cut under one adversary. One row is behind another where its
    whole interval is.
    """
    everything = sorted(rows, key=_reading_order)
    ranked = []
    for row in everything:
        rivals = [
            other.closed
            for other in everything
            if (other.cut, other.message.threat) == (row.cut, row.message.threat)
            and _may_be_ranked(other)
        ]
        place = None
        if row.closed is not None and _may_be_ranked(row):
            mine = row.closed
            ahead = sum(r.high < mine.low for r in rivals if r is not None)
            behind = sum(r.low > mine.high for r in rivals if r is not None)
            place = (1 + ahead, len(rivals) - behind)
        ranked.append(replace(row, rank=place))
    return tuple(ranked)


def _may_be_ranked(row: Row) -> bool:
    blocked = row.naive or row.undefended or bool(UNRANKED & set(row.flags))
    return row.closed is not None and not blocked


def _reading_order(row: Row) -> tuple[Any, ...]:
    threat = json.dumps(dict(row.message.threat), sort_keys=True)
    leak = row.closed.mean if row.closed is not None else np.inf
    place = (row.message.cut_index, row.cut, row.naive, threat, not row.undefended)
    return (*place, row.closed is None, leak, row.label)


def _labels(systems: Mapping[str, System]) -> dict[str, tuple[str, str]]:
    """Kind and setting: the first keyword, whatever else differs, and the codec where it does."""
    parsed = {key: parse(s.message.defense)[1] for key, s in systems.items()}
    labels = {}
    for key, system in systems.items():
        name = system.first.cell.defense_name
        peers = [other for other in systems if systems[other].first.cell.defense_name == name]
        mine = parsed[key]
        differing = [k for k in mine if any(parsed[o].get(k) != mine[k] for o in peers)]
        shown = dict.fromkeys([*list(mine)[:1], *differing])
        setting = [f"{k}={mine[k]}" for k in shown]
        codecs = {systems[o].message.codec for o in peers if parsed[o] == mine}
        if len(codecs) > 1:
            codec, keywords = parse(system.message.codec)
            setting += ["as", codec, *(f"{k}={v}" for k, v in list(keywords.items())[:1])]
        kind = "undefended" if name == "none" else name.replace("_", " ")
        labels[key] = (kind, " ".join(setting))
    return labels
