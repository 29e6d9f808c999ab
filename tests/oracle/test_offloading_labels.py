"""Fronts by labels against all placements there are."""

from dataclasses import replace
from itertools import combinations_with_replacement

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloading.costing import Costing
from offloading.labels import Steps, cost, front, placements
from offloading.planner import Planner
from offloading.pricing import Owned
from offloading.scenario import Hop
from tests.unit.offloading_world import (
    ACCURACY,
    HEADS,
    LEAKS,
    NAMES,
    cloud,
    edge,
    link,
    options,
    phone,
    profile,
    scenario,
)

reproducible = settings(derandomize=True, database=None, deadline=None, max_examples=60)
sizes = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))


def random_steps(size, seed, *, most=6, missing=0.1):
    """Whole numbers, so that sums are exact; now and then no way, or no room."""
    count, tiers, costs = size
    rng = np.random.default_rng(seed)

    def some(*shape, axis):
        values = rng.integers(0, most, shape).astype(float)
        values[rng.random(shape[:axis]) < missing] = np.inf
        return values

    return Steps(
        work=some(count, tiers, costs, axis=2),
        hops=some(count, tiers, tiers, costs, axis=3),
        leakage=rng.integers(0, 5, (count, tiers)) / 4,
    )


def every(steps):
    """All placements with their costs and leakage."""
    count, tiers, _ = steps.work.shape
    for where in combinations_with_replacement(range(tiers), count):
        hops = [(0, 0)]
        for place, tier in enumerate(where):
            if tier != hops[-1][1]:
                hops.append((place, tier))
        sums, leaks = cost(steps, tuple(hops))
        if np.isfinite(sums).all():
            yield tuple(hops), (*sums, leaks)


def points(found):
    return np.array([(*each.costs, each.leakage) for each in found])


def brute_front(steps, limits=None):
    values = np.array([point for _, point in every(steps)]).reshape(-1, steps.work.shape[2] + 1)
    if limits is not None:
        values = values[(values <= limits).all(axis=1)]
    return np.unique(moocore.filter_dominated(values), axis=0) if len(values) else values


@reproducible
@given(sizes, st.integers(0, 10**6))
def test_the_front_is_that_of_all_placements(size, seed):
    steps = random_steps(size, seed)
    found, wanted = front(steps), brute_front(steps)
    assert len(found) == len(wanted)
    if found:
        np.testing.assert_array_equal(points(found), wanted)
        reference = wanted.max(axis=0) + 1
        assert moocore.hypervolume(points(found), ref=reference) == pytest.approx(
            moocore.hypervolume(wanted, ref=reference)
        )


@reproducible
@given(sizes, st.integers(0, 10**6))
def test_each_placement_costs_what_it_says(size, seed):
    steps = random_steps(size, seed)
    known = dict(every(steps))
    for each in front(steps):
        assert known[each.hops] == (*each.costs, each.leakage)


@reproducible
@given(sizes, st.integers(0, 10**6), st.integers(0, 30), st.integers(0, 4))
def test_the_front_within_limits_is_that_of_all_placements_within_them(size, seed, most, leaks):
    steps = random_steps(size, seed)
    limits = [float(most)] * size[2] + [leaks / 4]
    found, wanted = front(steps, limits=limits), brute_front(steps, limits)
    assert len(found) == len(wanted)
    if found:
        np.testing.assert_array_equal(points(found), wanted)


def least(steps, limits=None):
    """Of each cost and of leakage, over the front; infinite where there is none."""
    found = front(steps, limits=limits)
    return points(found).min(axis=0) if found else np.full(steps.work.shape[2] + 1, np.inf)


@reproducible
@given(sizes, st.integers(0, 10**6), st.integers(1, 25))
def test_a_tighter_limit_never_helps(size, seed, most):
    steps = random_steps(size, seed)
    tight, loose = ([m] * size[2] + [1.0] for m in (most - 1, most))
    assert (least(steps, tight) >= least(steps, loose)).all()
    assert (least(steps, loose) >= least(steps)).all()


@reproducible
@given(sizes, st.integers(0, 10**6))
def test_slower_hops_never_help(size, seed):
    steps = random_steps(size, seed)
    slower = Steps(work=steps.work, hops=2 * steps.hops, leakage=steps.leakage)
    assert (least(slower) >= least(steps)).all()


