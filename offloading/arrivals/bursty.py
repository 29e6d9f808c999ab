"""Requests that come in bursts."""

import math

import numpy as np
from numpy.typing import NDArray

from offloading.workload import Arrivals


class Bursty(Arrivals):
    """Poisson at one of two rates, which take turns after exponential times (MMPP-2).

    With ``peak * share == 1`` nothing comes between bursts (on-off): then times between arrivals
    are independent and `variability` says all of them. Otherwise short ones follow each other,
    which `variability` does not say: waiting times that are computed from it are too short, and
    only a simulation has the right ones.

    Args:
        rate_per_s: Requests per second on average, > 0.
        peak: Rate in a burst, as a multiple of the average, > 1.
        share: Of the time that is bursts, in (0, 1), at most ``1 / peak``.
        burst_s: Mean length of a burst in seconds, > 0.
    """

    def __init__(
        self, *, rate_per_s: float, peak: float = 5.0, share: float = 0.1, burst_s: float = 10.0
    ) -> None:
        if not (0 < rate_per_s < math.inf and 0 < burst_s < math.inf):
            raise ValueError(
                f"rate_per_s={rate_per_s}, burst_s={burst_s}: must be positive and finite"
            )
        if not (peak > 1 and share > 0 and peak * share <= 1 + 1e-9):
            raise ValueError(
                f"peak={peak}, share={share}: want peak > 1, share > 0 and peak * share <= 1, or "
                "bursts alone would bring more than all requests"
            )
        self.rate_per_s = rate_per_s
        self.peak = peak
        self.share = share
        self.burst_s = burst_s

    @property
    def rates_per_s(self) -> tuple[float, float]:
        """In bursts, and between them."""
        quiet = max(0.0, 1 - self.peak * self.share) / (1 - self.share)
        return self.peak * self.rate_per_s, quiet * self.rate_per_s

    @property
    def lengths_s(self) -> tuple[float, float]:
        """Mean length of a burst, and of the time between two."""
        return self.burst_s, self.burst_s * (1 - self.share) / self.share

    @property
    def variability(self) -> float:
        """Exact, by moments of the time between two arrivals of a two-state process.

        ``1 + 2 a b (r - s)^2 / ((a + b)^2 (r s + a s + b r))`` where bursts of rate r end at rate
        a and quiet times of rate s at rate b (Fischer and Meier-Hellstern, 1993).
        """
        burst, quiet = self.rates_per_s
        ends, begins = (1 / length for length in self.lengths_s)
        spread = 2 * ends * begins * (burst - quiet) ** 2
        return 1 + spread / ((ends + begins) ** 2 * (burst * quiet + ends * quiet + begins * burst))

    def times(self, count: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """A Poisson process of rate 1, its clock stretched; starts at any point of a cycle."""
        expected = np.cumsum(rng.exponential(1.0, count))
        inside = rng.random() < self.share
        rates = self.rates_per_s if inside else self.rates_per_s[::-1]
        lengths = self.lengths_s if inside else self.lengths_s[::-1]
        clock, passed = np.zeros(1), np.zeros(1)  # seconds, and requests expected until then
        while passed[-1] < (expected[-1] if count else 0.0):
            stays = rng.exponential(np.tile(lengths, 64))
            clock = np.append(clock, clock[-1] + np.cumsum(stays))
            passed = np.append(passed, passed[-1] + np.cumsum(stays * np.tile(rates, 64)))
        return np.interp(expected, passed, clock)
