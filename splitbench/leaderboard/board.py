"""Rows that may be compared: grouped, closed, compared and ranked."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splitbench.leaderboard.build import build_row
from splitbench.leaderboard.effort import data_gain, with_untested_repetition
from splitbench.leaderboard.evidence import RESAMPLES, Evidence, LeaderboardError, System
from splitbench.leaderboard.inferred import beats, inferred
from splitbench.leaderboard.learning import with_learning_curves
from splitbench.leaderboard.naming import labels
from splitbench.leaderboard.relations import BROKEN, closed, compared
from splitbench.leaderboard.rows import Row
from splitbench.leaderboard.stopped import with_stopped
from splitbench.leaderboard.training_images import with_training_gap
from splitbench.link import Link
from splitbench.record import Record

TRAINED = {"target": "", "train": " (training images)"}
CUSTOM = "custom"  # the protocol of whoever changed a suite
# Flags that say the number is wrong, or not yet what it should be: shown, but not ranked.
UNRANKED = BROKEN | {
    "batch_dependent",
    "gradients_mislead",
    "guarantee_beaten",
    "incomplete",
    "only_failed_searches",
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
    groups = _grouped(sorted(evidence, key=lambda e: e.record.cell_id))
    drafts = {key: _draft(groups[key], link, resamples) for key in sorted(groups)}
    _compare_auxiliary(drafts, resamples)
    _compare_training_images(drafts)
    found = sorted(drafts.items(), key=lambda d: (d[0][:-1], _auxiliary(d[1].record), d[0]))
    return tuple(_board(draft) for _, draft in found if draft.rows)


def _grouped(evidence: Iterable[Evidence]) -> dict[tuple[str, ...], list[Evidence]]:
    """Records by board: the same suite, model and images.

    Adversaries with images of another kind, or none, join the board of those with the most images
    of the same kind, for their targets are the same.
    """
    groups: dict[tuple[str, ...], list[Evidence]] = {}
    strangers = []
    for item in evidence:
        if item.record.cell.threat.get("auxiliary", "same") == "same":
            groups.setdefault(_board_key(item.record), []).append(item)
        else:
            strangers.append(item)
    hosts = {_board_key(g[0].record, but="auxiliary"): key for key, g in _by_auxiliary(groups)}
    for item in strangers:
        host = hosts.get(_board_key(item.record, but="auxiliary"), _board_key(item.record))
        groups.setdefault(host, []).append(item)
    return groups


def _by_auxiliary(
    groups: Mapping[tuple[str, ...], list[Evidence]],
) -> list[tuple[tuple[str, ...], list[Evidence]]]:
    """Groups with few auxiliary images first."""
    return sorted(groups.items(), key=lambda g: (_auxiliary(g[1][0].record), g[0]))


def _auxiliary(record: Record) -> int:
    return record.images.get("auxiliary", 0)


def _board_key(record: Record, but: str = "") -> tuple[str, ...]:
    """What two records of one board have in common, perhaps but for one data role."""
    roles = {k: v for k, v in record.data_fingerprints.items() if k != but}
    cell = record.cell
    names = (record.protocol, cell.data, cell.target_role, cell.model)
    return (*names, json.dumps(roles, sort_keys=True))


@dataclass
class _Draft:
    """A board to be: rows and the evidence behind them, by system.

    Where others differ in nothing but the number of auxiliary images, `suffix` says it.
    """

    kept: list[Evidence]
    notes: tuple[str, ...]
    systems: Mapping[str, System]
    rows: Mapping[str, Row]
    suffix: str = ""

    @property
    def record(self) -> Record:
        """One that stands for all: of an adversary with images of the same kind, if there is."""
        records = [item.record for item in self.kept]
        usual = (r for r in records if r.cell.threat.get("auxiliary", "same") == "same")
        return next(usual, records[0])


def _draft(found: list[Evidence], link: Link | None, resamples: int) -> _Draft:
    kept, notes = _without_duplicates(found)
    parts: dict[str, list[Evidence]] = {}
    others: dict[str, list[Evidence]] = {}
    for item in kept:
        group = parts if item.record.cell.secret == "image" else others
        group.setdefault(_system_key(item.record), []).append(item)
    lost = sum(len(items) for key, items in others.items() if key not in parts)
    if lost:
        notes += (f"{lost} inferences were left out: no image was attacked in the same system",)
    systems = {key: System(parts[key]) for key in sorted(parts)}
    names = labels(systems)
    rows = {key: build_row(system, names[key], link, resamples) for key, system in systems.items()}
    if kept[0].record.protocol != CUSTOM:  # whose rows may have met any attacks
        rows = with_stopped(rows)
    rows = compared(closed(rows, systems, resamples), systems, resamples)
    rows = with_untested_repetition(rows)
    for key in rows.keys() & others.keys():
        told, flags = inferred(others[key], resamples), {*rows[key].flags}
        if beats(rows[key].guarantee, told):
            flags.add("guarantee_beaten")
        rows[key] = replace(rows[key], inferred=told, flags=tuple(sorted(flags)))
    return _Draft(kept, notes, systems, rows)


def _compare_auxiliary(drafts: Mapping[tuple[str, ...], _Draft], resamples: int) -> None:
    """Compare boards that differ in nothing but the number of auxiliary images."""
    groups: dict[str, dict[int, _Draft]] = {}
    for key, draft in drafts.items():
        record = draft.record
        rest = {k: v for k, v in record.data_fingerprints.items() if k != "auxiliary"}
        if "auxiliary" in record.images:
            name = repr((key[:-1], sorted(rest.items())))
            groups.setdefault(name, {})[record.images["auxiliary"]] = draft
    for group in groups.values():
        sides = {size: (draft.rows, draft.systems) for size, draft in group.items()}
        rows = data_gain(sides, resamples)
        sides = {size: (rows[size], draft.systems) for size, draft in group.items()}
        for size, extended in with_learning_curves(sides, resamples).items():
            group[size].rows = extended
            if len(group) > 1:
                group[size].suffix = f", {size:,} auxiliary images"


def _compare_training_images(drafts: Mapping[tuple[str, ...], _Draft]) -> None:
    """Compare boards on images that the model was trained on with those on others."""
    sides: dict[str, dict[str, _Draft]] = {}
    for draft in drafts.values():
        record = draft.record
        cell, roles = record.cell, record.data_fingerprints
        known = (record.protocol, cell.data, cell.model)
        name = repr((*known, *(roles.get(role) for role in ("train", "auxiliary"))))
        sides.setdefault(name, {})[cell.target_role] = draft
    for side in sides.values():
        if {*side} == {"target", "train"}:
            rows = with_training_gap(side["target"].rows, side["train"].rows)
            side["target"].rows, side["train"].rows = rows


def _board(draft: _Draft) -> Board:
    kept = draft.kept
    first = draft.record
    environments = {json.dumps(dict(e.record.environment), sort_keys=True) for e in kept}
    return Board(
        protocol=first.protocol,
        data=f"{first.cell.data}{TRAINED[first.cell.target_role]}{draft.suffix}",
        model=first.cell.model,
        fingerprints=dict(first.data_fingerprints),
        rows=_ranked(draft.rows.values()),
        environments=tuple(json.loads(text) for text in sorted(environments)),
        jobs=tuple(sorted({e.record.job_id for e in kept})),
        claimed={k: v for e in kept for k, v in sorted(e.record.claimed.items())},
        notes=draft.notes,
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
    blocked = row.naive or row.keyless or row.undefended or bool(UNRANKED & set(row.flags))
    return row.closed is not None and not blocked


def _reading_order(row: Row) -> tuple[Any, ...]:
    threat = json.dumps(dict(row.message.threat), sort_keys=True)
    leak = row.closed.mean if row.closed is not None else np.inf
    place = (row.message.cut_index, row.cut, row.naive, threat, not row.undefended)
    return (*place, row.closed is None, leak, row.label)
