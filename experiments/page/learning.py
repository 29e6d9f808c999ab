"""The figure of what more images are worth to the adversary."""

import html
import math
from collections.abc import Sequence

from plotly import graph_objects as go

from experiments.page.drawing import layout
from experiments.page.plots import Series
from experiments.page.words import between, rate, series
from splitbench.leaderboard import Row


def learning(lines: Sequence[Series]) -> go.Figure | None:
    """Leakage by the number of auxiliary images, a line for each row; None without several.

    Each trace says which line of the legend it belongs to.
    """
    rows = [(i, row) for i, line in enumerate(lines) for row in line.rows if row.learning]
    if not rows:
        return None
    several = len({row.cut for _, row in rows}) > 1
    figure = go.Figure([_trace(i, lines[i], row, named=several) for i, row in rows])
    figure.update_layout(layout())
    sizes = sorted({size for _, row in rows for size, _ in row.learning})
    figure.update_xaxes(
        type="log",
        range=[math.log10(sizes[0] / 1.1), math.log10(sizes[-1] * 1.2)],  # the names need room
        tickmode="array",
        tickvals=sizes,
        ticktext=[f"{size:,}" for size in sizes],
        title_text="auxiliary images of the adversary",
    )
    return figure


def _trace(number: int, line: Series, row: Row, *, named: bool) -> go.Scatter:
    """One row; its cut is written over the end where there are several cuts."""
    sizes = [size for size, _ in row.learning]
    leaks = [leak for _, leak in row.learning]
    return go.Scatter(
        x=sizes,
        y=[leak.mean for leak in leaks],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [leak.high - leak.mean for leak in leaks],
            "arrayminus": [leak.mean - leak.low for leak in leaks],
            "thickness": 1.3,
            "width": 2,
            "color": line.colour,
        },
        mode="lines+markers+text",
        meta={"line": number},
        line={"color": line.colour, "dash": line.dash, "width": 2},
        marker={"symbol": line.symbol, "size": 9, "color": line.colour},
        text=[*[""] * (len(sizes) - 1), html.escape(row.cut) if named else ""],
        textposition="middle right",
        textfont={"color": line.colour, "size": 11},
        hovertext=[
            f"<b>{html.escape(series(row))}</b> at {html.escape(row.cut)}<br>{size:,} auxiliary "
            f"images: {rate(leak.mean)} ({between(leak)})"
            for size, leak in row.learning
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        visible=line.turn == 0,
    )
