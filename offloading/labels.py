"""The exact front of placements along a chain, without listing all of them.

`offloading.enumeration` lists every placement, which is the better way while they fit into memory:
it may price whole segments. With many cuts and many tiers there are too many, and where costs add
up step by step nothing is lost by keeping only what may still win: of two ways to be at the same
place on the same tier, one that is nowhere better is never continued (Martins, 1984). Leakage is a
maximum, which keeps that order as well as a sum does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import moocore
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Hops = tuple[tuple[int, int], ...]  # place at which it begins, and tier


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What each step of a model costs on each tier, and each hop at each place.

    Attributes:
        work: ``(steps, tiers, costs)``: of each step on each tier; infinite where it cannot run.
        hops: ``(steps, tiers, tiers, costs)``: before each step, from one tier to a later one, the
            way back of the reply included; infinite where there is no way.
        leakage: ``(steps, tiers)``: L of what is sent before each step, at the tier that it goes
            to; 0 where the tier is trusted.
    """

    work: Array
    hops: Array
    leakage: Array

    def __post_init__(self) -> None:
        if self.work.ndim != 3 or 0 in self.work.shape:
            raise ValueError(f"work {self.work.shape}: want (steps, tiers, costs)")
        steps, tiers, costs = self.work.shape
        shapes = (steps, tiers, tiers, costs), (steps, tiers)
        if (self.hops.shape, self.leakage.shape) != shapes:
            raise ValueError(
                f"hops {self.hops.shape}, leakage {self.leakage.shape}: want {shapes} for work "
                f"{self.work.shape}"
            )
        for name in ("work", "hops", "leakage"):
            if not (getattr(self, name) >= 0).all():
                raise ValueError(f"{name}: negative, or not a number")


@dataclass(frozen=True)
class Labelled:
    """One placement of the front.

    Attributes:
        hops: For each tier in use, the step at which it begins and its number, the device first
            even where it runs nothing.
        costs: Sums, in the order of `Steps`.
        leakage: The maximum.
    """

    hops: Hops
    costs: tuple[float, ...]
    leakage: float


@dataclass(frozen=True)
class _Labels:
    """Ways to be at one place on one tier: values ``(n, costs + 1)``, leakage last."""

    values: Array
    ways: tuple[Hops, ...]


def front(steps: Steps, *, limits: Sequence[float] | None = None) -> list[Labelled]:
    """All placements that no other one beats in everything, one for each point.

    The image is on tier 0. Tiers are visited in ascending order, each that is entered runs at least
    one step, and some may be left out.

    Args:
        steps: Costs.
        limits: Most of each cost, then of leakage; infinite where there is none. Given none, all.

    Returns:
        By the first cost, then the second, and so on.

    Raises:
        ValueError: Not as many limits as there are costs and leakage.
    """
    count, tiers, costs = steps.work.shape
    most = np.full(costs + 1, np.inf) if limits is None else np.asarray(limits, dtype=np.float64)
    if most.shape != (costs + 1,):
        raise ValueError(f"{most.shape} limits for {costs} costs and leakage")
    at: list[_Labels | None] = [_Labels(np.zeros((1, costs + 1)), (((0, 0),),))]
    at += [None] * (tiers - 1)
    for place in range(count):
        at = [_reach(steps, at, place, tier, most) for tier in range(tiers)]
    ended = _best([labels for labels in at if labels is not None], most)
    if ended is None:
        return []
    order = np.lexsort(ended.values.T[::-1])
    return [
        Labelled(ended.ways[i], tuple(ended.values[i, :-1].tolist()), float(ended.values[i, -1]))
        for i in order
    ]


def cost(steps: Steps, hops: Hops) -> tuple[tuple[float, ...], float]:
    """Sums and leakage of one placement.

    Raises:
        ValueError: It does not begin on tier 0, or goes back.
    """
    forwards = all(a <= b and s < t for (a, s), (b, t) in pairwise(hops))
    if hops[:1] != ((0, 0),) or not forwards:
        raise ValueError(f"{hops}: want to begin with (0, 0), and to go on from there")
    count, _, costs = steps.work.shape
    total, leaks = np.zeros(costs), 0.0
    ends = [*(place for place, _ in hops[1:]), count]
    for k, ((begin, tier), end) in enumerate(zip(hops, ends, strict=True)):
        if k:
            total = total + steps.hops[begin, hops[k - 1][1], tier]
            leaks = max(leaks, float(steps.leakage[begin, tier]))
        total = total + steps.work[begin:end, tier].sum(axis=0)
    return tuple(total.tolist()), leaks


def _reach(
    steps: Steps, at: Sequence[_Labels | None], place: int, tier: int, most: Array
) -> _Labels | None:
    """Ways to have run the step at a place on a tier."""
    found = []
    for near in range(tier + 1):
        labels = at[near]
        if labels is None:
            continue
        values, ways = labels.values.copy(), labels.ways
        values[:, :-1] += steps.work[place, tier]
        if near < tier:
            values[:, :-1] += steps.hops[place, near, tier]
            values[:, -1] = np.maximum(values[:, -1], steps.leakage[place, tier])
            ways = tuple((*way, (place, tier)) for way in ways)
        found.append(_Labels(values, ways))
    return _best(found, most)


def _best(parts: Sequence[_Labels], most: Array) -> _Labels | None:
    """Of all these ways, those that no other one beats, within the limits."""
    if not parts:
        return None
    values = np.concatenate([part.values for part in parts])
    ways = [way for part in parts for way in part.ways]
    rows = np.flatnonzero((values <= most).all(axis=1) & np.isfinite(values).all(axis=1))
    if not rows.size:
        return None
    kept = rows[moocore.is_nondominated(values[rows], keep_weakly=False)]
    return _Labels(values[kept], tuple(ways[i] for i in kept))


def placements(steps: int, tiers: int) -> int:
    """How many placements there are along a chain with all hops: whether to enumerate or not."""
    return math.comb(steps + tiers - 1, tiers - 1)
