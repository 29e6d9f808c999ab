"""What planning found, and how each plan stands to the limits."""

from collections.abc import Mapping
from dataclasses import dataclass

from offloading.plan import Plan


@dataclass(frozen=True)
class Judged:
    """A plan, and which limits it exceeds.

    Attributes:
        plan: The plan.
        exceeded: Names of limits.
    """

    plan: Plan
    exceeded: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What planning found.

    Attributes:
        recommended: The best placement within the limits; None where there is none.
        front: Placements that no other one beats in everything, by latency.
        front_within: The same of the placements that keep all limits: nothing that keeps them, too,
            beats one of these. It holds whatever of the front keeps them, and is the front where
            there are no limits.
        baselines: What people do without a planner, by name, whether it is possible or not.
        considered: How many placements there are.
        within: How many of them keep each limit.
        nearest: Where nothing keeps all limits: by limit, the least value that is to be had while
            all the others are kept (None where the others alone are too much).
    """

    recommended: Plan | None
    front: tuple[Judged, ...]
    front_within: tuple[Judged, ...]
    baselines: Mapping[str, Judged]
    considered: int
    within: Mapping[str, int]
    nearest: Mapping[str, float | None]

    @property
    def listed(self) -> tuple[Judged, ...]:
        """The front, then what is on the front within the limits alone; each by latency."""
        known = {judged.plan.placement for judged in self.front}
        return (*self.front, *(j for j in self.front_within if j.plan.placement not in known))
