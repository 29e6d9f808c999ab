"""How well a link is imitated: asked for, and measured."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from offloading.emulation.children import Children
from offloading.emulation.emulation import Emulation, EmulationError, Hop, said
from splitbench.link import FRAMING, Link

SIZES = (1, 4_000, 16_000, 50_000, 100_000, 200_000, 400_000, 800_000)
BULK_BYTES = 100_000  # from here on the imitation has to be right
TOLERANCE = 0.10
_SLOWEST_MS = 3_000.0  # sizes that take longer are left out, but for the first two bulky ones
_REPEATS = 7
_WARMUP = 2


class CalibrationError(EmulationError):
    """The imitation is not good enough to measure with."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """Messages of one size.

    Attributes:
        size: In bytes.
        up_ms, down_ms: Medians of the way there and back.
        asked_up_ms, asked_down_ms: What the link's formula says.
    """

    size: int
    up_ms: float
    down_ms: float
    asked_up_ms: float
    asked_down_ms: float

    @property
    def error(self) -> float:
        """The larger relative error of the two ways."""
        up = self.up_ms / max(self.asked_up_ms, 1e-9) - 1
        down = self.down_ms / max(self.asked_down_ms, 1e-9) - 1
        return max(up, down, key=abs)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A link as it is imitated.

    Attributes:
        backend: Which imitation.
        asked: What it should be.
        measured: What plain messages over TCP say it is: a constant and a time per byte were fitted
            to each direction.
        up_ms, down_ms: The two constants, half a round trip each if all is well.
        points: What was fitted to.
        worst_error: Largest relative error of a message of at least 100 kB.
    """

    backend: str
    asked: Link
    measured: Link
    up_ms: float
    down_ms: float
    points: tuple[Point, ...]
    worst_error: float

    def check(self, tolerance: float = TOLERANCE) -> None:
        """Refuse a poor imitation.

        Raises:
            CalibrationError: It misses by more than the tolerance.
        """
        if abs(self.worst_error) > tolerance:
            bulky = [point for point in self.points if point.size >= BULK_BYTES]
            worst = max(bulky, key=lambda point: abs(point.error))
            raise CalibrationError(
                f"the {self.backend} imitation of link {self.asked.name!r} misses by "
                f"{self.worst_error:+.0%} at {worst.size:,} bytes (up {worst.up_ms:.1f} ms instead "
                f"of {worst.asked_up_ms:.1f}, down {worst.down_ms:.1f} instead of "
                f"{worst.asked_down_ms:.1f}), more than {tolerance:.0%}: choose a slower link or "
                "another backend, or quieten the machine"
            )


def calibrate(
    emulation: Emulation,
    hop: Hop,
    *,
    sizes: Sequence[int] | None = None,
    repeats: int = _REPEATS,
) -> Calibration:
    """Send messages of several sizes over an open emulation and fit a link to their times.

    Nothing is measured where nothing is held back: there the link is the formula.

    Args:
        emulation: Within its ``with`` block.
        hop: Which of its links; one without a trace.
        sizes: Of the messages, at least two, in bytes; None takes as many of the usual ones as are
            quick on this link.
        repeats: Timed messages of each size and direction.

    Raises:
        EmulationError: The link carries nothing.
    """
    link = emulation.known(*hop)
    if hop in emulation.traces:
        raise EmulationError(f"the link of {hop} changes with a trace: calibrate one without it")
    sizes = _quick(link) if sizes is None else sorted(sizes)
    if not emulation.shapes:
        ways = [emulation.added_ms(hop, size, size) for size in sizes]
        return fitted(emulation.backend, link, sizes, [w[0] for w in ways], [w[1] for w in ways])
    orders = [(size, 1) for size in sizes] + [(1, size) for size in sizes]
    # The first messages open the window of the connection. Then sizes take turns: what disturbs
    # the machine meanwhile disturbs all of them.
    opening = [(sizes[-1], sizes[-1])] * _WARMUP
    times = _ask(emulation, hop, [*opening, *orders * repeats])[len(opening) :]
    medians = [
        tuple(median(way) for way in zip(*times[i :: len(orders)], strict=True))
        for i in range(len(orders))
    ]
    count = len(sizes)
    up = [medians[i][0] for i in range(count)]
    down = [medians[count + i][1] for i in range(count)]
    return fitted(emulation.backend, link, sizes, up, down)


def fitted(
    backend: str, link: Link, sizes: Sequence[int], up_ms: Sequence[float], down_ms: Sequence[float]
) -> Calibration:
    """A calibration of medians, one for each size and direction."""
    up_constant, up_mbps = _line(sizes, up_ms)
    down_constant, down_mbps = _line(sizes, down_ms)
    points = tuple(
        Point(
            size=size,
            up_ms=there,
            down_ms=back,
            asked_up_ms=float(link.up_ms(size)),
            asked_down_ms=float(link.down_ms(size)),
        )
        for size, there, back in zip(sizes, up_ms, down_ms, strict=True)
    )
    bulky = [point.error for point in points if point.size >= BULK_BYTES]
    return Calibration(
        backend=backend,
        asked=link,
        measured=Link(
            name=f"{link.name} ({backend})",
            up_mbps=up_mbps,
            down_mbps=down_mbps,
            rtt_ms=max(0.0, up_constant + down_constant),
            jitter_ms=link.jitter_ms,
            loss=link.loss,
        ),
        up_ms=up_constant,
        down_ms=down_constant,
        points=points,
        worst_error=max(bulky, key=abs, default=0.0),
    )


def _quick(link: Link) -> list[int]:
    needed = [size for size in SIZES if size >= BULK_BYTES][:2]
    slower = min(link.up_mbps, link.down_mbps)
    quick = [size for size in SIZES if 8 * size / (slower * 1000) <= _SLOWEST_MS]
    return sorted({1, *needed, *quick})


def _line(sizes: Sequence[int], times_ms: Sequence[float]) -> tuple[float, float]:
    """Constant in ms and rate in 10^6 bits/s, fitted so that relative errors count alike."""
    weights = 1 / np.maximum(np.array(times_ms), 1e-3)
    design = np.stack([np.ones(len(sizes)), np.array(sizes, dtype=float)], axis=1)
    (constant, per_byte), *_ = np.linalg.lstsq(
        design * weights[:, None], np.array(times_ms) * weights, rcond=None
    )
    return float(constant), 8 * FRAMING / (max(float(per_byte), 1e-9) * 1000)


def _ask(
    emulation: Emulation, hop: Hop, orders: Sequence[tuple[int, int]]
) -> list[tuple[float, float]]:
    near, far = hop
    program = [sys.executable, "-m", "offloading.emulation.probe"]
    children = Children()
    try:
        words = [*program, "answer", emulation.listen_host(far)]
        echo = children.start(emulation.command(far, words))
        port = echo.stdout.readline()  # type: ignore[union-attr]
        if not port.strip().isdigit():
            raise EmulationError(f"no answer from {far!r}: {said(echo)}")
        words = [*program, "ask", emulation.reach(near, far, int(port))]
        asker = children.start(emulation.command(near, words))
        asker.stdin.write(json.dumps(list(orders)).encode() + b"\n")  # type: ignore[union-attr]
        asker.stdin.flush()  # type: ignore[union-attr]
        told = asker.stdout.readline()  # type: ignore[union-attr]
        if not told:
            raise EmulationError(f"no way from {near!r} to {far!r}: {said(asker)}")
        return [(float(up), float(down)) for up, down in json.loads(told)]
    finally:
        children.close()
