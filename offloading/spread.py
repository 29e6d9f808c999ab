"""How long something takes, in a few numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TAILS = (90, 95, 99)  # percentiles of which plans speak, beside the median
BEYOND = 2  # slower runs that a percentile needs; with fewer it is hardly more than the slowest


def least_runs(percentile: int) -> int:
    """Runs from which a percentile may be read: `BEYOND` of them are expected to be slower.

    Example:
        >>> [least_runs(percentile) for percentile in TAILS]
        [20, 40, 200]
    """
    return math.ceil(100 * BEYOND / (100 - percentile))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Percentiles and mean of times in milliseconds.

    Attributes:
        p50: Median.
        p90: Exceeded by one run in ten.
        p95: By one in twenty.
        p99: By one in a hundred; `least_runs` says of how many it may be read.
        mean: Arithmetic mean.
        n: Runs behind it, >= 1.
    """

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    n: int

    def __post_init__(self) -> None:
        ordered = (0.0, self.p50, self.p90, self.p95, self.p99)
        if list(ordered) != sorted(ordered) or self.n < 1 or not np.isfinite(self.mean):
            raise ValueError(f"{self}: want 0 <= p50 <= p90 <= p95 <= p99, a finite mean and runs")

    @classmethod
    def of(cls, times: Sequence[float] | NDArray[np.float64]) -> "Spread":
        """Summarise measured times.

        Raises:
            ValueError: None were given.
        """
        values = np.asarray(times, dtype=np.float64)
        if not values.size:
            raise ValueError("no times to summarise")
        p50, p90, p95, p99 = (float(np.quantile(values, q)) for q in (0.5, 0.9, 0.95, 0.99))
        mean = float(values.mean())
        return cls(p50=p50, p90=p90, p95=p95, p99=p99, mean=mean, n=int(values.size))

    def at(self, percentile: int) -> float:
        """One of `TAILS`."""
        found: float = getattr(self, f"p{percentile}")
        return found

    def scaled(self, factor: float) -> "Spread":
        """The same on a machine that takes so many times as long."""
        return Spread(
            p50=self.p50 * factor,
            p90=self.p90 * factor,
            p95=self.p95 * factor,
            p99=self.p99 * factor,
            mean=self.mean * factor,
            n=self.n,
        )
