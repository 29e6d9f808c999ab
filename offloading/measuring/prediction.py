"""What a plan predicts of a measurement on one machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from offloading.plan import Phase, Plan
from offloading.scenario import Scenario
from offloading.tier import Tier
from splitbench.link import Link

Links = Mapping[tuple[str, str], Link]


class PredictionError(ValueError):
    """Nothing can be said about this plan on this machine."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Times of one request, by the phases that the runtime tells apart.

    Attributes:
        phases_ms: ``head``, ``encode``, ``up``, ``decode``, ``middle``, ``tail``, ``down``.
        total_ms: Their sum.
    """

    phases_ms: Mapping[str, float]
    total_ms: float


def at_host_speed(plan: Plan, scenario: Scenario, *, stretch: float = 1.0) -> Prediction:
    """The prediction of a plan as if every tier were the machine of the profile.

    Times on each tier are divided by what the tier's slow-down multiplied them with. Requests that
    come one at a time wait for nobody and start nothing, so queues and cold starts fall away. The
    links stay as they are.

    Args:
        plan: As the planner made it.
        scenario: For which it was made.
        stretch: How much slower the head of the measurement is made.

    Raises:
        PredictionError: A tier has a profile of its own, so its times are not this machine's.
    """
    tiers = {tier.name: tier for tier in scenario.tiers}
    names = plan.placement.tiers
    for name in names:
        if tiers[name].profile is not None:
            raise PredictionError(
                f"{name} has a profile of its own: what it predicts cannot be measured here"
            )
    found: dict[str, float] = {}
    for phase in plan.phases:
        key = _runtime_name(phase, names)
        if key is None:
            continue
        slower = stretch if key == "head" else 1.0
        ms = phase.ms.value / _factor(phase, tiers) * slower
        found[key] = found.get(key, 0.0) + ms
    return Prediction(phases_ms=found, total_ms=sum(found.values()))


def over_links(
    links: Links, route: tuple[str, ...], *, sent_bytes: tuple[float, ...], reply_bytes: float
) -> float:
    """What a request and its reply take on the links of a route, by their formula.

    Args:
        links: By names of near and far tier.
        route: Tiers, the device first.
        sent_bytes: Of the message over each hop.
        reply_bytes: Of the reply over each.
    """
    hops = [links[hop] for hop in pairwise(route)]
    return sum(
        link.transfer_ms(sent, reply_bytes) for link, sent in zip(hops, sent_bytes, strict=True)
    )


def _factor(phase: Phase, tiers: Mapping[str, Tier]) -> float:
    """By what slow-downs have multiplied a phase."""
    if phase.kind == "network":
        return 1.0
    if phase.kind == "carry":
        near, _, far = phase.where.partition(">")
        return (tiers[near].factor + tiers[far].factor) / 2
    return tiers[phase.where].factor


def _runtime_name(phase: Phase, route: tuple[str, ...]) -> str | None:
    """Where the runtime counts a phase of a plan; None where it has no such thing."""
    if phase.kind in ("queue", "start"):
        return None
    if phase.kind in ("network", "carry"):
        near, _, far = phase.where.partition(">")
        return "up" if route.index(near) < route.index(far) else "down"
    if phase.kind in ("encode", "decode"):
        return phase.kind
    place = route.index(phase.where)
    if place == 0:
        return "head"
    return "tail" if place == len(route) - 1 else "middle"
