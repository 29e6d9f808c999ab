"""Which placement is best at which rate and round trip time of the device's link."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from plotly import graph_objects as go

from experiments.plan_page.drawing import COLOURS, LETTERS, Drawing, Key, empty, safe
from experiments.plan_page.report import Report
from experiments.plan_page.words import short
from offloading.plan import Placement
from offloading.planner import Planner
from offloading.scenario import Scenario

RATES = tuple(2.0**power for power in range(-5, 7))  # times that of the scenario
TRIPS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
LEAST_RTT_MS = 10.0  # what a round trip of zero is multiplied as
MOST = 20_000  # placements of one scenario: beyond it every second row and column is left out
NOTHING = "nothing keeps the limits"


@dataclass(frozen=True)
class Map:
    """Best placements over a grid.

    Attributes:
        up_mbps: Columns.
        rtt_ms: Rows: of the device's shortest hop; the others are longer by as much as they are.
        best: Rows of columns; None where nothing keeps the limits.
        here: Column and row of the scenario itself.
    """

    up_mbps: tuple[float, ...]
    rtt_ms: tuple[float, ...]
    best: tuple[tuple[Placement | None, ...], ...]
    here: tuple[int, int]


def first_hop(scenario: Scenario) -> tuple[float, float] | None:
    """Rate and round trip time of the device's hop with the shortest; None where it has none."""
    device = scenario.tiers[0].name
    links = [hop.link for (near, _), hop in scenario.hops.items() if near == device]
    if not links:
        return None
    nearest = min(links, key=lambda link: link.rtt_ms)
    return nearest.up_mbps, nearest.rtt_ms


def with_link(scenario: Scenario, *, rate: float, further_ms: float) -> Scenario:
    """The scenario with another link of the device: its rate times so much, its round trip longer.

    All hops of the device change, for they share its radio.
    """
    device = scenario.tiers[0].name
    hops = {}
    for key, hop in scenario.hops.items():
        if key[0] == device:
            link = dataclasses.replace(
                hop.link,
                up_mbps=hop.link.up_mbps * rate,
                rtt_ms=max(hop.link.rtt_ms + further_ms, 0.0),
            )
            hop = dataclasses.replace(hop, link=link)
        hops[key] = hop
    return dataclasses.replace(scenario, hops=hops)


def best_map(report: Report) -> Map | None:
    """Plan again at every point of the grid; None where the device has no link."""
    scenario, planner = report.planner.scenario, report.planner
    hop = first_hop(scenario)
    if hop is None:
        return None
    up, rtt = hop
    step = 2 if report.outcome.considered > MOST else 1
    rates = RATES[RATES.index(1.0) % step :: step]
    trips = TRIPS[TRIPS.index(1.0) % step :: step]
    base = rtt or LEAST_RTT_MS
    further = [rtt * (t - 1) if rtt else base * t for t in trips]
    if not rtt:
        further = [base * t for t in (0.0, *trips[1:])]
    best = tuple(
        tuple(_best(report, planner, with_link(scenario, rate=r, further_ms=f)) for r in rates)
        for f in further
    )
    row = further.index(0.0)
    return Map(
        up_mbps=tuple(up * r for r in rates),
        rtt_ms=tuple(rtt + f for f in further),
        best=best,
        here=(rates.index(1.0), row),
    )


def _best(report: Report, planner: Planner, scenario: Scenario) -> Placement | None:
    again = Planner(scenario, planner.profile, planner.options, accuracy=planner.accuracy)
    index = again.best(report.asked.constraints, minimise=report.minimise)
    return None if index is None else again.placement(index)


def drawing(report: Report) -> Drawing | None:
    """The map; None where there is no link."""
    found = best_map(report)
    if found is None:
        return None
    labels = [[NOTHING if p is None else short(p) for p in row] for row in found.best]
    counts = Counter(label for row in labels for label in row if label != NOTHING)
    names = [name for name, _ in counts.most_common()]
    letters = {name: LETTERS[i] if i < len(LETTERS) else "…" for i, name in enumerate(names)}
    letters[NOTHING] = "✕"
    figure = empty("uplink of the device (Mbit/s)", "round trip (ms), nearest hop")
    figure.add_trace(_heat(labels, names, letters))
    column, row = found.here
    figure.add_trace(
        go.Scatter(
            x=[column], y=[row], mode="markers", hoverinfo="skip",
            marker={
                "symbol": "circle-open", "size": 26, "color": "var(--ink)", "line": {"width": 3},
            },
        )
    )  # fmt: skip
    for update, values in (
        (figure.update_xaxes, found.up_mbps),
        (figure.update_yaxes, found.rtt_ms),
    ):
        update(
            tickmode="array",
            tickvals=list(range(len(values))),
            ticktext=[f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in values],
            showgrid=False,
            range=[-0.5, len(values) - 0.5],
        )
    return Drawing(
        name="regions",
        figure=figure,
        reading=_reading(found, labels, names),
        keys=(
            *(Key(name, _colour(i), letters[name]) for i, name in enumerate(names)),
            *([Key(NOTHING, "var(--line)", "✕")] if any(NOTHING in r for r in labels) else []),
            Key("this scenario", "var(--ink)", "", open=True),
        ),
        rests="? assumed: every cell is a plan under the same limits; all hops of the device take "
        "the rate, and are as much further than the nearest as they are in the scenario",
        height=460,
    )


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _heat(
    labels: Sequence[Sequence[str]], names: Sequence[str], letters: dict[str, str]
) -> go.Heatmap:
    """One colour for each placement, and its letter."""
    kinds = [NOTHING, *names]
    colours = ["var(--line)", *(_colour(i) for i in range(len(names)))]
    scale = [
        [edge / len(kinds), colour]
        for number, colour in enumerate(colours)
        for edge in (number, number + 1)
    ]
    return go.Heatmap(
        z=[[kinds.index(label) for label in row] for row in labels],
        x=list(range(len(labels[0]))),
        y=list(range(len(labels))),
        zmin=-0.5,
        zmax=len(kinds) - 0.5,
        colorscale=scale,
        showscale=False,
        opacity=0.72,
        xgap=1,
        ygap=1,
        text=[[letters[label] for label in row] for row in labels],
        texttemplate="%{text}",
        textfont={"color": "var(--ink)", "size": 12},
        hovertext=[[safe(label) for label in row] for row in labels],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _reading(found: Map, labels: Sequence[Sequence[str]], names: Sequence[str]) -> str:
    column, row = found.here
    here = labels[row][column]
    cells = sum(map(len, labels))
    same = sum(label == here for line in labels for label in line)
    if same == cells:
        return f"Whatever the link: {here}."
    cells_right = range(column + 1, len(labels[row]))
    up = next((i for i in cells_right if labels[row][i] != here), None)
    down = next((i for i in range(column - 1, -1, -1) if labels[row][i] != here), None)
    edges = []
    if up is not None:
        edges.append(f"from {found.up_mbps[up]:.3g} Mbit/s on, {labels[row][up]} is best")
    if down is not None:
        edges.append(f"from {found.up_mbps[down]:.3g} Mbit/s downwards, {labels[row][down]}")
    said = f"; at its round trip, {', and '.join(edges)}" if edges else ""
    best = f"{len(names)} best placements" if len(names) > 1 else "one best placement"
    return f"Over {cells} links there are {best}; {here} holds for {same} of them{said}."
