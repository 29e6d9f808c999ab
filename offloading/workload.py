"""When requests come."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitbench.described import Described


class Arrivals(Described, ABC):
    """The times at which requests come from one device.

    Class attributes and properties:
        rate_per_s: Mean rate, > 0.
        variability: Squared coefficient of variation of the times between arrivals: 0 is a clock, 1
            a Poisson process, more is bursty.
    """

    rate_per_s: float

    @property
    @abstractmethod
    def variability(self) -> float:
        """Squared coefficient of variation of the times between arrivals."""

    @abstractmethod
    def times(self, count: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """Seconds from the start at which so many requests come, ascending, ``(count,)``."""


class Deterministic(Arrivals):
    """One request after the other at equal distances, like frames of a camera.

    Args:
        rate_per_s: Requests per second, > 0.
    """

    def __init__(self, *, rate_per_s: float) -> None:
        _check(rate_per_s)
        self.rate_per_s = rate_per_s

    @property
    def variability(self) -> float:
        """0."""
        return 0.0

    def times(self, count: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """Multiples of the period."""
        del rng
        return np.arange(count) / self.rate_per_s


class Poisson(Arrivals):
    """Independent users.

    Args:
        rate_per_s: Requests per second, > 0.
    """

    def __init__(self, *, rate_per_s: float) -> None:
        _check(rate_per_s)
        self.rate_per_s = rate_per_s

    @property
    def variability(self) -> float:
        """1."""
        return 1.0

    def times(self, count: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """Sums of exponential times."""
        return np.cumsum(rng.exponential(1 / self.rate_per_s, count))


class Hastened(Arrivals):
    """The requests of another process, one after the other in less time or more.

    Args:
        arrivals: The other process.
        factor: By which its rate is multiplied, > 0.
    """

    def __init__(self, *, arrivals: Arrivals, factor: float) -> None:
        _check(arrivals.rate_per_s * factor)
        self.arrivals = arrivals
        self.factor = factor
        self.rate_per_s = arrivals.rate_per_s * factor

    @property
    def variability(self) -> float:
        """Of the other: it has no unit."""
        return self.arrivals.variability

    def times(self, count: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """Those of the other, divided by the factor."""
        return self.arrivals.times(count, rng=rng) / self.factor


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is asked of the whole system.

    Attributes:
        arrivals: Requests of one device.
        devices: How many share the tiers behind them, >= 1.
    """

    arrivals: Arrivals
    devices: int = 1

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise ValueError(f"devices={self.devices}: at least 1")

    @property
    def device_rate_per_s(self) -> float:
        """Requests per second on one device."""
        return self.arrivals.rate_per_s

    @property
    def rate_per_s(self) -> float:
        """Requests per second of all devices together."""
        return self.arrivals.rate_per_s * self.devices

    @property
    def shared_variability(self) -> float:
        """Of the arrivals of all devices together: many independent ones look like Poisson."""
        return 1 + (self.arrivals.variability - 1) / self.devices


def _check(rate_per_s: float) -> None:
    if not 0 < rate_per_s < math.inf:
        raise ValueError(f"rate_per_s={rate_per_s}: must be positive and finite")
