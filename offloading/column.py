"""One phase of a request, over many placements at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offloading.figure import Basis
from offloading.plan import PhaseKind

Array = NDArray[np.float64]
P95 = 1.645  # standard deviations at which one of twenty normal values is larger


@dataclass(frozen=True)
class Column:
    """One phase of a request that is sent, over all placements along a route.

    Attributes:
        kind: What happens.
        where: Tier or hop.
        ms: Medians, ``(n,)``.
        tail_ms: How much longer one in twenty takes.
        basis: What the times rest on.
        source: Where from.
    """

    kind: PhaseKind
    where: str
    ms: Array
    tail_ms: Array
    basis: Basis
    source: str = ""


def added(phases: Sequence[Column]) -> Array:
    """Their medians together."""
    return _one_by_one(phase.ms for phase in phases)


def root_of_squares(phases: Sequence[Column]) -> Array:
    """How much longer one in twenty takes of all of them, if they are independent."""
    return np.sqrt(_one_by_one(phase.tail_ms * phase.tail_ms for phase in phases))


def _one_by_one(arrays: Iterable[Array]) -> Array:
    """One after the other: stacking them first would take longer than the sum itself."""
    total = np.zeros(1)
    for array in arrays:
        total = total + array
    return total


def spread_out(work: Sequence[Column]) -> Array:
    """Squared coefficient of variation of the time that work takes, from its tail."""
    deviation = root_of_squares(work) / P95
    found: Array = (deviation / np.maximum(added(work), 1e-9)) ** 2
    return found
