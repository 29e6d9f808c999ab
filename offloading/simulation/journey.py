"""A plan as a journey: what a request does on each tier and on each hop."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from offloading.plan import Phase, PhaseKind, Plan
from offloading.pricing import Use
from offloading.scenario import Hop, Scenario, ScenarioError
from offloading.simulation.durations import Sampler, lognormal
from offloading.tier import Tier

Array = NDArray[np.float64]
Durations = Mapping[tuple[PhaseKind, str], Sampler]
"""Samplers for single phases, by their kind and where they are."""

WORK: tuple[PhaseKind, ...] = ("decode", "compute", "encode")


@dataclass(frozen=True, kw_only=True)
class Stop:
    """What a request does on one tier.

    Attributes:
        tier: Where.
        phases: The work, with a sampler of its times.
        weight_bytes: Of the segment, which a cold start reads.
    """

    tier: Tier
    phases: tuple[tuple[Phase, Sampler], ...]
    weight_bytes: float

    @property
    def planned_ms(self) -> float:
        """Work as it was planned: the sum of medians."""
        return sum(phase.ms.value for phase, _ in self.phases)

    def work_ms(self, count: int, rng: np.random.Generator, *, kind: PhaseKind | None) -> Array:
        """Times of the work of so many requests, of one kind or of all kinds."""
        found = np.zeros(count)
        for phase, draw in self.phases:
            if kind in (None, phase.kind):
                found = found + draw(count, rng)
        return found

    def use(self, rate_per_s: float) -> Use:
        """What the tier was planned for."""
        busy, rate = np.array([self.planned_ms]), np.array([rate_per_s])
        return Use(busy_ms=busy, waiting_ms=0 * busy, rate_per_s=rate, start_ms=0 * busy)


@dataclass(frozen=True, kw_only=True)
class Way:
    """What a request does on one hop.

    Attributes:
        hop: The hop.
        up_ms, down_ms: Medians there and back, as planned.
        carry_ms: What the runtime takes besides, there and back.
    """

    hop: Hop
    up_ms: float
    down_ms: float
    carry_ms: tuple[float, float] = (0.0, 0.0)

    @property
    def delay_ms(self) -> tuple[float, float]:
        """There and back: half a round trip and the runtime, which take nobody's turn."""
        (there, back), (more, again) = self._half_ms, self.carry_ms
        return there + more, back + again

    @property
    def sending_ms(self) -> tuple[float, float]:
        """For which a message has the line to itself, there and back."""
        there, back = self._half_ms
        return self.up_ms - there, self.down_ms - back

    @property
    def _half_ms(self) -> tuple[float, float]:
        half = self.hop.link.rtt_ms / 2
        return min(half, self.up_ms), min(half, self.down_ms)

    @property
    def usd(self) -> float:
        """For the traffic of one request."""
        link, (up, down) = self.hop.link, self.sending_ms
        unit = link.up_ms(1.0) - link.up_ms(0.0), link.down_ms(1.0) - link.down_ms(0.0)
        return self.hop.usd(up / unit[0], down / unit[1])


@dataclass(frozen=True, kw_only=True)
class Journey:
    """A plan in a scenario.

    Attributes:
        stops: Tiers, the device first.
        ways: Hops between them.
        share_sent: Of the requests, that leave the device.
    """

    stops: tuple[Stop, ...]
    ways: tuple[Way, ...]
    share_sent: float

    @classmethod
    def of(cls, plan: Plan, scenario: Scenario, durations: Durations) -> "Journey":
        """Work and messages from the phases; tiers and links from the scenario.

        Raises:
            ScenarioError: The scenario lacks a tier or a hop of the plan, or a duration is given
                for a phase that the plan lacks.
        """
        tiers = {tier.name: tier for tier in scenario.tiers}
        missing = [name for name in plan.placement.tiers if name not in tiers]
        if missing:
            raise ScenarioError(f"{scenario.name} has no tier {', '.join(missing)}: it has {tiers}")
        unknown = {*durations} - {(phase.kind, phase.where) for phase in plan.phases}
        if unknown:
            raise ScenarioError(f"the plan has no phase {sorted(unknown)}")
        option = plan.placement.option
        return cls(
            stops=tuple(
                Stop(
                    tier=tiers[segment.tier],
                    phases=_work(plan, segment.tier, durations),
                    weight_bytes=segment.weight_bytes,
                )
                for segment in plan.placement.segments
            ),
            ways=tuple(_way(plan, scenario, a, b) for a, b in pairwise(plan.placement.tiers)),
            share_sent=0.0 if option is None else option.share_sent,
        )


def _work(plan: Plan, tier: str, durations: Durations) -> tuple[tuple[Phase, Sampler], ...]:
    return tuple(
        (p, durations.get((p.kind, p.where), lognormal(p.ms.value, p.tail_ms)))
        for p in plan.phases
        if p.where == tier and p.kind in WORK
    )


def _way(plan: Plan, scenario: Scenario, near: str, far: str) -> Way:
    if (near, far) not in scenario.hops:
        raise ScenarioError(f"{scenario.name} has no hop from {near} to {far}")
    times = {(p.kind, p.where): p.ms.value for p in plan.phases}
    there, back = f"{near}>{far}", f"{far}>{near}"
    return Way(
        hop=scenario.hops[near, far],
        up_ms=times.get(("network", there), 0.0),
        down_ms=times.get(("network", back), 0.0),
        carry_ms=(times.get(("carry", there), 0.0), times.get(("carry", back), 0.0)),
    )
