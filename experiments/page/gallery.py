"""Originals and best guesses as images inside the page."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.page.plots import Series
from experiments.page.words import rate
from splitbench.leaderboard import Board, Row

MOST = 8  # images in a line: what a phone can show


@dataclass(frozen=True)
class Picture:
    """One image of the gallery."""

    source: str
    alternative: str
    caption: str
    value: str = ""


@dataclass(frozen=True)
class Strip:
    """One line of the gallery.

    Attributes:
        line: The defense; None for the originals.
        row: Its row; None for the originals.
        pictures: One per target.
    """

    line: Series | None
    row: Row | None
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Panel:
    """All lines of one cut."""

    cut: str
    strips: tuple[Strip, ...]


def data_uri(image: NDArray[np.uint8]) -> str:
    """A PNG of one image ``(c, h, w)``; grey where it does not have three channels."""
    if len(image) == 3:
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)), mode="RGB")
    else:
        picture = Image.fromarray(np.ascontiguousarray(image[0]), mode="L")
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def panels(board: Board, lines: tuple[Series, ...]) -> tuple[Panel, ...]:
    """The gallery: for each cut the originals, and under them what each attacker saw."""
    made = []
    for cut in board.cuts:
        strips: list[Strip] = []
        rows = [(line, row) for line in lines for row in line.rows if row.cut == cut]
        for line, row in rows:
            if row.guesses is None or row.truths is None:
                continue
            if not strips:
                strips.append(_originals(row.truths[:MOST]))
            strips.append(Strip(line, row, _guesses(line, row, row.guesses[:MOST])))
        if strips:
            made.append(Panel(cut, tuple(strips)))
    return tuple(made)


def _originals(truths: NDArray[np.uint8]) -> Strip:
    pictures = [
        Picture(data_uri(image), f"private image {i}", "") for i, image in enumerate(truths, 1)
    ]
    return Strip(None, None, tuple(pictures))


def _guesses(line: Series, row: Row, guesses: NDArray[np.uint8]) -> tuple[Picture, ...]:
    return tuple(
        Picture(
            data_uri(image),
            f"guess of private image {i} at {row.cut}, {line.name}: leakage {rate(leak)}",
            rate(leak),
        )
        for i, (image, leak) in enumerate(zip(guesses, row.shown, strict=False), 1)
    )
