"""``splitbench front``: the settings of a defense that no other setting beats in all respects."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from hydra.experimental.callback import Callback
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.errors import UserError
from experiments.leaderboard import load
from experiments.page.words import adversary, between, percent, rate, size
from splitbench.leaderboard import UNRANKED, LeaderboardError, Row, boards
from splitbench.record import Interval

UPWARD = (False, True, False)  # which of leakage, accuracy and payload ratio should be large
# Sending the image itself, without one right answer: what is no better in any of the three, such as
# a message that is longer than the image, adds nothing.
REFERENCE = (1.0, 0.0, 1.0)
UNIT = "leakage L, accuracy, bytes per byte of the plain image"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting, where all three are known."""

    row: Row
    leakage: Interval
    accuracy: Interval
    payload_ratio: float

    @property
    def values(self) -> tuple[float, float, float]:
        """The objectives, in the order of `REFERENCE`."""
        return self.leakage.mean, self.accuracy.mean, self.payload_ratio


@dataclass(frozen=True, kw_only=True)
class Front:
    """One kind of defense at one cut, under one adversary.

    Which settings are on it is decided by the very numbers that are shown, so it flatters, and more
    so the more settings were run: compare kinds only at equal numbers of settings.

    Attributes:
        title: Board, cut, kind and adversary.
        tried: Settings that were run, the unranked included.
        points: Those that are ranked and met every attack that another setting met, by leakage.
        best: Whether each is dominated by no other; equal ones all stay.
        hypervolume: Share of the box between `REFERENCE` and the ideal (0, 1, 0) that the points
            dominate.
    """

    title: str
    tried: int
    points: tuple[Point, ...]
    best: tuple[bool, ...]
    hypervolume: float


def fronts(rows: Iterable[tuple[str, Row]], defense: str | None = None) -> list[Front]:
    """Fronts of all kinds of defenses, or of one.

    Args:
        rows: Rows, each after the name of its board.
        defense: Name of the defense, as in ``defense=NAME``.
    """
    groups: dict[str, list[Row]] = {}
    for board, row in rows:
        if row.undefended or (defense and row.defense_name != defense):
            continue
        extra = adversary(row.message.threat)
        title = f"{row.kind} at {row.cut}, {board}" + (f" ({extra})" if extra else "")
        groups.setdefault(title, []).append(row)
    return [_front(title, group) for title, group in groups.items()]


def _front(title: str, rows: Sequence[Row]) -> Front:
    attacks = {entry.name for row in rows for entry in row.attacks}
    points = sorted(
        (
            Point(row=r, leakage=r.closed, accuracy=r.accuracy, payload_ratio=r.payload_ratio)
            for r in rows
            if not (r.naive or r.keyless or UNRANKED & {*r.flags})
            and not (r.closed is None or r.accuracy is None or r.payload_ratio is None)
            and {entry.name for entry in r.attacks} == attacks  # else the job was stopped half-way
        ),
        key=lambda point: (point.values, point.row.label),
    )
    values = as_array(points)
    best = moocore.is_nondominated(values, maximise=UPWARD, keep_weakly=True) if points else ()
    return Front(
        title=title,
        tried=len(rows),
        points=tuple(points),
        best=tuple(bool(one) for one in best),
        hypervolume=float(moocore.hypervolume(values, ref=REFERENCE, maximise=UPWARD)),
    )


def as_array(points: Sequence[Point]) -> NDArray[np.float64]:
    """Objectives ``(points, 3)``."""
    return np.array([point.values for point in points], dtype=np.float64).reshape(-1, 3)


def found_in(runs: Path, defense: str | None = None) -> list[Front]:
    """Fronts of a results folder.

    Raises:
        UserError: There are no records, or none of a defense.
    """
    try:
        made = boards(load(runs / "cells"))
    except LeaderboardError as error:
        raise UserError(f"{runs}: {error}") from error
    rows = [(f"{b.model} on {b.data}, {b.protocol}", row) for b in made for row in b.rows]
    found = fronts(rows, defense)
    if not found:
        raise UserError(f"{runs} holds no {defense or 'defended'} system: there is no front")
    return found


def headline(front: Front) -> str:
    """What was searched, how much of it, and what came of it."""
    ranked = f"{front.tried} settings, {len(front.points)} in full, {sum(front.best)} on the front"
    return f"{front.title}: {ranked}; hypervolume {front.hypervolume:.4f}"


