"""Whether a recommendation survives when the constants behind it are wrong."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from offloading.carrying import Carrying
from offloading.constraints import Constraints
from offloading.figure import Figure
from offloading.option import Option
from offloading.plan import Placement
from offloading.planner import Planner
from offloading.profile import Profile
from offloading.scenario import Hop, Scenario
from offloading.tier import ColdStart, Tier
from offloading.workload import Hastened

SHARE = 0.3
BEST = 10  # placements at the head of a ranking, which are compared
LINK = ("up_mbps", "down_mbps", "rtt_ms", "jitter_ms")
TRAFFIC = ("up_usd_per_gb", "down_usd_per_gb", "radio_watts", "radio_watts_per_mbps")
Rows = NDArray[np.int64]
Some = TypeVar("Some", Hop, Tier)


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
        tau: Kendall's tau of the ranking of all placements within the limits, before and after;
            those that no longer keep them come last together. None where only one kept them.
        best: Share of the ten best that are still among the ten best.
    """

    constant: str
    recommended: Placement | None
    same: bool
    keeps: bool
    loss_ms: float | None
    tau: float | None
    best: float


@dataclass(frozen=True, kw_only=True)
class World:
    """What a planner is asked about, with everything in it that was assumed.

    Attributes:
        scenario: Tiers, hops, workload.
        profile: Of the model.
        options: What may leave the device.
    """

    scenario: Scenario
    profile: Profile
    options: tuple[Option, ...]


def changes(
    planner: Planner, constraints: Constraints, *, minimise: str = "latency_ms"
) -> list[Change]:
    """Plan again with each constant 30 % lower and higher.

    Constants that move neither the ranking nor anything that is minimised or limited are left out:
    that they change nothing is no sign that a plan is robust. Empty where nothing is recommended.
    """
    old = planner.ranked(constraints, minimise=minimise)
    if not old.size:
        return []
    asked = (minimise, *constraints.figures())
    world = World(scenario=planner.scenario, profile=planner.profile, options=planner.options)
    found = []
    for name, other in variations(world):
        again = Planner(other.scenario, other.profile, other.options, accuracy=planner.accuracy)
        new = again.ranked(constraints, minimise=minimise)
        moved = any(not _equal(planner.joined(each), again.joined(each)) for each in asked)
        if moved or not np.array_equal(old, new):
            found.append(_change(name, again, old, new))
    return found


def variations(world: World) -> Iterator[tuple[str, World]]:
    """The world with one constant changed, for each constant that it has."""
    for sign in (-1, 1):
        factor = 1 + sign * SHARE
        for name, other in _varied(world, factor):
            yield f"{name} {sign * SHARE:+.0%}", other


def _varied(world: World, factor: float) -> Iterator[tuple[str, World]]:
    place = world.scenario
    for i, tier in enumerate(place.tiers):
        for name, changed in _tiers(tier, factor):
            tiers = (*place.tiers[:i], changed, *place.tiers[i + 1 :])
            yield f"{tier.name} {name}", _with(world, tiers=tiers)
    for key, hop in place.hops.items():
        for name, way in _hops(hop, factor):
            yield f"{'>'.join(key)} {name}", _with(world, hops={**place.hops, key: way})
    hastened = Hastened(arrivals=place.workload.arrivals, factor=factor)
    load = dataclasses.replace(place.workload, arrivals=hastened)
    yield "request rate", _with(world, workload=load)
    yield from _runtime(world, factor)
    for name, options in _options(world.options, factor):
        yield name, dataclasses.replace(world, options=options)


def _tiers(tier: Tier, factor: float) -> Iterator[tuple[str, Tier]]:
    if tier.profile is None:  # its own profile was measured
        yield "slow-down", _times(tier, "slowdown", factor)
    price = tier.pricing.dearer(factor)
    if price is not tier.pricing:
        yield "price", dataclasses.replace(tier, pricing=price)
    for name in ("memory_bytes", "watts"):
        if _is_given(getattr(tier, name)):
            yield name, _times(tier, name, factor)
    if tier.cold_start is not None:
        for name in _assumed_of(tier.cold_start):
            value = getattr(tier.cold_start, name) * factor
            start = dataclasses.replace(tier.cold_start, **{name: value})
            yield f"cold start {name}", dataclasses.replace(tier, cold_start=start)


