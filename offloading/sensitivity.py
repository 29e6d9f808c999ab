"""Whether a recommendation survives when the constants behind it are wrong."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from offloading.constraints import Constraints
from offloading.plan import Placement
from offloading.planner import Planner
from offloading.scenario import Hop, Scenario
from offloading.tier import Tier

SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one wrong constant does.

    Attributes:
        constant: Which, and by how much.
        recommended: What would then be recommended; None where nothing keeps the limits.
        same: It is the placement that was recommended.
        keeps: The old placement still keeps all limits.
        loss_ms: How much longer the old placement then takes than the new one, in the median; None
            where there is no new one.
    """

    constant: str
    recommended: Placement | None
    same: bool
    keeps: bool
    loss_ms: float | None


def changes(
    planner: Planner, constraints: Constraints, *, minimise: str = "latency_ms"
) -> list[Change]:
    """Plan again with each constant 30 % lower and higher; empty where nothing is recommended."""
    first = planner.outcome(constraints, minimise=minimise).recommended
    if first is None:
        return []
    return [
        _change(name, planner, scenario, constraints, minimise, first.placement)
        for name, scenario in variations(planner.scenario)
    ]


def variations(scenario: Scenario) -> Iterator[tuple[str, Scenario]]:
    """The scenario with one constant changed, for each constant that it has."""
    for sign in (-1, 1):
        factor, said = 1 + sign * SHARE, f"{sign * SHARE:+.0%}"
        for i, tier in enumerate(scenario.tiers):
            slower = dataclasses.replace(tier, slowdown=tier.slowdown * factor)
            yield f"{tier.name} slow-down {said}", _with_tier(scenario, i, slower)
            price = tier.pricing.dearer(factor)
            if price is not tier.pricing:
                dearer = dataclasses.replace(tier, pricing=price)
                yield f"{tier.name} price {said}", _with_tier(scenario, i, dearer)
        for key, hop in scenario.hops.items():
            for field in ("up_mbps", "rtt_ms"):
                value = getattr(hop.link, field) * factor
                link = dataclasses.replace(hop.link, **{field: value})
                other = dataclasses.replace(hop, link=link)
                yield f"{'>'.join(key)} {field} {said}", _with_hop(scenario, key, other)


def _change(
    name: str,
    planner: Planner,
    scenario: Scenario,
    constraints: Constraints,
    minimise: str,
    old: Placement,
) -> Change:
    again = Planner(scenario, planner.profile, planner.options, accuracy=planner.accuracy)
    found = again.outcome(constraints, minimise=minimise).recommended
    index = again.index_of(old)
    then = again.plan(index).figures["latency_ms"].value
    return Change(
        constant=name,
        recommended=found.placement if found else None,
        same=found is not None and found.placement == old,
        keeps=not again.exceeded(index, constraints),
        loss_ms=then - found.figures["latency_ms"].value if found else None,
    )


def _with_tier(scenario: Scenario, place: int, tier: Tier) -> Scenario:
    tiers = [*scenario.tiers]
    tiers[place] = tier
    return dataclasses.replace(scenario, tiers=tuple(tiers))


def _with_hop(scenario: Scenario, key: tuple[str, str], hop: Hop) -> Scenario:
    return dataclasses.replace(scenario, hops={**scenario.hops, key: hop})
