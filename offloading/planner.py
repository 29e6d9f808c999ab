"""The exact front of all placements, and the one to take under given limits."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import moocore
import numpy as np
from numpy.typing import NDArray

from offloading.constraints import Constraints, Met
from offloading.costing import IMPOSSIBLE, Costing
from offloading.enumeration import candidates
from offloading.figure import Figure
from offloading.option import Option
from offloading.outcome import Judged, Outcome
from offloading.plan import Placement, Plan
from offloading.profile import Profile, ProfileError
from offloading.scenario import Scenario
from offloading.tier import Tier
from offloading.writing import placement_of, plan_of

OBJECTIVES = ("latency_ms", "leakage", "usd_per_million", "accuracy_drop")
Index = tuple[int, int]  # which route, and which placement along it


class NoSuchPlanError(ValueError):
    """A placement that was asked for is not among those that are possible."""


class Planner:
    """Enumerates the placements of one model in one scenario.

    Args:
        scenario: Tiers, hops, workload.
        profile: Of the model.
        options: What may leave the device, at least one.
        accuracy: Of the undefended model.

    Raises:
        TooManyError: More placements than memory holds.
        ProfileError: An option is at a cut that was not profiled.
    """

    def __init__(
        self,
        scenario: Scenario,
        profile: Profile,
        options: Sequence[Option],
        *,
        accuracy: Figure,
    ) -> None:
        self.scenario = scenario
        self.profile = profile
        self.options = tuple(options)
        self.accuracy = accuracy
        self.costing = Costing(scenario, profile, self.options, accuracy=accuracy.value)
        self.routes = list(candidates(scenario, profile, self.options))
        self.estimates = [self.costing.estimate(found) for found in self.routes]

    def outcome(
        self, constraints: Constraints | None = None, *, minimise: str = "latency_ms"
    ) -> Outcome:
        """Plan under limits.

        Args:
            constraints: The limits.
            minimise: What the recommended plan has the least of: an objective. Ties go to the
                lower latency, then the lower leakage, price and loss of accuracy. Where it is not
                known, a placement is not recommended.

        Raises:
            ValueError: Not an objective.
            ProfileError: The cut that must stay on the device was not profiled, or the deadline is
                for a percentile that needs more runs of the profile.
        """
        limits = constraints or Constraints()
        met = self._met(limits)
        best = self._best(_all(met), minimise)
        return Outcome(
            recommended=None if best is None else self.plan(best),
            front=tuple(self._judged(index, met) for index in self.front),
            front_within=tuple(self._judged(index, met) for index in self._front(_all(met))),
            baselines={name: self._judged(i, met) for name, i in self._baselines()},
            considered=sum(len(found) for found in self.routes),
            within={name: int(kept.sum()) for name, kept in met.items()},
            nearest={} if best is not None else self._nearest(met, limits),
        )

    @cached_property
    def front(self) -> list[Index]:
        """Placements that no other one beats in everything, by latency."""
        return self._front(self.joined("possible").astype(bool))

    def front_within(self, constraints: Constraints) -> list[Index]:
        """Placements within the limits that no other one within them beats, by latency."""
        return self._front(self.keeps(constraints))

    def joined(self, name: str) -> NDArray[np.float64]:
        """One estimate of all placements, routes one after the other."""
        return np.concatenate([getattr(found, name) for found in self.estimates])

    def row(self, index: Index) -> int:
        """Where a placement is in what `joined` returns."""
        return sum(len(found) for found in self.routes[: index[0]]) + index[1]

    def index(self, row: int) -> Index:
        """The placement in one row of what `joined` returns."""
        for route, found in enumerate(self.routes):
            if row < len(found):
                return route, row
            row -= len(found)
        raise IndexError(row)

    def plan(self, index: Index) -> Plan:
        """One placement with its phases and figures."""
        route, i = index
        found, estimates = self.routes[route], self.estimates[route]
        return plan_of(self.costing, found, estimates, i, accuracy=self.accuracy)

    def keeps(self, constraints: Constraints) -> NDArray[np.bool_]:
        """Which placements keep all limits, in the order of `joined`."""
        return _all(self._met(constraints))

    def best(self, constraints: Constraints, *, minimise: str = "latency_ms") -> Index | None:
        """What `outcome` recommends, without all that it says besides.

        Raises:
            ValueError: Not an objective.
        """
        return self._best(self.keeps(constraints), minimise)

    def ranked(
        self, constraints: Constraints, *, minimise: str = "latency_ms"
    ) -> NDArray[np.int64]:
        """Rows of `joined` that keep all limits, the recommended placement first.

        Raises:
            ValueError: Not an objective.
        """
        return self._ranked(self.keeps(constraints), minimise)

    def placement(self, index: Index) -> Placement:
        """One placement without its figures."""
        return placement_of(self.costing, self.routes[index[0]], index[1])

    def find(self, *, tiers: Sequence[str], ends: Sequence[str], option: str | None) -> Index:
        """The placement with these tiers, the cuts at which all but the last end, and an option.

        Raises:
            NoSuchPlanError: There is none.
        """
        for r, found in enumerate(self.routes):
            if [tier.name for tier in found.route] != list(tiers):
                continue
            for i in range(len(found)):
                placed = placement_of(self.costing, found, i)
                named = placed.option.name if placed.option else None
                if [s.end for s in placed.segments[:-1]] == list(ends) and named == option:
                    return r, i
        raise NoSuchPlanError(
            f"no placement over {' > '.join(tiers)} that ends at {', '.join(ends) or 'the output'}"
            f" with {option or 'nothing sent'}"
        )

    def index_of(self, placement: Placement) -> Index:
        """Where an equal placement is among those of this planner.

        Raises:
            NoSuchPlanError: There is none.
        """
        return self.find(
            tiers=placement.tiers,
            ends=[s.end for s in placement.segments[:-1]],
            option=placement.option.name if placement.option else None,
        )

    def exceeded(self, index: Index, constraints: Constraints) -> tuple[str, ...]:
        """Names of the limits that a placement exceeds."""
        return self._judged(index, self._met(constraints)).exceeded

    def dominating(self, index: Index, constraints: Constraints) -> Index | None:
        """A placement within the limits that is nowhere worse, and somewhere better."""
        own = self._point(index)
        for other in self.front_within(constraints):
            point = self._point(other)
            if (point <= own).all() and (point < own).any():
                return other
        return None

    def check_runs(self, limits: Constraints) -> None:
        """Refuse a deadline for a percentile that the profiles do not know.

        Raises:
            ProfileError: They have too few runs for it.
        """
        if self.costing.runs < limits.least_runs:
            raise ProfileError(
                f"a profile of {self.costing.runs} runs does not know the {limits.percentile}th "
                f"percentile: make one with runs={limits.least_runs} or more, or take another "
                "limits.percentile"
            )

    def _front(self, allowed: NDArray[np.bool_]) -> list[Index]:
        """Of the placements that are allowed, those that no other of them beats, by latency."""
        rows = np.flatnonzero(allowed)
        if not rows.size:
            return []
        points = np.stack([self.joined(name)[rows] for name in OBJECTIVES], axis=1)
        kept = np.flatnonzero(moocore.is_nondominated(points))
        order = np.argsort(points[kept, 0], kind="stable")
        return [self.index(int(row)) for row in rows[kept[order]]]

    def _met(self, limits: Constraints) -> Met:
        self.check_runs(limits)
        place = self.profile.places[self.profile.at(limits.at_least).name] if limits.at_least else 0
        each = [
            limits.met(estimates, found.ends[:, 0], place)
            for found, estimates in zip(self.routes, self.estimates, strict=True)
        ]
        return {name: np.concatenate([met[name] for met in each]) for name in each[0]}

    def _best(self, allowed: NDArray[np.bool_], minimise: str) -> Index | None:
        rows = self._ranked(allowed, minimise)
        return self.index(int(rows[0])) if rows.size else None

    def _ranked(self, allowed: NDArray[np.bool_], minimise: str) -> NDArray[np.int64]:
        if minimise not in (*OBJECTIVES, "device_joules"):
            raise ValueError(f"minimise={minimise!r}: choose from {OBJECTIVES}, 'device_joules'")
        rows = np.flatnonzero(allowed & ~np.isnan(self.joined(minimise)))
        order = (minimise, *OBJECTIVES)
        keys = [self.joined(name)[rows] for name in reversed(order)]
        ranked: NDArray[np.int64] = rows[np.lexsort(keys)]
        return ranked

    def _nearest(self, met: Met, limits: Constraints) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for name, kept in met.items():
            value = limits.latency if name == "deadline_ms" else name
            if kept.all() or name in (*IMPOSSIBLE, "at_least"):
                continue
            others = _all({other: m for other, m in met.items() if other != name})
            values = self.joined(value)[others]
            known = values[~np.isnan(values)]
            found[name] = float(known.min()) if known.size else None
        return found

    def _baselines(self) -> Iterator[tuple[str, Index]]:
        yield "all on the device", self.index(0)
        reached = [found.route[1] for found in self.routes if len(found.route) == 2]
        if not reached:
            return
        where, tiers = _far(reached)
        for number, option in enumerate(self.options):
            if option.cut == "input":
                yield f"send {option.name} to the {where}", self._direct([number], tiers)
        ends = ("input", "output")
        plain = [n for n, o in enumerate(self.options) if o.exact and o.cut not in ends]
        if plain:
            yield "fastest undefended cut", self._direct(plain, reached)

    def _direct(self, options: Sequence[int], tiers: Sequence[Tier]) -> Index:
        """The fastest placement over device and one tier; an impossible one only if all are."""
        chosen = [
            np.isin(c.options, options)
            if len(c.route) == 2 and c.route[1] in tiers
            else np.zeros(len(c), dtype=bool)
            for c in self.routes
        ]
        rows = np.flatnonzero(np.concatenate(chosen))
        keys = self.joined("latency_ms")[rows], ~self.joined("possible")[rows].astype(bool)
        return self.index(int(rows[np.lexsort(keys)[0]]))

    def _judged(self, index: Index, met: Met) -> Judged:
        row = self.row(index)
        return Judged(self.plan(index), tuple(name for name, kept in met.items() if not kept[row]))

    def _point(self, index: Index) -> NDArray[np.float64]:
        row = self.row(index)
        return np.array([self.joined(name)[row] for name in OBJECTIVES])


def _far(reached: Sequence[Tier]) -> tuple[str, Sequence[Tier]]:
    """Where an image goes without a planner: to the cloud, else to the farthest tier in reach."""
    clouds = [tier for tier in reached if tier.kind == "cloud"]
    return ("cloud", clouds) if clouds else (reached[-1].name, reached[-1:])


def _all(met: Met) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.logical_and.reduce([*met.values()])
    return found