def as_table(front: Front) -> Table:
    """The best settings, least leakage first."""
    table = Table()
    table.add_column("setting", overflow="fold")
    for name in ("L", "95 %", "accuracy", "95 %", "payload"):
        table.add_column(name, justify="right")
    for point, best in zip(front.points, front.best, strict=True):
        if best:
            table.add_row(
                Text(point.row.setting or point.row.kind),
                rate(point.leakage.mean, 3),
                between(point.leakage, 3),
                percent(point.accuracy.mean),
                between(point.accuracy, 3),
                size(point.row.payload_bytes_mean),
            )
    return table


def draw(found: Sequence[Front], file: Path) -> None:
    """Leakage against accuracy, bytes as colour; the front is filled, the beaten are rings."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(
        1, len(found), figsize=(5.5 * len(found), 4), layout="constrained", squeeze=False
    )
    for front, axes in zip(found, grid[0], strict=True):
        values = as_array(front.points)
        best = np.array(front.best, dtype=bool)
        bound = mpl.colors.LogNorm(*_span(values[:, 2]))
        colours = mpl.cm.ScalarMappable(bound, "viridis")
        edges = colours.to_rgba(values[:, 2])
        rings = {"facecolors": "none", "edgecolors": edges[~best]}
        axes.scatter(*values[~best, :2].T, **rings, label="another is nowhere worse")
        filled = {"facecolors": edges[best], "edgecolors": "black", "s": 50}
        axes.scatter(*values[best, :2].T, **filled, label="on the front")
        axes.legend(fontsize=8, loc="lower right")
        axes.set_title(f"{front.title}\nhypervolume {front.hypervolume:.3f}", fontsize=8)
        axes.set_xlabel("leakage L of the best attack")
        axes.set_ylabel("accuracy")
        axes.grid(alpha=0.3)
        bar = figure.colorbar(colours, ax=axes, label="bytes, of those of the plain image")
        percent = mpl.ticker.PercentFormatter(1.0)
        for axis in (bar.ax.yaxis, axes.yaxis):
            axis.set_major_formatter(percent)
        bar.ax.yaxis.set_minor_formatter(percent)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _span(ratios: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of a logarithmic scale; nothing sent, or no points at all, has none of its own."""
    sent = ratios[ratios > 0]
    return (float(sent.min()) / 1.1, float(sent.max()) * 1.1) if len(sent) else (0.01, 1.0)


def say(found: Sequence[Front]) -> None:
    """Print all fronts, and what their hypervolume is measured by."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    for front in found:
        console.print(Text(headline(front)), soft_wrap=True)
        console.print(as_table(front))
    console.print(Text(f"hypervolume: of ({UNIT}) against {REFERENCE}; 0 to 1, more is better"))


class Report(Callback):  # type: ignore[misc]  # hydra is not typed
    """Says at the end of a sweep which settings of its defense make the front."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002  # hydra's
        """Print the front of the defense that was swept.

        Args:
            config: The configuration that all jobs share.
            kwargs: Name of the configuration.
        """
        try:
            say(found_in(Path(config.paths.runs), config.hydra.runtime.choices["defense"]))
        except UserError as error:
            sys.stderr.write(f"no front: {error}\n")


def main(arguments: Sequence[str]) -> int:
    """Print fronts, and draw them where asked; return the exit code."""
    options = _parser().parse_args(list(arguments))
    try:
        found = found_in(Path(options.runs), options.defense)
        say(found)
        if options.out:
            draw(found, Path(options.out))
    except (UserError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="splitbench front",
        description="The settings of each defense that no other setting of it beats in leakage, "
        "accuracy and bytes alike, among those that a results folder holds. `splitbench run "
        "experiment=front` searches for them.",
    )
    default = os.environ.get("SPLITBENCH_RUNS", "runs")
    folder = "folder that `splitbench run` wrote (%(default)s)"
    parser.add_argument("runs", nargs="?", default=default, metavar="RUNS_DIR", help=folder)
    parser.add_argument("--defense", metavar="NAME", help="only this one, as in defense=NAME")
    parser.add_argument("--out", metavar="FILE", help="draw them, by its ending: png, svg or pdf")
    return parser
