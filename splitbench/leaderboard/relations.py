"""What rows say about each other: leakage that follows, and adversaries that know less."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from splitbench.closure import reachable
from splitbench.leaderboard.effort import OBSERVATIONS_GAIN, only_observations_differ
from splitbench.leaderboard.evidence import System, best_leakage, bootstrap, gain, joined
from splitbench.leaderboard.rows import Lead, Row
from splitbench.leaderboard.simulable import Message, follows, knows_more

KEY_GAIN = 0.1  # of L, from knowing the key
# Flags that say the number is wrong: such a row raises no other.
BROKEN = frozenset({"above_one", "blind_leaks", "inconsistent"})


def closed(
    rows: Mapping[str, Row], systems: Mapping[str, System], resamples: int
) -> dict[str, Row]:
    """Raise each row's leakage to that of all that could have been computed from its release."""
    known = {key: system for key, system in systems.items() if system.real}
    steps = {
        key: [other for other in known if follows(known[key].message, known[other].message)]
        for key in known
    }
    images = max((s.targets for s in systems.values()), default=0)
    raised = dict(rows)
    for key, others in reachable(steps).items():
        sources = [o for o in others if o == key or _may_raise(rows[o], known[o], known[key])]
        top = max(sources, key=lambda other: (_mean(rows[other]), other == key))
        contenders = [o for o in sources if o == key or _may_win(rows[o], rows[top])]
        tables = joined([known[other] for other in contenders], images)
        if len(contenders) == 1 or tables is None:
            continue
        row = replace(rows[key], closed=bootstrap(tables, best_leakage, resamples))
        if top != key:
            lead = gain(known[top], known[key], images, resamples)
            flags = {*row.flags, *(["closure_raised"] if lead and lead.low > 0 else [])}
            name = f"{rows[top].label} at {rows[top].cut}"
            row = replace(row, closed_by=name, flags=tuple(sorted(flags)))
        raised[key] = row
    return raised


def _mean(row: Row) -> float:
    """Rounded, so that a row is not raised by one that only differs in the last bit."""
    return -np.inf if row.raw is None else round(row.raw.mean, 9)


def _may_raise(row: Row, source: System, system: System) -> bool:
    """A source must be sound, and measured at all seeds of the row that it raises."""
    return not BROKEN & {*row.flags} and {*system.seeds} <= {*source.seeds}


def _may_win(row: Row, top: Row) -> bool:
    """Whether a row is near enough to the best to matter in any resample."""
    if row.raw is None or top.raw is None:
        return False
    return row.raw.high >= top.raw.low - (top.raw.high - top.raw.low)


def compared(
    rows: Mapping[str, Row], systems: Mapping[str, System], resamples: int
) -> dict[str, Row]:
    """Compare adversaries of one system that know more and less."""
    images = max((s.targets for s in systems.values()), default=0)
    found = dict(rows)
    for key, system in systems.items():
        weaker = {k: s for k, s in systems.items() if _knows_more(system.message, s.message)}
        for other, rival in weaker.items():
            mine, theirs = system.message, rival.message
            lead = gain(system, rival, images, resamples)
            if lead is None:
                continue
            flags, leads = set(found[key].flags), found[key].leads
            if lead.high < 0 and follows(mine, theirs):
                flags.add("weaker_access_wins")
            if only_observations_differ(mine, theirs):
                more = lead.mean > OBSERVATIONS_GAIN and lead.low > 0
                found[other] = _flagged(found[other], ["repetition_leaks"] if more else [])
            if _only_differ(mine, theirs, "key"):
                more = lead.mean > KEY_GAIN and lead.low > 0
                found[other] = _flagged(found[other], ["security_by_key"] if more else [])
            if found[other].naive and _only_differ(mine, theirs, "defense"):
                found[other] = replace(found[other], adaptive_gain=lead)
                flags |= {"adaptive_not_better"} if lead.mean <= 0 else set()
            if not any(_knows_more(s.message, theirs) for s in weaker.values()):
                leads = (*leads, Lead(over=theirs.threat, gain=lead))
            found[key] = replace(found[key], flags=tuple(sorted(flags)), leads=leads)
    return found


def _knows_more(first: Message, second: Message) -> bool:
    """Whether two adversaries of one system differ, and the first can do what the second can."""
    same = (first.cut, first.defense, first.codec) == (second.cut, second.defense, second.codec)
    return same and knows_more(first.threat, second.threat)


def _flagged(row: Row, flags: Sequence[str]) -> Row:
    """The row with these flags too."""
    return replace(row, flags=tuple(sorted({*row.flags, *flags})))


def _only_differ(first: Message, second: Message, field: str) -> bool:
    """Whether two adversaries differ in nothing but one field."""
    return {**first.threat, field: ""} == {**second.threat, field: ""}
