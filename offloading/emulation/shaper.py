"""What one direction of a link does to what is sent over it."""

import dataclasses
import random
from dataclasses import dataclass
from typing import Any

from offloading.bandwidth import BandwidthTrace
from splitbench.link import Link

QUEUE_BYTES = 4_000_000  # as much as a modem holds back; short of it a sender would lose packets


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One way over a link.

    Attributes:
        mbps: Rate in 10^6 bits per second, > 0; what a trace says instead, where there is one.
        delay_ms: Time that every byte is under way, >= 0.
        jitter_ms: Standard deviation of it. Order is kept: nothing overtakes.
        loss: Share of packets that vanish.
        queue_bytes: What waits to be sent beyond this vanishes, too.
        trace: How the rate changes; None where it does not.
    """

    mbps: float
    delay_ms: float
    jitter_ms: float = 0.0
    loss: float = 0.0
    queue_bytes: int = QUEUE_BYTES
    trace: BandwidthTrace | None = None

    @classmethod
    def up(cls, link: Link, trace: BandwidthTrace | None = None) -> "Direction":
        """The way away from the device; a trace is of this one."""
        return cls(
            mbps=link.up_mbps,
            delay_ms=link.rtt_ms / 2,
            jitter_ms=link.jitter_ms,
            loss=link.loss,
            trace=trace,
        )

    @classmethod
    def down(cls, link: Link) -> "Direction":
        """The way back."""
        return cls(
            mbps=link.down_mbps,
            delay_ms=link.rtt_ms / 2,
            jitter_ms=link.jitter_ms,
            loss=link.loss,
        )

    def plain(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return dataclasses.asdict(self)

    @classmethod
    def of_plain(cls, raw: dict[str, Any]) -> "Direction":
        """What `plain` returned, as JSON brings it back."""
        trace = raw["trace"]
        if trace is not None:
            lists = {name: tuple(trace[name]) for name in ("seconds", "mbps")}
            trace = BandwidthTrace(**{**trace, **lists})
        return cls(**{**raw, "trace": trace})


class Shaper:
    """Says when what is sent arrives; times are seconds of any clock that does not run back.

    A packet leaves when the one before has left and its own bits have: no credit is saved up while
    nothing is sent, so small packets are not free.

    Args:
        direction: What to imitate.
        began_s: Time at which a trace begins.
        seed: Of jitter and loss.
    """

    def __init__(self, direction: Direction, *, began_s: float = 0.0, seed: int = 0) -> None:
        self.direction = direction
        self.lost = 0
        self.passed_bytes = 0
        self._began_s = began_s
        self._random = random.Random(seed)  # noqa: S311 (a network, not a secret)
        self._left_s = 0.0
        self._arrived_s = 0.0

    def arrival_s(self, now_s: float, size: float) -> float | None:
        """When `size` bytes that are sent now are there; None if they are lost."""
        way = self.direction
        if way.loss and self._random.random() < way.loss:
            self.lost += 1
            return None
        start = max(now_s, self._left_s)
        if (start - now_s) * self._usual_mbps * 1e6 > 8 * way.queue_bytes:
            self.lost += 1
            return None
        self._left_s = self._finish_s(start, 8 * size)
        self.passed_bytes += int(size)
        delay = way.delay_ms
        if way.jitter_ms:
            delay = max(0.0, self._random.gauss(delay, way.jitter_ms))
        self._arrived_s = max(self._arrived_s, self._left_s + delay / 1000)
        return self._arrived_s

    @property
    def _usual_mbps(self) -> float:
        way = self.direction
        return way.mbps if way.trace is None else way.trace.mean_mbps

    def _finish_s(self, start_s: float, bits: float) -> float:
        way = self.direction
        if way.trace is None:
            return start_s + bits / (way.mbps * 1e6)
        return self._began_s + way.trace.finish_s(start_s - self._began_s, bits)
