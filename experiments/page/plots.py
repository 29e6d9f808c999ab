"""The page's figures, as data for plotly; colours are CSS variables that the page fills in."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from plotly import graph_objects as go

from experiments.page.drawing import QUIET, embedded, layout
from experiments.page.words import adversary, between, percent, points, rate, series, size
from splitbench.leaderboard import Board, Row

# Told apart by shape and dash as well as by colour, and by all of them in grey print.
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "x")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
COLOURS = 8  # --s1 to --s8 in the style sheet; --s0 is the reference
DODGE = 0.04, 0.4  # most between neighbours and in all, so that intervals stay apart


@dataclass(frozen=True)
class Series:
    """One line of the figures: a defense under an adversary, across cuts.

    Attributes:
        name: Label, not escaped.
        rows: Its rows, by cut.
        number: Of the defense, whoever attacks it; 0 is no defense.
        turn: Of the adversary; all but the first are hidden until asked for.
    """

    name: str
    rows: tuple[Row, ...]
    number: int
    turn: int

    @property
    def adversary(self) -> str:
        """What sets its adversary apart; empty for the headline one."""
        return adversary(self.rows[0].message.threat)

    @property
    def naive(self) -> bool:
        """Whether its adversary does not expect the defense."""
        return self.rows[0].naive

    @property
    def colour(self) -> str:
        """A variable of the style sheet."""
        return "var(--s0)" if self.number == 0 else f"var(--s{(self.number - 1) % COLOURS + 1})"

    @property
    def symbol(self) -> str:
        """Plotly's name of the marker."""
        shape = SYMBOLS[self.number % len(SYMBOLS)]
        return f"{shape}-open" if self.naive else shape

    @property
    def dash(self) -> str:
        """Plotly's name of the line style."""
        if self.naive:
            return "dot"
        return DASHES[(max(self.number - 1, 0) // COLOURS + self.turn) % len(DASHES)]


def lines_of(board: Board) -> tuple[Series, ...]:
    """Series of a board, adversary by adversary, the headline's first and the naive last.

    Of each adversary the reference comes first, then the defenses.
    """
    groups: dict[str, list[Row]] = {}
    for row in board.rows:
        groups.setdefault(series(row), []).append(row)

    def order(name: str) -> tuple[bool, str, bool, str, list[float], str]:
        row = groups[name][0]
        numbers = [float(v) for _, v in _numbers(row)]
        who = adversary(row.message.threat)
        return (row.naive, who, not row.undefended, row.kind, numbers, name)

    return _series({name: groups[name] for name in sorted(groups, key=order)})


def curves_of(board: Board, lines: Sequence[Series]) -> tuple[Series, ...]:
    """What the figures draw: lines, or, where there is one cut, one through a defense's settings.

    A line through a single cut would be a point, and a legend of all settings longer than a page.
    """
    if len(board.cuts) > 1:
        return tuple(lines)
    groups: dict[str, list[Row]] = {}
    for line in lines:
        for row in line.rows:
            groups.setdefault(_family(row), []).append(row)
    return _series({name: sorted(rows, key=_leak) for name, rows in groups.items()})


def _series(groups: Mapping[str, Sequence[Row]]) -> tuple[Series, ...]:
    """Lines that look alike for a defense, and dashed alike for an adversary."""
    defenses, adversaries = {"": 0}, dict[str, int]()
    made = []
    for name, rows in groups.items():
        who = adversary(rows[0].message.threat)
        what = "" if rows[0].undefended else name.removesuffix(f" ({who})")
        number = defenses.setdefault(what, len(defenses))
        made.append(
            Series(name, tuple(rows), number, adversaries.setdefault(who, len(adversaries)))
        )
    return tuple(made)


def _family(row: Row) -> str:
    """The defense without its setting, and the adversary if unusual."""
    extra = adversary(row.message.threat)
    return f"{row.kind} ({extra})" if extra else row.kind


def _leak(row: Row) -> float:
    return row.closed.mean if row.closed is not None else math.inf


def _numbers(row: Row) -> list[tuple[str, float]]:
    found = []
    for part in row.setting.split():
        key, _, value = part.partition("=")
        try:
            found.append((key, float(value)))
        except ValueError:
            continue
    return found


def figures(board: Board, lines: Sequence[Series]) -> dict[str, str]:
    """JSON of each figure by name, safe inside a script element; no depth with a single cut."""
    made = {
        "accuracy": _tradeoff(lines, _loss, "loss of accuracy (percentage points)"),
        "bytes": _bytes(lines),
    }
    if len(board.cuts) > 1:
        made["depth"] = _depth(board, lines)
    return {name: embedded(figure.to_plotly_json()) for name, figure in made.items()}


def _depth(board: Board, lines: Sequence[Series]) -> go.Figure:
    """Leakage at every cut, with intervals."""
    position = {cut: i for i, cut in enumerate(board.cuts)}
    figure = go.Figure()
    for line, offset in zip(lines, _beside(lines), strict=True):
        figure.add_trace(_trace(line, _shifted(position, offset), bars=True))
    figure.add_trace(_floor(board, position))
    figure.update_layout(layout())
    figure.update_xaxes(
        tickmode="array",
        tickvals=list(position.values()),
        ticktext=[html.escape(cut) for cut in position],
        range=[-0.4, len(position) - 0.6],
        autotickangles=[0, -35, -60],
        ticklabeloverflow="allow",
        title_text="cut, from shallow to deep",
    )
    return figure


def _beside(lines: Sequence[Series]) -> list[float]:
    """How far each line stands from its cut: those of an adversary in a row around it."""
    numbers = [line.number for line in lines]
    low, high = min(numbers, default=0), max(numbers, default=0)
    step = min(DODGE[0], DODGE[1] / (high - low + 1))
    turns = 1 + max((line.turn for line in lines), default=0)
    return [step * (line.number - (low + high) / 2 + line.turn / turns) for line in lines]


def _shifted(position: dict[str, int], offset: float) -> Callable[[Row], float | None]:
    """Where a row stands on the axis of cuts, beside its neighbours."""
    return lambda row: position[row.cut] + offset


def _floor(board: Board, position: dict[str, int]) -> go.Scatter:
    """The best of the floors at each cut: what is known without the release."""
    best: dict[str, tuple[float, str]] = {}
    for row in board.rows:
        for entry in row.attacks:
            if row.undefended and not row.naive and entry.floor and entry.leakage is not None:
                found = (entry.leakage.mean, entry.name)
                best[row.cut] = max(best.get(row.cut, found), found)
    cuts = [cut for cut in position if cut in best]
    return go.Scatter(
        x=[position[cut] for cut in cuts],
        y=[best[cut][0] for cut in cuts],
        mode="lines+text",
        line={"color": QUIET, "dash": "dot", "width": 1.2},
        textposition="top right",
        textfont={"color": QUIET, "size": 11},
        text=["best floor: what is known without the release"][: len(cuts)],  # over its start
        hovertext=[
            f"floor at {html.escape(cut)}: {html.escape(best[cut][1].replace('_', ' '))}, "
            f"{rate(best[cut][0])}"
            for cut in cuts
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _tradeoff(
    lines: Sequence[Series], across: Callable[[Row], float | None], title: str
) -> go.Figure:
    figure = go.Figure()
    for line in lines:
        figure.add_trace(_trace(line, across, bars=False))
    figure.update_layout(layout())
    figure.update_xaxes(title_text=title)
    return figure


def _bytes(lines: Sequence[Series]) -> go.Figure:
    figure = _tradeoff(lines, lambda row: row.payload_bytes_mean, "payload per image (bytes)")
    figure.update_xaxes(type="log", dtick=1, minor={"ticks": "outside"})
    ratios = [r for line in lines for r in line.rows if r.payload_ratio and r.payload_bytes_mean]
    if ratios:
        first = ratios[0]
        assert first.payload_bytes_mean is not None
        assert first.payload_ratio is not None
        raw = first.payload_bytes_mean / first.payload_ratio
        figure.add_vline(x=raw, line={"color": QUIET, "width": 1, "dash": "dash"})
        figure.add_annotation(
            text="raw image", x=raw, xref="x", y=1, yref="paper", yanchor="bottom",
            showarrow=False, font={"color": QUIET, "size": 11},
        )  # fmt: skip
        # Plotly places annotations of a logarithmic axis by the logarithm.
        figure.layout.annotations[0].x = math.log10(raw)
    return figure


def _loss(row: Row) -> float | None:
    if row.accuracy_drop is not None:
        return 100 * row.accuracy_drop.mean
    return 0.0 if row.undefended and row.accuracy is not None else None


def _trace(line: Series, across: Callable[[Row], float | None], *, bars: bool) -> go.Scatter:
    points_ = [(across(row), row) for row in line.rows if row.closed is not None]
    shown = [(x, row, row.closed) for x, row in points_ if x is not None and row.closed is not None]
    error = None
    if bars:
        error = {
            "type": "data",
            "symmetric": False,
            "array": [c.high - c.mean for _, _, c in shown],
            "arrayminus": [c.mean - c.low for _, _, c in shown],
            "thickness": 1.3,
            "width": 2,
            "color": line.colour,
        }
    return go.Scatter(
        x=[x for x, _, _ in shown],
        y=[c.mean for _, _, c in shown],
        error_y=error,
        mode="lines+markers",
        name=html.escape(line.name),
        line={"color": line.colour, "dash": line.dash, "width": 2 if bars else 1},
        marker={"symbol": line.symbol, "size": 9, "color": line.colour},
        text=[_hover(row) for _, row, _ in shown],
        hovertemplate="%{text}<extra></extra>",
        visible=line.turn == 0,
    )


def _hover(row: Row) -> str:
    assert row.closed is not None
    parts = [
        f"<b>{html.escape(series(row))}</b> at {html.escape(row.cut)}",
        f"leakage {rate(row.closed.mean)} ({between(row.closed)})",
    ]
    if row.closed_by is not None and row.raw is not None:
        parts.append(f"raised from {rate(row.raw.mean)} by {html.escape(row.closed_by)}")
    if row.accuracy is not None:
        loss = row.accuracy_drop
        drop = "" if loss is None else f", loss {points(loss.mean)} points"
        parts.append(f"accuracy {percent(row.accuracy.mean)}{drop}")
    if row.payload_bytes_mean is not None:
        parts.append(f"payload {size(row.payload_bytes_mean)}")
    if row.best is not None:
        parts.append(f"best attack: {html.escape(row.best.replace('_', ' '))}")
    return "<br>".join(parts)
