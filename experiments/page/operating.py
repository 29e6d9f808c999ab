"""What each kind of defense is worth at a given loss of accuracy, for page and Markdown."""

from dataclasses import dataclass

from experiments.page.flags import explain
from experiments.page.words import milliseconds, rate, size, small
from splitbench.leaderboard import DROPS, Board, Row, families
from splitbench.record import Interval

POINTS = tuple(round(100 * drop) for drop in DROPS)
HEADINGS = tuple(f"at most {n} point{'s' if n > 1 else ''}" for n in POINTS)


@dataclass(frozen=True)
class Point:
    """What stands in one column.

    Attributes:
        leakage: Of the row that leaks least at this price; None where no setting is so cheap.
        setting: Its knob.
        cost: Its payload and the time of its client.
        promise: Its formal guarantee, in short, or nothing.
        flags: Doubts about it, in short.
        sent: Leakage of the images that are sent, where the device answers others by itself.
    """

    leakage: Interval | None = None
    setting: str = ""
    cost: str = ""
    promise: str = ""
    flags: str = ""
    sent: str = ""

    @property
    def facts(self) -> str:
        """Setting, leakage of what is sent, costs, promise and doubts."""
        known = (self.setting, self.sent, self.cost, self.promise, self.flags)
        return ", ".join(filter(None, known))


@dataclass(frozen=True)
class Line:
    """One kind of defense at one cut."""

    cut: str
    kind: str
    settings: int
    points: tuple[Point, ...]
    tunable: bool = True


def operating(board: Board) -> list[Line]:
    """All lines of a board; none where nothing was defended."""
    return [
        Line(
            one.cut,
            one.kind,
            one.settings,
            tuple(_point(row) for row in one.at.values()),
            one.tunable,
        )
        for one in families(board)
    ]


def tuning(lines: list[Line]) -> str:
    """Whether all that can be tuned had the same choice; who had more to choose had more luck."""
    tuned = [line for line in lines if line.tunable] or lines
    counts = sorted({line.settings for line in tuned})
    if len(counts) == 1:
        many = "one setting" if counts == [1] else f"{counts[0]} settings"
        but = "" if len(tuned) == len(lines) else " but secret keys, which have no knob,"
        return f"Every defense{but} had the same budget for tuning: {many}."
    return (
        f"Defenses were tuned unequally, at {counts[0]} to {counts[-1]} settings: those with more "
        "have a small advantage."
    )


def _point(row: Row | None) -> Point:
    if row is None:
        return Point()
    cost = f"{size(row.payload_bytes_mean)}, {milliseconds(row.client_ms)} ms"
    told = row.guarantee
    promise = f"epsilon {small(told.epsilon)}" if told.formal else ""
    flags = ", ".join(explain(flag).short for flag in row.flags)
    sent = "" if row.raw_sent is None else f"{rate(row.raw_sent.mean)} of what is sent"
    return Point(row.closed, row.setting, cost, promise, flags, sent)
