"""What a placement costs on a rented machine and on a function, by requests per second."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from plotly import graph_objects as go

from experiments.plan_page.drawing import COLOURS, Drawing, Key, empty, safe
from experiments.plan_page.report import Report
from experiments.plan_page.words import dollars, short
from offloading.costing import Costing
from offloading.enumeration import Candidates
from offloading.tier import Tier
from offloading.workload import Poisson, Workload

RATES = tuple(float(rate) for rate in np.logspace(-3, 2, 101))
STEPS = 60  # halvings of the interval around a crossing


@dataclass(frozen=True)
class Curve:
    """The price of one placement on one tier.

    Attributes:
        tier: Who computes what the device does not.
        usd_per_million: At `RATES`.
        at: The same at any rate per second.
    """

    tier: Tier
    usd_per_million: tuple[float, ...]
    at: Callable[[float], float]


def curves(report: Report) -> list[Curve]:
    """The device's part and what it sends as recommended, and the rest on each tier in turn."""
    if report.offloaded is None:
        return []
    planner, index = report.planner, report.offloaded
    found = planner.routes[index[0]]
    option, end = int(found.options[index[1]]), int(found.ends[index[1], 0])
    last = len(planner.profile.cuts) - 1
    made = []
    for route in planner.scenario.routes():
        if len(route) != 2:
            continue
        one = Candidates(route, np.array([option]), np.array([[end, last]]))
        at = _price(report, one)
        made.append(Curve(route[1], tuple(at(rate) for rate in RATES), at))
    return made


def _price(report: Report, one: Candidates) -> Callable[[float], float]:
    planner = report.planner

    def at(rate: float) -> float:
        asked = Workload(arrivals=Poisson(rate_per_s=rate))
        scenario = dataclasses.replace(planner.scenario, workload=asked)
        costing = Costing(
            scenario, planner.profile, planner.options, accuracy=planner.accuracy.value
        )
        with np.errstate(invalid="ignore"):  # the device alone may not keep up with so many
            return float(costing.estimate(one).usd_per_million[0])

    return at


def crossing(first: Curve, second: Curve) -> float | None:
    """The lowest rate from which the first is cheaper and below which the second was."""
    pairs = zip(first.usd_per_million, second.usd_per_million, strict=True)
    cheaper = [a <= b for a, b in pairs]
    for place in range(1, len(cheaper)):
        if cheaper[place] and not cheaper[place - 1]:
            low, high = RATES[place - 1], RATES[place]
            for _ in range(STEPS):
                middle = math.sqrt(low * high)
                if first.at(middle) <= second.at(middle):
                    high = middle
                else:
                    low = middle
            return high
    return None


def break_evens(made: Sequence[Curve]) -> list[tuple[Curve, Curve, float]]:
    """Machine, function, and the rate from which the machine is cheaper."""
    machines = [curve for curve in made if curve.tier.kind in ("edge", "cloud")]
    functions = [curve for curve in made if curve.tier.kind == "function"]
    pairs = [(m, f, crossing(m, f)) for m in machines for f in functions]
    return [(m, f, rate) for m, f, rate in pairs if rate is not None]


def drawing(report: Report) -> Drawing | None:
    """Price against rate; None where nothing can be sent."""
    made = [c for c in curves(report) if all(map(math.isfinite, c.usd_per_million))]
    if not made or report.offloaded is None:
        return None
    figure = empty("requests per second", "$ per million requests")
    for number, curve in enumerate(made):
        figure.add_trace(
            go.Scatter(
                x=list(RATES),
                y=list(curve.usd_per_million),
                mode="lines",
                line={"color": COLOURS[number], "width": 2, "dash": _dash(number)},
                hovertemplate=f"{safe(curve.tier.name)}: $%{{y:,.3g}} at %{{x:.3g}}/s"
                "<extra></extra>",
            )
        )
    even = break_evens(made)
    for number, (machine, _, rate) in enumerate(even):
        _mark(figure, rate, machine.at(rate), "bottom left" if number % 2 else "top right")
    own = report.planner.scenario.workload.rate_per_s
    if RATES[0] <= own <= RATES[-1]:
        figure.add_vline(x=own, line={"color": "var(--quiet)", "dash": "dot", "width": 1.3})
        figure.add_annotation(
            text="this scenario", x=math.log10(own), y=1, yref="paper", xanchor="left",
            yanchor="top", showarrow=False, font={"color": "var(--quiet)", "size": 11},
        )  # fmt: skip
    figure.update_xaxes(type="log", dtick=1, range=[-3, 2])
    figure.update_yaxes(type="log", dtick=1)
    return Drawing(
        name="rates",
        figure=figure,
        reading=_reading(report, made, even),
        keys=(
            *(
                Key(f"rest on {c.tier.name} ({c.tier.kind})", COLOURS[i])
                for i, c in enumerate(made)
            ),
            *([Key("break-even", "var(--ink)", open=True)] if even else []),
        ),
        rests="? assumed: list prices, and times of tiers that nobody profiled; Poisson arrivals; "
        "machines are added so that none works more than it is planned to",
        height=400,
    )


def _dash(number: int) -> str:
    return ("solid", "dash", "dot", "dashdot")[number % 4]


def _mark(figure: go.Figure, rate: float, price: float, side: str) -> None:
    figure.add_trace(
        go.Scatter(
            x=[rate],
            y=[price],
            mode="markers+text",
            text=[f"{rate:.2g}/s"],
            textposition=side,
            textfont={"color": "var(--ink)", "size": 12},
            marker={
                "symbol": "circle-open", "size": 12, "color": "var(--ink)", "line": {"width": 2},
            },
            hoverinfo="skip",
        )
    )  # fmt: skip


def _reading(
    report: Report, made: Sequence[Curve], even: Sequence[tuple[Curve, Curve, float]]
) -> str:
    assert report.offloaded is not None
    placement = report.planner.placement(report.offloaded)
    what = "recommended" if report.offloaded == report.chosen else "best that sends anything"
    about = f"Of the {what}, {short(placement)}: "
    if even:
        said = [
            f"from {rate:.2g} requests per second {_holds(machine, function, rate)}, "
            f"{machine.tier.name} costs less than {function.tier.name} "
            f"({dollars(machine.at(rate))} per million there)"
            for machine, function, rate in even
        ]
        return about + "; ".join(said) + "."
    cheapest = min(made, key=_typical)
    return about + f"{cheapest.tier.name} is the cheapest over most of this range; none crosses."


def _typical(curve: Curve) -> float:
    return sum(math.log(max(usd, 1e-9)) for usd in curve.usd_per_million)


def _holds(machine: Curve, function: Curve, rate: float) -> str:
    """Whether the machine stays the cheaper one: another that must be rented may change it."""
    prices = zip(RATES, machine.usd_per_million, function.usd_per_million, strict=True)
    stays = all(rented <= called for at, rented, called in prices if at >= rate)
    return "on" if stays else "on, though not where one more has just been rented"
