"""What leaks at each cut, and what limits it from below."""

import math
from collections.abc import Sequence

from plotly import graph_objects as go

from experiments.page.words import rate
from experiments.plan_page.drawing import COLOURS, Drawing, Key, empty, limit_line, safe
from experiments.plan_page.report import Report
from experiments.plan_page.words import MARKS
from offloading.option import Option
from offloading.planner import Planner

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "x")


def kind_of(option: Option) -> str:
    """The name of an option without its settings."""
    return " ".join(word for word in option.name.split() if "=" not in word) or option.name


def envelope(planner: Planner) -> list[float]:
    """For each cut the most that undefended features give away there or deeper.

    Whoever has the features of a cut can compute those behind it, so what is found behind it bounds
    its leakage from below: an attack that finds less at an earlier cut is a weak attack.
    """
    worst, found = 0.0, []
    leaks: dict[str, float] = {}
    for option in planner.options:
        if option.exact:
            leaks[option.cut] = max(leaks.get(option.cut, 0.0), option.leakage.value)
    for cut in reversed(planner.profile.cuts):
        worst = max(worst, leaks.get(cut.name, 0.0))
        found.append(worst)
    return found[::-1]


def drawing(report: Report) -> Drawing:
    """Leakage of every option at its cut."""
    planner = report.planner
    kinds = _kinds(planner.options)
    figure = empty("cut, from shallow to deep", "leakage L")
    bound = envelope(planner)[:-1]
    figure.add_trace(
        go.Scatter(
            x=list(range(len(bound))),
            y=bound,
            mode="lines",
            line={"color": "var(--ink)", "width": 1.5, "shape": "hv", "dash": "dot"},
            hovertemplate="undefended, here or deeper: %{y:.2f}<extra></extra>",
        )
    )
    for number, kind in enumerate(kinds):
        figure.add_trace(_trace(planner, number, kind, len(kinds)))
    names = [cut.name for cut in planner.profile.cuts[:-1]]
    figure.update_xaxes(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=[safe(name) for name in names],
        range=[-0.6, len(names) - 0.4],
        autotickangles=[0, -35, -60, -90],
    )
    figure.update_yaxes(range=[-0.04, 1.08], dtick=0.25)
    if math.isfinite(report.asked.constraints.leakage):
        limit = report.asked.constraints.leakage
        limit_line(figure, limit, f"limit {limit:g}")
    measured = [o for o in planner.options if o.leakage.basis == "measured"]
    return Drawing(
        name="depth",
        figure=figure,
        reading=_reading(report, measured),
        keys=(
            *(Key(kind, _colour(i)) for i, kind in enumerate(kinds)),
            Key("undefended, here or deeper (the envelope)", "var(--ink)", "┄"),
            Key("hollow: assumed, nobody measured there", "var(--quiet)", open=True),
        ),
        rests=f"• measured: {len(measured)} of {len(planner.options)} options, from "
        f"{report.asked.evidence.source}; ? the others are assumed. A line joins no defended "
        "options: with noise or quantisation at the cut no such order holds",
        height=440,
    )


def _kinds(options: Sequence[Option]) -> list[str]:
    """Undefended first, then others by name."""
    found = sorted({kind_of(option) for option in options if option.name != "undefended"})
    return ["undefended", *found]


def _colour(number: int) -> str:
    return "var(--ink)" if number == 0 else COLOURS[(number - 1) % len(COLOURS)]


def _trace(planner: Planner, number: int, kind: str, count: int) -> go.Scatter:
    here = [option for option in planner.options if kind_of(option) == kind]
    aside = (number - (count - 1) / 2) * min(0.06, 0.5 / count)  # so that none covers another
    shape = SYMBOLS[number % len(SYMBOLS)]
    return go.Scatter(
        x=[planner.profile.places[option.cut] + aside for option in here],
        y=[option.leakage.value for option in here],
        mode="markers",
        marker={
            "symbol": [shape if o.leakage.basis == "measured" else f"{shape}-open" for o in here],
            "size": 8,
            "color": _colour(number),
            "line": {"width": 1.5},
        },
        text=[
            f"<b>{safe(o.name)}</b> at {safe(o.cut)}<br>L {rate(o.leakage.value)}"
            f"{MARKS[o.leakage.basis]} {o.leakage.basis}: {safe(o.leakage.source)}<br>"
            f"accuracy {o.accuracy.value:.1%}{MARKS[o.accuracy.basis]}"
            for o in here
        ],
        hovertemplate="%{text}<extra></extra>",
    )


def _reading(report: Report, measured: Sequence[Option]) -> str:
    limit, cuts = report.asked.constraints.leakage, report.planner.profile.places
    if not math.isfinite(limit):
        return "The deeper the cut, the less is left of the image; there is no limit on it here."
    under = [option for option in measured if option.leakage.value <= limit]
    if not under:
        return f"No measured option stays under the limit of {limit:g}: the device must run it all."
    first = min(under, key=lambda option: cuts[option.cut])
    return (
        f"Under the limit of {limit:g} are {len(under)} of {len(measured)} measured options; the "
        f"shallowest is {first.name} at {first.cut} (L {rate(first.leakage.value)})."
    )
