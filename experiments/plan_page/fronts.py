"""Pareto fronts of the placements, with baselines, knee and hypervolume."""

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray
from plotly import graph_objects as go

from experiments.plan_page.drawing import Drawing, Key, empty, limit_line, safe
from experiments.plan_page.knee import knee
from experiments.plan_page.report import Report
from experiments.plan_page.words import NAMES, long, told
from offloading.plan import Plan

MOST_DOTS = 3000
DECADES = 1.5  # from here on an axis is logarithmic
AXES = {
    "latency_ms": "median latency (ms)",
    "leakage": "leakage L",
    "usd_per_million": "$ per million requests",
}
WITHIN = "var(--s3)"
Array = NDArray[np.float64]


def drawings(report: Report) -> list[Drawing]:
    """Latency against leakage, and against price."""
    if not report.outcome.front:
        return []
    return [
        _drawing(report, "leakage", tint="usd_per_million"),
        _drawing(report, "usd_per_million", tint="leakage"),
    ]


def _drawing(report: Report, across: str, *, tint: str) -> Drawing:
    figure = empty(AXES["latency_ms"], AXES[across])
    latency, other = (report.planner.joined(name) for name in ("latency_ms", across))
    rows = np.flatnonzero(report.possible)
    points = np.stack([latency[rows], other[rows]], axis=1)
    best = points[moocore.is_nondominated(points)]
    best = best[np.argsort(best[:, 0])]
    figure.add_trace(_dots(points))
    figure.add_trace(
        go.Scatter(
            x=best[:, 0].tolist(), y=best[:, 1].tolist(), mode="lines", hoverinfo="skip",
            line={"color": "var(--quiet)", "width": 1.5, "shape": "hv"},
        )
    )  # fmt: skip
    figure.add_trace(_front(report, across, tint))
    limited = not report.asked.constraints.none
    if limited:
        figure.add_trace(_within(report, across))
    signs = _baselines(report, figure, across)
    _stars(report, figure, across)
    low, high = points[:, 0].min(), points[:, 0].max()
    if low > 0 and np.log10(high / low) > DECADES:
        figure.update_xaxes(type="log", dtick=1, minor={"ticks": "outside"})
    if across == "leakage":
        figure.update_yaxes(range=[-0.06, 1.1], dtick=0.25)
    else:
        figure.update_yaxes(rangemode="tozero")
    limit = getattr(report.asked.constraints, across)
    if np.isfinite(limit):
        limit_line(figure, limit, f"limit {limit:g}")
    figure.update_layout(margin={"r": 90})
    return Drawing(
        name=f"front-{across.split('_')[0]}",
        figure=figure,
        reading=_reading(best, across),
        keys=(
            Key(f"a placement{_thinned(len(rows))}", "var(--quiet)"),
            Key("on the front of all four objectives", "var(--s2)"),
            *((Key("on the front within the limits", WITHIN, open=True),) if limited else ()),
            Key("recommended", "var(--ink)", "★"),
            Key("knee", "var(--ink)", "◇"),
            *(Key(name, "var(--s4)", sign) for sign, name in signs),
        ),
        rests="? assumed at the weakest: latency and price rest on constants that nobody measured; "
        "of leakage each mark says it",
        height=430,
    )


def _dots(points: Array) -> go.Scatter:
    """All placements, or as many of them as a page carries."""
    if len(points) > MOST_DOTS:
        chosen = np.random.default_rng(0).choice(len(points), MOST_DOTS, replace=False)
        points = points[np.sort(chosen)]
    return go.Scatter(
        x=[float(f"{x:.5g}") for x in points[:, 0]],
        y=[float(f"{y:.5g}") for y in points[:, 1]],
        mode="markers",
        marker={"color": "var(--quiet)", "size": 4, "opacity": 0.28},
        hoverinfo="skip",
    )


def _front(report: Report, across: str, tint: str) -> go.Scatter:
    plans = [judged.plan for judged in report.outcome.front]
    tints = [plan.figures[tint].value for plan in plans]
    return go.Scatter(
        **_at(plans, across),
        mode="markers",
        marker={
            "size": 9,
            "line": {"color": "var(--card)", "width": 1},
            "color": tints,
            "showscale": min(tints) < max(tints),  # one value would get a scale made up around it
            "colorscale": [[0, "var(--s1)"], [1, "var(--s2)"]],
            "colorbar": {
                "title": {"text": "$ / M" if tint.startswith("usd") else "L", "side": "top"},
                "thickness": 10,
                "len": 0.8,
                "outlinewidth": 0,
            },
        },
        text=[safe(told(plan)) for plan in plans],
        hovertemplate="%{text}<extra></extra>",
    )


