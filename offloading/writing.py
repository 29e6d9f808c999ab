"""Writes out one of the enumerated placements: its segments, its phases and its figures."""

import dataclasses
import math
from collections.abc import Mapping

from offloading.column import Column
from offloading.costing import IMPOSSIBLE, Costing, Estimates
from offloading.enumeration import Candidates
from offloading.figure import Basis, Figure, weakest
from offloading.option import Option
from offloading.plan import Phase, Placement, Plan, Segment

TAILS = ("latency_p90_ms", "latency_p95_ms", "latency_p99_ms")
NOTHING = Figure(0.0, "measured", "nothing leaves the device")


def placement_of(costing: Costing, found: Candidates, i: int) -> Placement:
    """Which tier has which segment, and what the device releases."""
    names = [cut.name for cut in costing.profile.cuts]
    ends = [names[place] for place in found.ends[i]]
    starts = ["input", *ends[:-1]]
    segments = tuple(
        Segment(
            tier=tier.name,
            start=start,
            end=end,
            weight_bytes=costing.weight_bytes(found.starts(k)[[i]], found.ends[[i], k]).item(),
        )
        for k, (tier, start, end) in enumerate(zip(found.route, starts, ends, strict=True))
    )
    return Placement(segments=segments, option=_option(costing, found, i))


def plan_of(
    costing: Costing, found: Candidates, estimates: Estimates, i: int, *, accuracy: Figure
) -> Plan:
    """A placement with its phases and figures; `accuracy` is that of the undefended model."""
    columns = [column for column in costing.columns(found[i]) if column.ms[0] > 0]
    placement = placement_of(costing, found, i)
    return Plan(
        placement=placement,
        scenario=costing.scenario.name,
        model=costing.profile.model,
        figures=_figures(
            _values(estimates, i),
            placement.option,
            times=weakest([column.basis for column in columns]),
            accuracy=accuracy,
        ),
        phases=tuple(_phase(column) for column in columns),
    )


def _option(costing: Costing, found: Candidates, i: int) -> Option | None:
    number = int(found.options[i])
    return None if number < 0 else costing.options[number]


def _phase(column: Column) -> Phase:
    tail = float(column.tail_ms[0])
    return Phase(
        kind=column.kind,
        where=column.where,
        ms=Figure(float(column.ms[0]), column.basis, column.source),
        tail_ms=tail if math.isfinite(tail) else 0.0,
    )


def _values(estimates: Estimates, i: int) -> dict[str, float]:
    names = [field.name for field in dataclasses.fields(estimates)]
    return {name: float(getattr(estimates, name)[i]) for name in names if name not in IMPOSSIBLE}


def _figures(
    values: Mapping[str, float], option: Option | None, *, times: Basis, accuracy: Figure
) -> dict[str, Figure]:
    """What a plan says of itself: figures that nobody knows are left out."""
    tails = {
        name: Figure(values[name], times, "phases as independent")
        for name in TAILS
        if not math.isnan(values[name])
    }
    joules = Figure(values["device_joules"], "assumed", "power times time: a model")
    return {
        "latency_ms": Figure(values["latency_ms"], times, "sum of the phases"),
        **tails,
        "usd_per_million": Figure(values["usd_per_million"], "assumed", "list prices"),
        "leakage": _leakage(values["leakage"], option),
        "accuracy": option.accuracy if option else accuracy,
        "accuracy_drop": option.accuracy_drop if option else Figure(0.0, "measured"),
        "payload_bytes": Figure(values["payload_bytes"], "measured" if option else "predicted"),
        **({"device_joules": joules} if math.isfinite(joules.value) else {}),
    }


def _leakage(value: float, option: Option | None) -> Figure:
    """The option's own, unless a trusted tier is the one that sees it."""
    seen = option.leakage if option else NOTHING
    if option and value != seen.value:
        return Figure(value, "predicted", "what follows from a trusted tier")
    return seen
