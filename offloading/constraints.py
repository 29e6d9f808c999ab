"""What a plan must not exceed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from offloading.costing import IMPOSSIBLE, Estimates
from offloading.plan import Plan
from offloading.profile import Profile
from offloading.spread import TAILS, least_runs


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Limits; infinite ones are none.

    Attributes:
        deadline_ms: For `percentile` of the requests.
        percentile: 50, 90, 95 or 99.
        leakage: Most L at any tier that is not trusted.
        usd_per_million: Most dollars for a million requests.
        accuracy_drop: Most loss of accuracy, as a share.
        device_joules: Most energy on the device for a request; what is not known exceeds it.
        at_least: The cut up to which everything stays on the device; None where nothing must.
    """

    deadline_ms: float = math.inf
    percentile: int = 95
    leakage: float = math.inf
    usd_per_million: float = math.inf
    accuracy_drop: float = math.inf
    device_joules: float = math.inf
    at_least: str | None = None

    def __post_init__(self) -> None:
        if self.percentile not in (50, *TAILS):
            raise ValueError(f"percentile={self.percentile}: choose 50, 90, 95 or 99")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not value >= 0:
                raise ValueError(f"{item.name}={value}: must not be negative")

    @property
    def latency(self) -> str:
        """The estimate that the deadline is for."""
        return "latency_ms" if self.percentile == 50 else f"latency_p{self.percentile}_ms"

    @property
    def tail(self) -> str:
        """The percentile to show beside the median: that of the deadline, or the 95th."""
        return "latency_p95_ms" if self.percentile == 50 else self.latency

    @property
    def least_runs(self) -> int:
        """Runs that a profile needs for the percentile of the deadline, where there is one."""
        free = math.isinf(self.deadline_ms) or self.percentile == 50
        return 1 if free else least_runs(self.percentile)

    @property
    def none(self) -> bool:
        """Whether there are no limits but what is possible."""
        return self == Constraints(percentile=self.percentile)

    def met(self, found: Estimates, device_ends: NDArray[np.int64], place: int) -> "Met":
        """Which placements meet which limit.

        Args:
            found: Their estimates.
            device_ends: Place at which the device's part of each ends, ``(n,)``.
            place: Of the cut `at_least`; 0 where there is none.
        """
        limits: Met = {
            **{name: getattr(found, name) for name in IMPOSSIBLE},
            "deadline_ms": np.ones_like(found.possible),
            "leakage": found.leakage <= self.leakage,
            "usd_per_million": found.usd_per_million <= self.usd_per_million,
            "accuracy_drop": found.accuracy_drop <= self.accuracy_drop,
            "at_least": device_ends >= place,
        }
        if math.isfinite(self.deadline_ms):
            limits["deadline_ms"] = getattr(found, self.latency) <= self.deadline_ms
        if math.isfinite(self.device_joules):
            limits["device_joules"] = found.device_joules <= self.device_joules
        return limits

    def exceeded(self, plan: Plan, profile: Profile) -> tuple[str, ...]:
        """Names of the limits that a plan exceeds, by its own figures.

        Args:
            plan: As it was made, or read.
            profile: Of its model, which knows the order of the cuts.

        Raises:
            ProfileError: A cut was not profiled.
            PlanError: The plan lacks a figure.
        """
        ends = np.array([profile.place(plan.placement.segments[0].end)])
        place = profile.place(self.at_least) if self.at_least else 0
        met = self.met(Estimates.of(plan), ends, place)
        return tuple(name for name, kept in met.items() if not kept[0])

    def figures(self) -> tuple[str, ...]:
        """Names of the estimates that are limited, and of those that tell what is possible."""
        limited = [
            name
            for name in ("leakage", "usd_per_million", "accuracy_drop", "device_joules")
            if math.isfinite(getattr(self, name))
        ]
        if math.isfinite(self.deadline_ms):
            limited.append(self.latency)
        return (*limited, *IMPOSSIBLE)

    def words(self) -> str:
        """The limits that there are, for a reader."""
        units = {
            "leakage": f"L <= {self.leakage:g}",
            "deadline_ms": f"p{self.percentile} <= {self.deadline_ms:g} ms",
            "usd_per_million": f"${self.usd_per_million:g} per million",
            "accuracy_drop": f"accuracy drop <= {self.accuracy_drop:.1%}",
            "device_joules": f"{self.device_joules:g} J on the device",
        }
        said = [text for name, text in units.items() if math.isfinite(getattr(self, name))]
        if self.at_least:
            said.append(f"up to {self.at_least} on the device")
        return ", ".join(said) or "no limits"


def strictest(limits: Sequence[Constraints], profile: Profile) -> Constraints:
    """All of several limits: the least of each number, and the deepest cut that must stay.

    Args:
        limits: At least one; the percentile is that of the first.
        profile: Knows the order of the cuts.

    Raises:
        ProfileError: A cut that must stay was not profiled.
    """
    numbers = [item.name for item in fields(Constraints) if item.default == math.inf]
    least = {name: min(getattr(each, name) for each in limits) for name in numbers}
    stay = [each.at_least for each in limits if each.at_least]
    return replace(limits[0], **least, at_least=max(stay, key=profile.place, default=None))


Met = dict[str, NDArray[np.bool_]]