def _assumed_of(start: ColdStart) -> tuple[str, ...]:
    """Numbers of a cold start that nobody measured."""
    if start.basis == "assumed":
        return ("fixed_ms", "load_mb_per_s", "keep_alive_s")
    return ("keep_alive_s",)


def _hops(hop: Hop, factor: float) -> Iterator[tuple[str, Hop]]:
    for name in LINK:
        value = getattr(hop.link, name)
        if _is_given(value):
            link = dataclasses.replace(hop.link, **{name: value * factor})
            yield name, dataclasses.replace(hop, link=link)
    for name in TRAFFIC:
        if _is_given(getattr(hop, name)):
            yield name, _times(hop, name, factor)


def _runtime(world: World, factor: float) -> Iterator[tuple[str, World]]:
    """What the runtime takes everywhere: it was measured, but between processes of one machine."""
    profiles = [world.profile, *(tier.profile for tier in world.scenario.tiers if tier.profile)]
    if any(profile.carrying for profile in profiles):
        tiers = tuple(
            dataclasses.replace(tier, profile=_carrying(tier.profile, factor))
            if tier.profile
            else tier
            for tier in world.scenario.tiers
        )
        other = dataclasses.replace(world, profile=_carrying(world.profile, factor))
        yield "runtime", _with(other, tiers=tiers)


def _carrying(profile: Profile, factor: float) -> Profile:
    if profile.carrying is None:
        return profile
    times = {name: ms * factor for name, ms in dataclasses.asdict(profile.carrying).items()}
    return dataclasses.replace(profile, carrying=Carrying(**times))


def _options(
    options: tuple[Option, ...], factor: float
) -> Iterator[tuple[str, tuple[Option, ...]]]:
    """Leakage and accuracy of those of which they are assumed."""
    if any(option.leakage.basis == "assumed" for option in options):
        yield "assumed leakage", tuple(_leaking(option, factor) for option in options)
    if any(option.accuracy.basis == "assumed" for option in options):
        yield "assumed accuracy", tuple(_accurate(option, factor) for option in options)


def _leaking(option: Option, factor: float) -> Option:
    if option.leakage.basis != "assumed":
        return option
    leakage = _figure(option.leakage, min(option.leakage.value * factor, 1.0))
    return dataclasses.replace(option, leakage=leakage)


def _accurate(option: Option, factor: float) -> Option:
    if option.accuracy.basis != "assumed":
        return option
    accuracy = _figure(option.accuracy, min(option.accuracy.value * factor, 1.0))
    lost = option.accuracy.value - accuracy.value
    drop = _figure(option.accuracy_drop, max(option.accuracy_drop.value + lost, 0.0))
    return dataclasses.replace(option, accuracy=accuracy, accuracy_drop=drop)


def _figure(figure: Figure, value: float) -> Figure:
    return dataclasses.replace(figure, value=value)


def _change(name: str, again: Planner, old: Rows, new: Rows) -> Change:
    latency, before, after = again.joined("latency_ms"), int(old[0]), new[:1].tolist()
    return Change(
        constant=name,
        recommended=again.placement(again.index(after[0])) if after else None,
        same=after == [before],
        keeps=bool((new == before).any()),
        loss_ms=float(latency[before] - latency[after[0]]) if after else None,
        tau=_tau(old, new),
        best=float(np.isin(old[:BEST], new[:BEST]).mean()),
    )


def shaken(doubts: Sequence[Change]) -> Change | None:
    """The change after which the ranking differs most; None where there is no ranking."""
    ranked = [(change.tau, number) for number, change in enumerate(doubts)]
    least = min([(tau, number) for tau, number in ranked if tau is not None], default=None)
    return None if least is None else doubts[least[1]]


def _tau(old: Rows, new: Rows) -> float | None:
    if len(old) < 2:
        return None
    place = np.full(max(old.max(), new.max(initial=0)) + 1, len(new))
    place[new] = np.arange(len(new))
    found = float(kendalltau(np.arange(len(old)), place[old]).statistic)
    return 0.0 if np.isnan(found) else found  # none of them is left to be ranked


def _equal(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return np.array_equal(one, other, equal_nan=True)


def _is_given(value: float | None) -> bool:
    return value is not None and 0 < value < np.inf


def _times(item: Some, name: str, factor: float) -> Some:
    return dataclasses.replace(item, **{name: getattr(item, name) * factor})


def _with(world: World, **changed: Any) -> World:
    return dataclasses.replace(world, scenario=dataclasses.replace(world.scenario, **changed))
