"""What a simulation found, with intervals."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
BATCHES = 20
CONFIDENCE = 0.95
TAIL = 200  # points of the distribution that are written


@dataclass(frozen=True)
class Interval:
    """An estimate, and where the truth lies with 95 % confidence.

    Attributes:
        value: Over all requests.
        low, high: From the spread between batches of requests that followed each other.
    """

    value: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Array, statistic: Callable[[Array], float]) -> "Interval":
        """By batches: consecutive requests depend on each other, distant ones hardly do.

        Args:
            values: One for each request, in the order of their arrival, at least `BATCHES`.
            statistic: Of any part of them.

        Raises:
            ValueError: Too few.
        """
        if values.size < BATCHES:
            raise ValueError(f"{values.size} values for {BATCHES} batches")
        whole = statistic(values)
        parts = [statistic(part) for part in np.array_split(values, BATCHES)]
        deviation = float(np.std(parts, ddof=1)) / BATCHES**0.5
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, BATCHES - 1)) * deviation
        return cls(whole, whole - half, whole + half)


def percentile(share: float) -> Callable[[Array], float]:
    """The value that a share does not exceed."""
    return lambda values: float(np.quantile(values, share))


def mean(values: Array) -> float:
    """Arithmetic mean."""
    return float(values.mean())


LATENCIES: Mapping[str, Callable[[Array], float]] = {
    "mean": mean,
    "p50": percentile(0.50),
    "p90": percentile(0.90),
    "p95": percentile(0.95),
    "p99": percentile(0.99),
}


@dataclass(frozen=True, kw_only=True)
class TierLoad:
    """How busy a tier was.

    Attributes:
        tier: Its name.
        servers: Requests that it could have worked on at a time, on average over time.
        working: Of them, those that were taken.
        wait_ms: Mean time in its queue; None where nothing came.
        cold_share: Of its requests, those that met no warm instance; None where it has no cold
            starts, or nothing came.
        usd_per_million: Requests of the whole system.
    """

    tier: str
    servers: float
    working: float
    wait_ms: Interval | None
    cold_share: Interval | None
    usd_per_million: float

    @property
    def utilisation(self) -> float:
        """Share of the time that its servers were taken."""
        return self.working / self.servers if self.servers else 0.0


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """One run.

    Attributes:
        placement: Which, for a reader.
        scenario: Its name.
        requests: Those that were counted, after the beginning was left out.
        seed: Of all random numbers.
        latency_ms: By ``mean``, ``p50``, ``p90``, ``p95``, ``p99``.
        tiers: The device first; all devices together.
        traffic_usd_per_million: For bytes.
        overloaded: Tiers and lines that are asked for more than they can do: their queues grow
            without end, and latencies say how long the run was and nothing else.
        latencies_ms: Of each request, in the order of arrival.
    """

    placement: str
    scenario: str
    requests: int
    seed: int
    latency_ms: Mapping[str, Interval]
    tiers: tuple[TierLoad, ...]
    traffic_usd_per_million: float
    overloaded: tuple[str, ...]
    latencies_ms: Array = field(repr=False, compare=False)

    @property
    def usd_per_million(self) -> float:
        """For everything."""
        return self.traffic_usd_per_million + sum(tier.usd_per_million for tier in self.tiers)

    def tail(self, points: int = TAIL) -> tuple[Array, Array]:
        """Latencies, and the share of requests that takes longer; dense where it is small."""
        above = np.geomspace(1.0, 1 / self.latencies_ms.size, points)
        return np.quantile(self.latencies_ms, 1 - above), above

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the tail instead of single latencies."""
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del kept["latencies_ms"]
        tail_ms, above = self.tail()
        return {
            **kept,
            "latency_ms": {k: dataclasses.asdict(v) for k, v in self.latency_ms.items()},
            "tiers": [{**dataclasses.asdict(t), "utilisation": t.utilisation} for t in self.tiers],
            "usd_per_million": self.usd_per_million,
            "tail": {"latency_ms": tail_ms.tolist(), "share_above": above.tolist()},
        }

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def level(spans: Sequence[tuple[float, float]], start: float, end: float) -> float:
    """How many spans there are at a time, on average from start to end."""
    if not spans or end <= start:
        return 0.0
    edges = np.clip(np.array(spans, dtype=np.float64), start, end)
    return float((edges[:, 1] - edges[:, 0]).sum() / (end - start))
