"""A place where a segment of a model can run."""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from offloading.figure import Basis
from offloading.pricing import Pricing
from offloading.profile import Profile

Kind = Literal["device", "edge", "cloud", "function"]
Values = TypeVar("Values", float, NDArray[np.float64])


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """What happens when no instance is warm.

    Attributes:
        fixed_ms: Until the runtime is there: container, interpreter, libraries.
        load_mb_per_s: At which weights are read, in 10^6 bytes, > 0; None where `fixed_ms` has the
            time for them, too.
        keep_alive_s: How long an idle instance is kept, > 0.
        basis: What `fixed_ms` and `load_mb_per_s` rest on.
        source: Where they are from, for a reader.
    """

    fixed_ms: float
    load_mb_per_s: float | None
    keep_alive_s: float
    basis: Basis = "assumed"
    source: str = ""

    def __post_init__(self) -> None:
        loads = self.load_mb_per_s is None or self.load_mb_per_s > 0
        if not (self.fixed_ms >= 0 and loads and self.keep_alive_s > 0):
            raise ValueError(f"{self}: want fixed_ms >= 0, a rate and a time above 0")

    def start_ms(self, weight_bytes: Values) -> Values:
        """Time of one cold start."""
        if self.load_mb_per_s is None:
            return self.fixed_ms + 0 * weight_bytes
        return self.fixed_ms + weight_bytes / (self.load_mb_per_s * 1000)

    def share(self, rate_per_s: Values) -> Values:
        """Share of requests that meet no warm instance, of Poisson arrivals at a low rate.

        An instance is gone if no other request came for as long as it is kept:
        ``exp(-rate keep_alive)``. Where requests overlap, more instances start than this counts;
        `offloading.simulation` counts them.
        """
        found: Values = np.exp(-rate_per_s * self.keep_alive_s)
        return found


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A place where a segment can run.

    Attributes:
        name: Unique in a scenario.
        kind: ``device``, ``edge``, ``cloud`` or ``function``.
        slowdown: Times of the profile are multiplied by it, > 0.
        basis: What `slowdown` rests on.
        trusted: Whoever is there is no adversary.
        pricing: How it is paid for.
        memory_bytes: For weights and activations of a segment; see `room_bytes`.
        most_message_bytes: Of one message that it accepts, > 0.
        cold_start: Where it is not always warm.
        watts: While it computes; None where it is not known.
        profile: Measured on this tier itself; None takes the one that was made elsewhere, times
            `slowdown`.
        source: Where the numbers are from, for a reader.
    """

    name: str
    kind: Kind
    slowdown: float
    trusted: bool
    pricing: Pricing
    basis: Basis = "assumed"
    memory_bytes: float = math.inf
    most_message_bytes: float = math.inf
    cold_start: ColdStart | None = None
    watts: float | None = None
    profile: Profile | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind={self.kind!r}: choose from {get_args(Kind)}")
        if not (0 < self.slowdown < math.inf and self.memory_bytes > 0):
            raise ValueError(f"{self.name}: want a finite slowdown and memory above 0")
        if not self.most_message_bytes > 0:
            raise ValueError(f"{self.name}: want most_message_bytes above 0")
        if self.kind == "device" and not self.trusted:
            raise ValueError(f"{self.name}: the user's own device is always trusted")

    def with_profile(self, profile: Profile, source: str) -> "Tier":
        """The same with what was measured on it: times, and cold starts where there are any.

        A cold start builds the whole model whatever part of it the tier runs, so that the time for
        the whole holds for every segment. How long instances are kept stays as it was.
        """
        start = self.cold_start
        if start is not None and profile.cold is not None:
            start = ColdStart(
                fixed_ms=profile.cold.start_ms * self.pricing.stretch,
                load_mb_per_s=None,
                keep_alive_s=start.keep_alive_s,
                basis="measured" if self.pricing.stretch == 1 else "predicted",
                source=f"{profile.cold.ready_ms.n} fresh interpreters on the tier's own machine, "
                "without what a platform does before them",
            )
        return replace(self, profile=profile, cold_start=start, source=source)

    @property
    def factor(self) -> float:
        """By which times of the profile are multiplied here."""
        return (1.0 if self.profile else self.slowdown) * self.pricing.stretch

    @property
    def times_basis(self) -> Basis:
        """What the times of a whole head or tail rest on here."""
        if self.profile is None:
            return self.basis
        return "measured" if self.profile.measured and self.factor == 1 else "predicted"

    @property
    def room_bytes(self) -> float:
        """For weights and activations: what the machine has, and what of it was bought."""
        return min(self.memory_bytes, self.pricing.memory_bytes)
