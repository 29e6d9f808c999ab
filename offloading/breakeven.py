"""At how many requests machines that are rented cost less than functions that are called."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offloading.pricing import SECONDS_PER_HOUR, Function, Hourly, Use

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one request asks of a tier.

    Attributes:
        busy_ms: Computing, > 0.
        waiting_ms: For tiers behind it, >= 0; functions are billed for it.
        start_ms: Mean time per request that is spent starting, >= 0; likewise.
    """

    busy_ms: float
    waiting_ms: float = 0.0
    start_ms: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.busy_ms < math.inf and self.waiting_ms >= 0 and self.start_ms >= 0):
            raise ValueError(f"{self}: want busy_ms above 0, and nothing negative")

    def at(self, rate_per_s: ArrayLike) -> Use:
        """The same at each of these rates."""
        rate = np.asarray(rate_per_s, dtype=np.float64)
        every = np.ones_like(rate)
        return Use(
            busy_ms=self.busy_ms * every,
            waiting_ms=self.waiting_ms * every,
            rate_per_s=rate,
            start_ms=self.start_ms * every,
        )


@dataclass(frozen=True)
class Range:
    """Rates at which machines cost less than functions.

    Attributes:
        machines: How many of them.
        low_per_s, high_per_s: Requests per second; machines of this number cost as much as
            functions at the one and are all at work at the other.
    """

    machines: int
    low_per_s: float
    high_per_s: float


def usd_per_million(
    function: Function, machine: Hourly, job: Job, rate_per_s: ArrayLike
) -> tuple[Array, Array]:
    """Dollars per million requests of functions and of machines, at each rate."""
    use = job.at(rate_per_s)
    return 1e6 * function.usd(use), 1e6 * machine.usd(use)


def cheaper_rented(
    function: Function, machine: Hourly, job: Job, *, up_to_per_s: float
) -> list[Range]:
    """All ranges of rates at which rented machines are cheaper, exactly.

    Machines come in whole numbers: k of them cost ``k usd_per_hour`` whatever they do, and take up
    to ``k parallel busy / busy_ms`` requests. A rate at which another one must be rented may bring
    functions back.

    Args:
        function: The one offer.
        machine: The other.
        job: What a request takes, on either: a machine is as fast as a function here.
        up_to_per_s: Where to stop looking, > 0, finite.

    Returns:
        Ascending; neighbours that touch are not joined, since they are of different numbers of
        machines. At the ends costs are equal, or the number of machines changes.

    Raises:
        ValueError: No such limit.
    """
    if not 0 < up_to_per_s < math.inf:
        raise ValueError(f"up_to_per_s={up_to_per_s}: must be positive and finite")
    each, capacity, rent = _terms(function, machine, job)
    found = []
    for machines in range(1, 1 + math.ceil(up_to_per_s / capacity - 1e-9)):
        equal = machines * rent / each if each else math.inf
        low = max(equal, (machines - 1) * capacity)
        high = min(machines * capacity, up_to_per_s)
        if low < high:
            found.append(Range(machines, low, high))
    return found


def break_even_per_s(function: Function, machine: Hourly, job: Job) -> float | None:
    """The least rate at which rented machines are cheaper; None where they never are.

    Of k machines the rent of one and its capacity decide, whatever k is: who never gains by the
    first never gains.
    """
    each, capacity, rent = _terms(function, machine, job)
    return rent / each if each and rent / each < capacity else None


def always_rented_per_s(function: Function, machine: Hourly, job: Job) -> float | None:
    """The rate from which on rented machines stay cheaper; None where they never do.

    k machines are the cheaper ones over all of their range if already at its beginning, where
    ``k - 1`` were just enough, ``k rent <= (k - 1) capacity each``; that is easier the larger k is.
    """
    each, capacity, rent = _terms(function, machine, job)
    if capacity * each <= rent:
        return None
    last = math.ceil(capacity * each / (capacity * each - rent) - 1e-9) - 1  # that begins too dear
    return last * rent / each


def _terms(function: Function, machine: Hourly, job: Job) -> tuple[float, float, float]:
    """Dollars for one call; requests per second that one machine takes, and its rent for that."""
    each = function.usd(job.at(np.ones(1))).item()
    capacity = machine.parallel * machine.busy * 1000 / job.busy_ms
    return each, capacity, machine.usd_per_hour / SECONDS_PER_HOUR
