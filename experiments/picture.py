"""The README's picture: leakage against depth, and what the best attack makes of one image.

``python -m experiments.picture runs/demo docs/demo.png``
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

from experiments.errors import UserError
from experiments.leaderboard import load
from experiments.page.plots import Series, lines_of
from splitbench.leaderboard import Board, boards

COLOURS = ("#1b1b1b", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
IMAGE = 1  # which of the gallery's targets


def main(arguments: Sequence[str]) -> int:
    """Draw the first board of a results folder."""
    parser = argparse.ArgumentParser(prog="python -m experiments.picture", description=__doc__)
    parser.add_argument("runs", help="folder that `splitbench run` wrote")
    parser.add_argument("file", help="picture to write, by its ending: png, svg or pdf")
    options = parser.parse_args(list(arguments))
    try:
        board = boards(load(Path(options.runs) / "cells"))[0]
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    draw(board, Path(options.file))
    return 0


def draw(board: Board, file: Path) -> None:
    """Curves on the left, pictures on the right; naive adversaries are left out."""
    mpl.use("Agg")
    lines = [line for line in lines_of(board) if not line.naive]
    figure = plt.figure(figsize=(11, 0.75 * len(lines) + 1.2), layout="constrained")
    columns = 1 + len(board.cuts)
    grid = GridSpec(len(lines), 1 + columns, figure, width_ratios=[6.5, *[1] * columns])
    _curves(figure.add_subplot(grid[:, 0]), lines, board.cuts)
    for number, line in enumerate(lines):
        rows = {row.cut: row for row in line.rows}
        first = figure.add_subplot(grid[number, 1])
        anything = next(iter(line.rows))
        if anything.truths is not None:
            _picture(first, anything.truths[IMAGE, 0])
        first.set_ylabel(
            line.name.replace(" ", "\n", 1),
            rotation=0,
            ha="right",
            va="center",
            fontsize=7,
            color=COLOURS[line.number % len(COLOURS)],
        )
        if number == 0:
            first.set_title("private", fontsize=8)
        for place, cut in enumerate(board.cuts):
            axes = figure.add_subplot(grid[number, 2 + place])
            row = rows.get(cut)
            if row is None or row.guesses is None:
                axes.axis("off")
                continue
            _picture(axes, row.guesses[IMAGE, 0])
            if number == 0:
                axes.set_title(cut, fontsize=8)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _curves(axes: Axes, lines: Sequence[Series], cuts: Sequence[str]) -> None:
    for line in lines:
        known = [(cuts.index(r.cut), r.closed) for r in line.rows if r.closed is not None]
        x = [place for place, _ in known]
        mean = [leak.mean for _, leak in known]
        spread = [
            [leak.mean - leak.low for _, leak in known],
            [leak.high - leak.mean for _, leak in known],
        ]
        axes.errorbar(
            x,
            mean,
            spread,
            label=line.name,
            color=COLOURS[line.number % len(COLOURS)],
            linewidth=1.2,
            marker=MARKERS[line.number % len(MARKERS)],
            markersize=4,
            capsize=2,
        )
    axes.set_xticks(range(len(cuts)), cuts)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("cut, from shallow to deep")
    axes.set_ylabel("leakage L of the best attack")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower left", frameon=False)


def _picture(axes: Axes, pixels: NDArray[np.uint8]) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
