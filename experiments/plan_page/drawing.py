"""What the figures of the report have in common, beyond those of all pages."""

import html
from dataclasses import dataclass

from plotly import graph_objects as go

from experiments.page.drawing import layout

COLOURS = tuple(f"var(--s{number})" for number in range(1, 9))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
GRAVE = "var(--grave)"


@dataclass(frozen=True)
class Key:
    """One entry of a legend.

    Attributes:
        label: Not escaped.
        colour: Of the style sheet.
        sign: A letter or digit that stands for it in the figure; empty where colour is enough.
        open: Drawn as a ring.
        line: The sign is a line, in the colour.
    """

    label: str
    colour: str
    sign: str = ""
    open: bool = False
    line: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure, and what is written around it.

    Attributes:
        name: Unique on the page.
        figure: For plotly.
        reading: What it shows, in a sentence.
        keys: Its legend.
        rests: What its numbers rest on.
        height: In pixels.
    """

    name: str
    figure: go.Figure
    reading: str
    keys: tuple[Key, ...] = ()
    rests: str = ""
    height: int = 420


def empty(x_title: str, y_title: str) -> go.Figure:
    """A figure with axes and no data."""
    figure = go.Figure()
    figure.update_layout(layout())
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title, range=None, dtick=None)
    return figure


def safe(text: str) -> str:
    """Text of a record, as plotly wants it: it takes some tags for its own."""
    return html.escape(text).replace("\n", "<br>")


def limit_line(figure: go.Figure, at: float, text: str, *, across: bool = True) -> None:
    """A limit: nothing beyond it is taken."""
    style = {"color": GRAVE, "dash": "dash", "width": 1.4}
    font = {"color": GRAVE, "size": 11}
    if across:
        figure.add_hline(y=at, line=style)
        figure.add_annotation(
            text=text, x=1, xref="paper", y=at, xanchor="right", yanchor="bottom",
            showarrow=False, font=font,
        )  # fmt: skip
        return
    figure.add_vline(x=at, line=style)
    figure.add_annotation(
        text=text, x=at, y=1, yref="paper", xanchor="left", yanchor="top", showarrow=False,
        font=font,
    )  # fmt: skip
