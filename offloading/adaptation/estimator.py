"""How fast the link is, from the transfers that were made anyway."""

from abc import ABC, abstractmethod
from collections import deque

from splitbench.described import Described


class Estimator(Described, ABC):
    """Learns from single transfers; nothing is sent for its sake."""

    @abstractmethod
    def observe(self, mbps: float) -> None:
        """A transfer went at this rate, > 0."""

    @abstractmethod
    def forget(self) -> None:
        """What was seen is too old to say anything."""

    @property
    @abstractmethod
    def mbps(self) -> float | None:
        """The estimate; None before the first transfer."""


class HarmonicMean(Estimator):
    """Of the last transfers: a slow one counts for more, as it does for latency.

    Args:
        window: How many, >= 1.
    """

    def __init__(self, *, window: int = 5) -> None:
        if window < 1:
            raise ValueError(f"window={window}: at least 1")
        self.window = window
        self._slowness: deque[float] = deque(maxlen=window)

    def observe(self, mbps: float) -> None:
        """Remember it, and forget the oldest one."""
        self._slowness.append(1 / mbps)

    def forget(self) -> None:
        """All of them."""
        self._slowness.clear()

    @property
    def mbps(self) -> float | None:
        """Harmonic mean of those remembered."""
        return len(self._slowness) / sum(self._slowness) if self._slowness else None


class MovingAverage(Estimator):
    """Exponentially weighted, of the times per bit.

    Args:
        weight: Of the newest transfer, in (0, 1].
    """

    def __init__(self, *, weight: float = 0.3) -> None:
        if not 0 < weight <= 1:
            raise ValueError(f"weight={weight}: must be in (0, 1]")
        self.weight = weight
        self._slowness: float | None = None

    def observe(self, mbps: float) -> None:
        """Move towards it."""
        before = 1 / mbps if self._slowness is None else self._slowness
        self._slowness = (1 - self.weight) * before + self.weight / mbps

    def forget(self) -> None:
        """The average."""
        self._slowness = None

    @property
    def mbps(self) -> float | None:
        """The average."""
        return None if self._slowness is None else 1 / self._slowness
