"""One phase of a request, over many placements at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offloading.figure import Basis
from offloading.plan import PhaseKind
from offloading.spread import TAILS

Array = NDArray[np.float64]
NORMAL = np.array([[1.2816], [1.645], [2.3263]])  # standard deviations at the tails of a normal law
P95 = float(NORMAL[TAILS.index(95), 0])


@dataclass(frozen=True)
class Column:
    """One phase of a request that is sent, over all placements along a route.

    Attributes:
        kind: What happens.
        where: Tier or hop.
        ms: Medians, ``(n,)``.
        late_ms: How much longer than that a request takes at each of `TAILS`, ``(tails, n)``.
        basis: What the times rest on.
        source: Where from.
    """

    kind: PhaseKind
    where: str
    ms: Array
    late_ms: Array
    basis: Basis
    source: str = ""

    @property
    def tail_ms(self) -> Array:
        """How much longer one in twenty takes, ``(n,)``."""
        found: Array = self.late_ms[TAILS.index(95)]
        return found


def added(phases: Sequence[Column]) -> Array:
    """Their medians together."""
    return _one_by_one(phase.ms for phase in phases)


def root_of_squares(phases: Sequence[Column]) -> Array:
    """How much longer all of them take at each of `TAILS`, if they are independent."""
    return np.sqrt(_one_by_one(phase.late_ms * phase.late_ms for phase in phases))


def _one_by_one(arrays: Iterable[Array]) -> Array:
    """One after the other: stacking them first would take longer than the sum itself."""
    total = np.zeros(1)
    for array in arrays:
        total = total + array
    return total


def spread_out(work: Sequence[Column]) -> Array:
    """Squared coefficient of variation of the time that work takes, from its tail."""
    tails = np.sqrt(_one_by_one(phase.tail_ms * phase.tail_ms for phase in work))
    deviation = tails / P95
    found: Array = (deviation / np.maximum(added(work), 1e-9)) ** 2
    return found
