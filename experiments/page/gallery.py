"""Originals and best guesses as images inside the page."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.page.plots import Series
from experiments.page.words import adversary, rate
from splitbench.leaderboard import Board, Row, families

MOST = 8  # images in a line: what a phone can show
FEW = 24  # lines that a reader looks through; of more, one for each kind of defense is enough


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
    """All lines of one cut.

    Attributes:
        cut: Where.
        strips: The originals, and beneath them what a reader should see.
        others: Further settings of the same defenses, for who asks for them.
    """

    cut: str
    strips: tuple[Strip, ...]
    others: tuple[Strip, ...] = ()


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
        rows = [(line, row) for line in lines for row in line.rows if row.cut == cut]
        strips = [
            Strip(line, row, _guesses(line, row, row.guesses[:MOST]))
            for line, row in rows
            if row.guesses is not None and row.truths is not None
        ]
        truths = next((row.truths for _, row in rows if row.truths is not None), None)
        if strips and truths is not None:
            first, others = _told_apart(board, strips)
            made.append(Panel(cut, (_originals(truths[:MOST]), *first), tuple(others)))
    return tuple(made)


def _told_apart(board: Board, strips: list[Strip]) -> tuple[list[Strip], list[Strip]]:
    """Where there are many, one line for each kind of defense under each adversary, and the rest.

    That is the setting that is worth most at equal accuracy; where none is so cheap, the one that
    costs the least accuracy.
    """
    if len(strips) <= FEW:
        return strips, []
    worth = {id(row) for family in families(board) for row in family.at.values() if row}
    kinds: dict[object, Strip] = {}
    for strip in sorted(strips, key=lambda strip: _rank(strip, worth)):
        kinds.setdefault(_kind(strip), strip)
    chosen = {id(strip) for strip in kinds.values()}
    return (
        [strip for strip in strips if id(strip) in chosen],
        [strip for strip in strips if id(strip) not in chosen],
    )


def _kind(strip: Strip) -> tuple[str, str]:
    row = strip.row
    return (row.kind, adversary(row.message.threat)) if row else ("", "")


def _rank(strip: Strip, worth: set[int]) -> tuple[bool, float]:
    """What is worth most first, the least leakage of these; then what costs least accuracy."""
    row = strip.row
    if row is not None and id(row) in worth:
        return False, row.raw.mean if row.raw else math.inf
    drop = row.accuracy_drop if row is not None else None
    return True, drop.mean if drop else math.inf


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
