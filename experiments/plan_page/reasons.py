"""Why a placement is not the recommended one, in a sentence."""

from collections.abc import Iterator

import numpy as np

from experiments.plan_page.report import Report
from experiments.plan_page.words import LIMITS, NAMES, value
from offloading.costing import IMPOSSIBLE
from offloading.plan import Plan
from offloading.planner import OBJECTIVES, Index

MOST = 12


def why_not(report: Report, index: Index) -> str:
    """Limits that it exceeds, who dominates it, and how far it is behind."""
    planner, chosen = report.planner, report.chosen
    if index == chosen:
        return "it is the recommended one"
    plan = planner.plan(index)
    exceeded = planner.exceeded(index, report.asked.constraints)
    if exceeded:
        return "exceeds " + "; ".join(_exceeds(report, plan, name) for name in exceeded)
    other = planner.dominating(index, report.asked.constraints)
    if other is not None and other != chosen:
        return f"dominated by {planner.placement(other)}: {_better(report, index, other)}"
    if chosen is None:
        return "nothing is recommended"
    if other is not None:
        return f"dominated by the recommended one: {_better(report, index, chosen)}"
    return _behind(report, plan, chosen)


def alternatives(report: Report) -> Iterator[Index]:
    """Who else might have been: baselines, extremes of the front, and the best of each cut."""
    found: dict[Index, None] = {}
    if report.chosen is not None:
        found[report.chosen] = None
    for index in (*_baselines(report), *_extremes(report), *_by_cut(report)):
        if len(found) > MOST:
            break
        found.setdefault(index)
    yield from (index for index in found if index != report.chosen)


def _baselines(report: Report) -> Iterator[Index]:
    for judged in report.outcome.baselines.values():
        yield report.planner.index_of(judged.plan.placement)


def _extremes(report: Report) -> Iterator[Index]:
    front = report.outcome.front
    for name in OBJECTIVES:
        if front:
            values = [judged.plan.figures[name].value for judged in front]
            yield report.planner.front[int(np.argmin(values))]


def _by_cut(report: Report) -> Iterator[Index]:
    """The fastest placement at every cut, within the limits where there is one; fastest first."""
    latency, found = report.planner.joined("latency_ms"), []
    for place in range(len(report.planner.profile.cuts) - 1):
        here = report.device_ends == place
        for allowed in (here & report.keeps, here & report.possible):
            index = report.fastest(allowed)
            if index is not None:
                found.append(index)
                break
    yield from sorted(found, key=lambda index: float(latency[report.planner.row(index)]))


def _exceeds(report: Report, plan: Plan, name: str) -> str:
    limits = report.asked.constraints
    if name in IMPOSSIBLE:
        return LIMITS[name]
    if name == "at_least":
        return f"{LIMITS[name]} (up to {limits.at_least})"
    figure = name
    if name == "deadline_ms":
        figure = limits.latency
    has, limit = value(figure, plan.figures[figure].value), value(figure, getattr(limits, name))
    return f"{LIMITS[name]}: {has}, limit {limit}"


def _better(report: Report, index: Index, other: Index) -> str:
    """In what one placement is better than another, which is nowhere worse."""
    worse, better = report.planner.plan(index).figures, report.planner.plan(other).figures
    said = [
        _instead(name, better[name].value, worse[name].value)
        for name in OBJECTIVES
        if better[name].value < worse[name].value
    ]
    return ", ".join(said)


def _instead(name: str, better: float, worse: float) -> str:
    """Both values; what lies between them where they look the same."""
    less, more = value(name, better), value(name, worse)
    told = f" instead of {more}" if less != more else f", lower by {worse - better:.1g}"
    return f"{NAMES[name]} {less}{told}"


def _behind(report: Report, plan: Plan, chosen: Index) -> str:
    best = report.planner.plan(chosen).figures
    name = report.minimise
    more = plan.figures[name].value - best[name].value
    if name.endswith("_ms"):
        behind = f"slower by {value(name, more)}"
    else:
        behind = f"{NAMES[name]} higher by {value(name, more)}"
    gains = [
        _instead(other, plan.figures[other].value, best[other].value)
        for other in OBJECTIVES
        if other != name and plan.figures[other].value < best[other].value
    ]
    return f"{behind}, for {', '.join(gains)}" if gains else behind
