"""What a tier costs for a request."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitbench.described import Described

Array = NDArray[np.float64]
SECONDS_PER_HOUR = 3600.0
BUSY = 0.7  # share of its time that a rented machine is planned to work: beyond it queues grow


@dataclass(frozen=True, kw_only=True)
class Use:
    """What one request asks of a tier; arrays have one value for each plan.

    Attributes:
        busy_ms: Computing.
        waiting_ms: Between the end of its computing and the reply of the tiers behind it.
        rate_per_s: Requests per second that reach the tier.
        start_ms: Mean time per request that is spent starting (rare cold starts, shared out).
    """

    busy_ms: Array
    waiting_ms: Array
    rate_per_s: Array
    start_ms: Array


class Pricing(Described, ABC):
    """How a tier is paid for."""

    @abstractmethod
    def usd(self, use: Use) -> Array:
        """Dollars for one request."""

    @abstractmethod
    def servers(self, use: Use) -> Array:
        """How many requests the tier works on at a time; infinite where it grows at once."""

    def dearer(self, factor: float) -> "Pricing":
        """The same at prices times a factor."""
        del factor
        return self

    @property
    def stretch(self) -> float:
        """How much longer computing takes because little of the tier was bought; 1 is not."""
        return 1.0

    @property
    def memory_bytes(self) -> float:
        """What was bought for weights and activations; infinite where the machine alone decides."""
        return math.inf


class Owned(Pricing):
    """A machine that the user has anyway: it costs nothing more.

    Args:
        parallel: Requests that it works on at a time, >= 1.
    """

    def __init__(self, *, parallel: int = 1) -> None:
        if parallel < 1:
            raise ValueError(f"parallel={parallel}: at least 1")
        self.parallel = parallel

    def usd(self, use: Use) -> Array:
        """Nothing."""
        return np.zeros_like(use.busy_ms)

    def servers(self, use: Use) -> Array:
        """As many as it works on at a time."""
        return np.full_like(use.busy_ms, self.parallel)


class Hourly(Pricing):
    """Machines that are rented by the hour, whether they work or not.

    As many as keep each below a share of its time; a request pays its part of all of them.

    Args:
        usd_per_hour: Of one machine, >= 0.
        parallel: Requests that one works on at a time, >= 1.
        busy: Share of the time that each is planned to work, in (0, 1).
    """

    def __init__(self, *, usd_per_hour: float, parallel: int = 1, busy: float = BUSY) -> None:
        if not (0 <= usd_per_hour < math.inf and parallel >= 1 and 0 < busy < 1):
            raise ValueError(
                f"usd_per_hour={usd_per_hour}, parallel={parallel}, busy={busy}: want a price, at "
                "least one request at a time, and a share between 0 and 1"
            )
        self.usd_per_hour = usd_per_hour
        self.parallel = parallel
        self.busy = busy

    def dearer(self, factor: float) -> "Hourly":
        """At another rent."""
        rent = self.usd_per_hour * factor
        return Hourly(usd_per_hour=rent, parallel=self.parallel, busy=self.busy)

    def machines(self, use: Use) -> Array:
        """How many are rented, at least one."""
        load = use.rate_per_s * use.busy_ms / 1000
        return np.maximum(np.ceil(load / (self.parallel * self.busy) - 1e-9), 1.0)

    def usd(self, use: Use) -> Array:
        """The rent of all of them, over the requests."""
        per_second = self.machines(use) * self.usd_per_hour / SECONDS_PER_HOUR
        return per_second / use.rate_per_s

    def servers(self, use: Use) -> Array:
        """Of all machines."""
        return self.machines(use) * self.parallel


class Function(Pricing):
    """Serverless: billed by the memory that was asked for, times the time until the reply.

    A function that calls another tier is billed while it waits. Below the memory that comes with
    one whole processor it computes in proportion more slowly; above it, a single-threaded model
    gains nothing.

    Args:
        usd_per_gb_second: > 0; a GB is 1024 MB here, as on invoices.
        usd_per_request: >= 0.
        memory_mb: What is asked for, > 0.
        processor_mb: Memory that comes with one processor, > 0.
        granularity_ms: Times are rounded up to it, > 0.
        runtime_mb: Of the memory, what interpreter and libraries take before any model, >= 0.
    """

    def __init__(
        self,
        *,
        usd_per_gb_second: float,
        usd_per_request: float,
        memory_mb: int,
        processor_mb: int = 1769,
        granularity_ms: float = 1.0,
        runtime_mb: int = 0,
    ) -> None:
        for name, value in (
            ("usd_per_gb_second", usd_per_gb_second),
            ("memory_mb", memory_mb),
            ("processor_mb", processor_mb),
            ("granularity_ms", granularity_ms),
        ):
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: must be positive and finite")
        for name, value in (("usd_per_request", usd_per_request), ("runtime_mb", runtime_mb)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: must not be negative")
        self.usd_per_gb_second = usd_per_gb_second
        self.usd_per_request = usd_per_request
        self.memory_mb = memory_mb
        self.processor_mb = processor_mb
        self.granularity_ms = granularity_ms
        self.runtime_mb = runtime_mb

    def dearer(self, factor: float) -> "Function":
        """At other prices of memory and requests."""
        return Function(
            usd_per_gb_second=self.usd_per_gb_second * factor,
            usd_per_request=self.usd_per_request * factor,
            memory_mb=self.memory_mb,
            processor_mb=self.processor_mb,
            granularity_ms=self.granularity_ms,
            runtime_mb=self.runtime_mb,
        )

    def billed_ms(self, use: Use) -> Array:
        """Computing, waiting and starting, rounded up."""
        total = use.busy_ms + use.waiting_ms + use.start_ms
        return np.ceil(total / self.granularity_ms - 1e-9) * self.granularity_ms

    def usd(self, use: Use) -> Array:
        """The request, and memory by time."""
        gb_seconds = self.memory_mb / 1024 * self.billed_ms(use) / 1000
        return self.usd_per_request + self.usd_per_gb_second * gb_seconds

    def servers(self, use: Use) -> Array:
        """As many as there are requests."""
        return np.full_like(use.busy_ms, math.inf)

    @property
    def stretch(self) -> float:
        """``processor_mb / memory_mb``, at least 1."""
        return max(1.0, self.processor_mb / self.memory_mb)

    @property
    def memory_bytes(self) -> float:
        """What is left of the memory beside the runtime; an MB is 2^20 bytes, as on invoices."""
        return max(self.memory_mb - self.runtime_mb, 0) * 2.0**20
