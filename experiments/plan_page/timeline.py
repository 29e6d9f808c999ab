"""A network played again: its rate, the plan that each policy uses, and what that costs."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from plotly import graph_objects as go

from experiments.page.drawing import layout
from experiments.plan_page.adapted import STATIC, Adapted
from experiments.plan_page.drawing import Drawing, Key, empty, safe
from experiments.plan_page.policies import Signs, reading, rests
from offloading.adaptation.replay import Replay

MOST = 600  # points of a line; of a longer replay each stands for several requests
LETTERED = 0.035  # of the time: a plan that is kept for less has no letter in the figure
OUTLIER = 4.0  # regret of a single plan that is so many times that of any policy leaves the figure
LINES = (("solid", "━"), ("dash", "╍"), ("dashdot", "┉"))  # of policies
DOTS = (("dot", "┈"), ("longdashdot", "╌"))  # of single plans
LANE = 30  # pixels of each policy
PANELS = 400  # pixels of all the rest
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """Where a replay is looked at: `MOST` times at most.

    Attributes:
        edges: Requests at which a point begins, and their number.
        seconds: The same as times; after the last request as long as one lasts on average.
    """

    edges: NDArray[np.int64]
    seconds: Numbers

    @classmethod
    def of(cls, replay: Replay) -> "Steps":
        """Equal numbers of requests for each point, as nearly as that is possible."""
        count = len(replay.seconds)
        edges = np.linspace(0, count, min(count, MOST) + 1).astype(np.int64)
        gap = (replay.seconds[-1] - replay.seconds[0]) / (count - 1)
        times = np.append(replay.seconds, replay.seconds[-1] + gap)
        return cls(edges, times[edges])

    def mean(self, values: Numbers) -> Numbers:
        """Of the requests of each point."""
        found: Numbers = np.add.reduceat(values, self.edges[:-1]) / np.diff(self.edges)
        return found

    def most_used(self, chosen: NDArray[np.int64]) -> list[int]:
        """The plan that most requests of each point take."""
        pairs = zip(self.edges[:-1], self.edges[1:], strict=True)
        return [int(np.bincount(chosen[a:b]).argmax()) for a, b in pairs]

    def runs(self, chosen: NDArray[np.int64]) -> Iterator[tuple[int, float, float]]:
        """Plan, begin and end of each stretch with the same one."""
        used = self.most_used(chosen)
        changes = [0, *(i for i in range(1, len(used)) if used[i] != used[i - 1]), len(used)]
        for begin, end in itertools.pairwise(changes):
            yield used[begin], float(self.seconds[begin]), float(self.seconds[end])


def drawing(adapted: Adapted) -> Drawing:
    """Three panels over the same seconds."""
    steps = Steps.of(adapted.replays[0])
    signs = Signs(adapted)
    lanes = adapted.moving
    height = PANELS + LANE * len(lanes)
    figure = _panels(LANE * len(lanes) / height)
    _rates(figure, adapted, steps)
    _plans(figure, lanes, steps, signs)
    lines = _regrets(figure, adapted, steps, signs)
    figure.update_xaxes(range=[float(steps.seconds[0]), float(steps.seconds[-1])])
    return Drawing(
        name="adapted",
        figure=figure,
        reading=reading(adapted),
        keys=(
            Key(_link(adapted), "var(--quiet)", LINES[0][1], line=True),
            *lines,
            *signs.keys(),
        ),
        rests=rests(adapted, int(np.diff(steps.edges).max())),
        height=height,
    )


def _panels(middle: float) -> go.Figure:
    """Rate above, plans in the middle (their share of the height is given), regret below."""
    figure = empty("seconds", "Mbit/s")
    below, gap = 0.36, 0.05
    axis = layout()["yaxis"]
    assert isinstance(axis, dict)
    free = {**axis, "range": None, "dtick": None, "anchor": "x"}
    figure.update_layout(
        xaxis={"anchor": "y3"},
        yaxis={"domain": [below + middle + 2 * gap, 1], "type": "log"},
        yaxis2={**free, "domain": [below + gap, below + gap + middle], "title_text": None},
        yaxis3={**free, "domain": [0, below], "title_text": "regret so far (s)"},
        barmode="overlay",
    )
    return figure


def _link(adapted: Adapted) -> str:
    gaps = bool((adapted.replays[0].mbps == 0).any())
    return "the link's rate" + (" (where there is none, nothing passes)" if gaps else "")


def _rates(figure: go.Figure, adapted: Adapted, steps: Steps) -> None:
    """What the link does, and what the first policy takes it for."""
    policy = adapted.adaptive[0]
    kinds = (
        ("the link", policy.mbps, "var(--quiet)"),
        (f"estimate of the {policy.policy}", policy.estimates_mbps, "var(--ink)"),
    )
    for name, values, colour in kinds:
        mean = steps.mean(values)
        figure.add_trace(
            go.Scatter(
                x=_rounded(steps.seconds[:-1]),
                y=[v if v and v > 0 else None for v in _rounded(mean)],  # no logarithm of nothing
                mode="lines",
                line={"color": colour, "width": 1.6, "shape": "hv"},
                hovertemplate=f"{safe(name)}: %{{y:.3g}} Mbit/s at %{{x:.0f}} s<extra></extra>",
            )
        )


def _plans(figure: go.Figure, lanes: Sequence[Replay], steps: Steps, signs: Signs) -> None:
    """A lane for each policy, coloured by the plan."""
    least = LETTERED * float(steps.seconds[-1] - steps.seconds[0])
    parts = [(row, run) for row, lane in enumerate(lanes) for run in steps.runs(lane.chosen)]
    for number in signs.numbers:
        letter = signs.letter(number)
        mine = [(row, begin, end) for row, (plan, begin, end) in parts if plan == number]
        name = safe(signs.plans[number])
        figure.add_trace(
            go.Bar(
                orientation="h",
                yaxis="y2",
                y=[row for row, _, _ in mine],
                base=_rounded([begin for _, begin, _ in mine]),
                x=_rounded([end - begin for _, begin, end in mine]),
                width=0.8,
                marker={"color": signs.colour(number), "opacity": 0.72, "line": {"width": 0}},
                text=[letter if end - begin >= least else "" for _, begin, end in mine],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                insidetextfont={"color": "var(--ink)", "size": 12},
                hovertext=[
                    f"{letter}: {name}<br>{begin:,.0f} to {end:,.0f} s" for _, begin, end in mine
                ],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    figure.update_layout(
        yaxis2={
            "tickmode": "array",
            "tickvals": list(range(len(lanes))),
            "ticktext": [safe(lane.policy) for lane in lanes],
            "range": [len(lanes) - 0.5, -0.5],
            "ticks": "",
            "showgrid": False,
        }
    )


def _regrets(figure: go.Figure, adapted: Adapted, steps: Steps, signs: Signs) -> list[Key]:
    """What each policy has lost so far against who knows the network; the keys of the lines."""
    adaptive = [(each, *LINES[i % len(LINES)]) for i, each in enumerate(adapted.adaptive)]
    single = [(each, *DOTS[i % len(DOTS)]) for i, each in enumerate(adapted.static)]
    most = max(_total(each) for each in (*adapted.adaptive, *adapted.static))
    end = max(map(_total, adapted.adaptive))
    cut = most > OUTLIER * end > 0
    figure.update_layout(yaxis3={"range": [0, 1.6 * end]} if cut else {"rangemode": "tozero"})
    keys = []
    for each, dash, sign in (*adaptive, *single):
        alone = each.policy.startswith(STATIC)
        name, colour = signs.name(each), "var(--quiet)" if alone else "var(--ink)"
        figure.add_trace(
            go.Scatter(
                x=_rounded(steps.seconds[1:]),
                y=_rounded(np.cumsum(each.regret_ms)[steps.edges[1:] - 1] / 1000),
                yaxis="y3",
                mode="lines",
                line={"color": colour, "dash": dash, "width": 1.6 if alone else 2},
                hovertemplate=f"{safe(name)}: %{{y:.3g}} s after %{{x:.0f}} s<extra></extra>",
            )
        )
        what = "estimate, and regret" if each is adapted.adaptive[0] else "regret"
        beyond = ", beyond the figure" if cut and _total(each) > 1.6 * end else ""
        told = f"{name}: {what} ({_brief(_total(each))} s in all{beyond})"
        keys.append(Key(told, colour, sign, line=True))
    return keys


def _total(replay: Replay) -> float:
    """Regret of all requests, in seconds."""
    return max(float(replay.regret_ms.sum()) / 1000, 0.0)


def _brief(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"


def _rounded(values: Numbers | Sequence[float]) -> list[float | None]:
    """Five digits are more than a page shows; what is no number is left out of a line."""
    return [float(f"{v:.5g}") if np.isfinite(v) else None for v in values]