def _within(report: Report, across: str) -> go.Scatter:
    """Rings around what keeps all limits and is beaten by nothing that keeps them, too."""
    plans = [judged.plan for judged in report.outcome.front_within]
    return go.Scatter(
        **_at(plans, across),
        name="front within the limits",
        mode="markers",
        marker={"symbol": "circle-open", "size": 13, "color": WITHIN, "line": {"width": 2}},
        text=[safe(told(plan)) for plan in plans],
        hovertemplate="%{text}<extra></extra>",
    )


def _baselines(report: Report, figure: go.Figure, across: str) -> list[tuple[str, str]]:
    """Numbered marks; those that would cover each other share a place."""
    shown: dict[tuple[float, float], list[str]] = {}
    signs, marks = [], []
    values = [j.plan.figures for j in report.outcome.baselines.values()]
    finite = [f["latency_ms"].value for f in values if np.isfinite(f["latency_ms"].value)]
    widths = (max(finite, default=1.0), max((f[across].value for f in values), default=1.0))
    for number, (name, judged) in enumerate(report.outcome.baselines.items(), start=1):
        figures = judged.plan.figures
        place = figures["latency_ms"].value, figures[across].value
        impossible = "" if np.isfinite(place[0]) else " (overloaded)"
        signs.append((str(number), name + impossible))
        if impossible:
            continue
        key = tuple(round(25 * v / max(w, 1e-9)) for v, w in zip(place, widths, strict=True))
        shown.setdefault((key[0], key[1]), []).append(str(number))
        marks.append((place, judged.plan, (key[0], key[1])))
    texts = [", ".join(shown[key]) if i == _first(marks, key) else ""
             for i, (_, _, key) in enumerate(marks)]  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[place[0] for place, _, _ in marks],
            y=[place[1] for place, _, _ in marks],
            mode="markers+text",
            marker={
                "symbol": "square-open",
                "size": 11,
                "color": "var(--s4)",
                "line": {"width": 2},
            },
            text=[f"<b>{text}</b>" for text in texts],
            textposition="top right",
            textfont={"color": "var(--s4)", "size": 13},
            hovertext=[safe(told(plan)) for _, plan, _ in marks],
            hovertemplate="%{hovertext}<extra></extra>",
            cliponaxis=False,
        )
    )
    return signs


def _first(marks: Sequence[tuple[object, object, object]], key: object) -> int:
    return next(i for i, mark in enumerate(marks) if mark[2] == key)


def _stars(report: Report, figure: go.Figure, across: str) -> None:
    bend = knee(report)
    named = (("diamond-open", 17, bend), ("star", 15, report.chosen))
    for symbol, size, index in named:
        if index is None:
            continue
        plan = report.planner.plan(index)
        figure.add_trace(
            go.Scatter(
                **_at([plan], across),
                mode="markers",
                marker={
                    "symbol": symbol,
                    "size": size,
                    "color": "var(--ink)",
                    "line": {"width": 2},
                },
                hovertext=[safe(told(plan))],
                hovertemplate="%{hovertext}<extra></extra>",
                cliponaxis=False,
            )
        )


def _at(plans: Sequence[Plan], across: str) -> dict[str, list[float]]:
    return {
        "x": [plan.figures["latency_ms"].value for plan in plans],
        "y": [plan.figures[across].value for plan in plans],
    }


def _thinned(count: int) -> str:
    return f" ({MOST_DOTS:,} of {count:,}, drawn by chance)" if count > MOST_DOTS else ""


def _reading(best: Array, across: str) -> str:
    name = NAMES[across]
    if len(best) == 1:
        return (
            f"One placement has both the lowest latency and the least {name}; the line that "
            "nothing beats is a point."
        )
    (fast, dear), (slow, cheap) = best[0], best[-1]
    said = "{:.2f}".format if across == "leakage" else "${:,.2f}".format
    return (
        f"From {said(dear)} at {long(fast)} ms down to {said(cheap)} at {long(slow)} ms: the line "
        f"is what nothing beats in latency and {name} alone; coloured points also count the other "
        "objectives."
    )