@reproducible
@given(sizes, st.integers(0, 10**6))
def test_one_more_tier_never_hurts(size, seed):
    count, tiers, costs = size
    more = random_steps((count, tiers + 1, costs), seed)
    fewer = Steps(
        work=more.work[:, :tiers],
        hops=more.hops[:, :tiers, :tiers],
        leakage=more.leakage[:, :tiers],
    )
    before, after = points(front(fewer)), points(front(more))
    for point in before:
        assert (after <= point).all(axis=1).any()


def test_there_are_as_many_placements_as_the_binomial_says():
    steps = random_steps((6, 3, 1), 0, missing=0.0)
    assert len(list(every(steps))) == placements(6, 3) == 28
    assert placements(70, 3) == 2556
    assert placements(70, 4) == 62_196


def test_seventy_steps_on_six_tiers_need_no_list():
    assert placements(70, 6) > 10_000_000
    steps = random_steps((70, 6, 1), 1, most=50, missing=0.0)
    found = front(steps)
    assert 1 <= len(found) <= 5  # leakage has five values
    assert cost(steps, found[0].hops) == (found[0].costs, found[0].leakage)


def test_nothing_is_possible_where_no_tier_has_room():
    nowhere = Steps(
        work=np.full((2, 2, 1), np.inf), hops=np.zeros((2, 2, 2, 1)), leakage=np.zeros((2, 2))
    )
    assert front(nowhere) == []


@pytest.mark.parametrize(
    "change",
    [
        {"work": np.zeros((2, 2))},
        {"hops": np.zeros((2, 2, 1))},
        {"leakage": np.zeros((3, 2))},
        {"work": -np.ones((2, 2, 1))},
        {"leakage": np.full((2, 2), np.nan)},
    ],
)
def test_costs_that_do_not_fit_together_are_refused(change):
    given_ = {"work": np.ones((2, 2, 1)), "hops": np.ones((2, 2, 2, 1)), "leakage": np.ones((2, 2))}
    with pytest.raises(ValueError, match=r"want|negative"):
        Steps(**{**given_, **change})


def test_limits_and_placements_of_another_size_are_refused():
    steps = random_steps((2, 2, 1), 0)
    with pytest.raises(ValueError, match="limits"):
        front(steps, limits=[1.0])
    with pytest.raises(ValueError, match="begin"):
        cost(steps, ((0, 0), (1, 0)))


@pytest.mark.parametrize(("trusted", "points_at_least"), [(True, 3), (False, 5)])
def test_the_planner_finds_the_same_front_where_costs_add_up(trusted, points_at_least):
    """Three tiers, no queues, and machines that are owned: latency and traffic are sums."""
    tiers = (
        phone(),
        edge(trusted=trusted, pricing=Owned()),
        cloud(pricing=Owned()),
    )
    world = scenario(*tiers, rate=0.001)
    paid = {
        ("phone", "edge"): Hop(link=link(rtt=4.0), up_usd_per_gb=1.0),
        ("phone", "cloud"): Hop(link=link(rtt=20.0), up_usd_per_gb=0.01),
        ("edge", "cloud"): Hop(link=link(up=200.0), up_usd_per_gb=0.1),
    }
    world = replace(world, hops=paid)
    sizes = Costing(world, profile(), (), accuracy=1.0).plain_bytes
    plain = [
        replace(each, payload_bytes=float(sizes[NAMES.index(each.cut)]))
        for each in options()
        if each.exact
    ]
    planner = Planner(world, profile(), plain, accuracy=ACCURACY)
    times = np.diff(HEADS)
    work = np.zeros((4, 3, 2))
    work[:, :, 0] = times[:, None] * np.array([4.0, 2.0, 1.0])
    hops = np.full((4, 3, 3, 2), np.inf)
    names = [tier.name for tier in tiers]
    for (near, far), hop in paid.items():
        for place in range(4):
            ways = hop.link.transfer_ms(sizes[place]), 1e6 * hop.usd(sizes[place], 0)
            hops[place, names.index(near), names.index(far)] = ways
    leakage = np.zeros((4, 3))
    leakage[:, 1] = 0 if trusted else LEAKS
    leakage[:, 2] = LEAKS
    found = points(front(Steps(work=work, hops=hops, leakage=leakage)))
    figures = ("latency_ms", "usd_per_million", "leakage")
    planned = np.stack([planner.joined(name) for name in figures], axis=1)
    wanted = np.unique(moocore.filter_dominated(planned.round(9)), axis=0)
    np.testing.assert_allclose(np.unique(found.round(9), axis=0), wanted, atol=1e-8)
    assert len(wanted) >= points_at_least
