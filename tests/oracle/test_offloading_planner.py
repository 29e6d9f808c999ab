"""The planner against hand-worked cases, brute force, and what must hold of any planner."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.scenario import only
from offloading import enumeration
from offloading.constraints import Constraints, strictest
from offloading.enumeration import TooManyError, candidates
from offloading.planner import OBJECTIVES, NoSuchPlanError, Planner
from offloading.pricing import Function, Owned
from offloading.profile import ProfileError
from offloading.queueing import wait_percentile_ms
from tests.unit.offloading_world import (
    ACCURACY,
    NAMES,
    cloud,
    edge,
    function,
    link,
    option,
    options,
    phone,
    profile,
    scenario,
)


def planner(*tiers, given_options=None, **asked):
    place = scenario(*(tiers or (phone(), cloud())), **asked)
    return Planner(place, profile(), given_options or options(), accuracy=ACCURACY)


CHAIN = profile()
AMPLE = planner(phone(), edge(), function(), cloud())
limits_of_any_kind = st.builds(
    Constraints,
    deadline_ms=st.one_of(st.just(math.inf), st.floats(10, 60)),
    percentile=st.sampled_from([50, 90, 95, 99]),
    leakage=st.floats(0, 1),
    usd_per_million=st.one_of(st.just(math.inf), st.floats(0, 1500)),
    accuracy_drop=st.sampled_from([0.0, 0.01, 0.02, math.inf]),
    at_least=st.sampled_from([None, *NAMES]),
)


def every(made):
    return [made.plan((r, i)) for r, found in enumerate(made.routes) for i in range(len(found))]


def values(plan):
    return tuple(plan.figures[name].value for name in OBJECTIVES)


class TestOneRequest:
    def test_takes_the_sum_of_hand_worked_phases(self):
        made = planner()
        found = made.plan(made.find(tiers=["phone", "cloud"], ends=["second"], option="undefended"))
        times = {(p.kind, p.where): p.ms.value for p in found.phases}
        wait = times.pop(("queue", "phone"), 0.0) + times.pop(("queue", "cloud"), 0.0)
        assert times == pytest.approx(
            {
                ("compute", "phone"): 4 * 5.0,
                ("network", "phone>cloud"): 5.0 + 4.0,  # half a round trip, and 4000 bytes
                ("compute", "cloud"): 5.0,
                ("network", "cloud>phone"): 5.0,
            }
        )
        total = 20 + 9 + 5 + 5 + wait
        assert found.figures["latency_ms"].value == pytest.approx(total)
        assert wait < 0.1

    def test_on_the_device_alone_takes_its_time_and_costs_nothing(self):
        made = planner()
        found = made.plan((0, 0))
        assert found.placement.stays
        assert found.figures["latency_ms"].value == pytest.approx(40.0, rel=0.01)
        assert found.figures["usd_per_million"].value == 0
        assert found.figures["leakage"].value == 0
        assert found.figures["payload_bytes"].value == 0

    def test_pays_the_rent_of_a_machine_over_the_requests(self):
        made = planner()
        found = made.plan(made.find(tiers=["phone", "cloud"], ends=["input"], option="undefended"))
        # 3.60 dollars an hour are a thousandth of a dollar a second, at one request a second.
        assert found.figures["usd_per_million"].value == pytest.approx(1000.0)

    def test_pays_a_function_for_its_milliseconds_with_its_cold_starts(self):
        made = planner(phone(), function())
        at = made.find(tiers=["phone", "function"], ends=["second"], option="undefended")
        share = math.exp(-600.0)
        billed = math.ceil(5.0 + share * 1000 - 1e-9)
        dollars = 2e-7 + 1e-5 * 1769 / 1024 * billed / 1000
        assert made.plan(at).figures["usd_per_million"].value == pytest.approx(1e6 * dollars)

    def test_pays_a_function_for_waiting_on_the_tier_behind_it(self):
        far = cloud(pricing=function().pricing, cold_start=None)
        near = function(cold_start=None)
        place = scenario(phone(), near, far)
        made = Planner(place, profile(), options(), accuracy=ACCURACY)
        at = made.find(
            tiers=["phone", "function", "cloud"], ends=["first", "third"], option="undefended"
        )
        beyond = 5.0 + (made.costing.plain_bytes[3]) / 1000 + 1.0 + 5.0  # up, the tail, down
        each = [math.ceil(7.0 + beyond - 1e-9), 1]
        dollars = 2 * 2e-7 + 1e-5 * 1769 / 1024 * sum(each) / 1000
        assert made.plan(at).figures["usd_per_million"].value == pytest.approx(1e6 * dollars)

    def test_pays_for_bytes_in_the_direction_that_is_billed(self):
        made = planner(reply=1000, egress=0.09)
        free = planner(reply=1000)
        at = made.find(tiers=["phone", "cloud"], ends=["second"], option="undefended")
        more = made.plan(at).figures["usd_per_million"].value
        assert more - free.plan(at).figures["usd_per_million"].value == pytest.approx(
            1e6 * 0.09 * 1000 / 1e9
        )

    def test_with_exits_is_the_mean_over_images_that_go_and_that_stay(self):
        kept = option("second", 0.5, name="exits", exact=False, share=0.25)
        made = planner(given_options=(*options(), kept))
        ends = {"tiers": ["phone", "cloud"], "ends": ["second"]}
        whole = made.plan(made.find(**ends, option="undefended")).figures
        some = made.plan(made.find(**ends, option="exits")).figures
        assert some["latency_ms"].value == pytest.approx(
            0.25 * whole["latency_ms"].value + 0.75 * 20.0, rel=0.01
        )
        assert some["payload_bytes"].value == pytest.approx(0.25 * 4000)
        assert some["leakage"].value == 0.5  # of those that are sent

    def test_with_exits_pays_a_function_only_for_what_is_sent(self):
        kept = option("second", 0.5, name="exits", exact=False, share=0.25)
        made = planner(phone(), function(), given_options=(kept,), rate=0.01)
        at = made.find(tiers=["phone", "function"], ends=["second"], option="exits")
        cold = math.exp(-0.01 * 0.25 * 600)  # fewer requests come, and more of them start one
        billed = math.ceil(5.0 + cold * (1000 + 2000 / 1e5))
        assert billed == 229
        dollars = 0.25 * (2e-7 + 1e-5 * 1769 / 1024 * billed / 1000)
        assert made.plan(at).figures["usd_per_million"].value == pytest.approx(1e6 * dollars)

    @pytest.mark.parametrize(("share", "machines"), [(1.0, 8), (0.25, 2)])
    def test_with_exits_rents_as_many_machines_as_what_is_sent_keeps_busy(self, share, machines):
        """1000 requests a second of 5 ms keep five busy, a quarter of them 1.25: each to 70 %."""
        kept = option("second", 0.5, name="exits", exact=False, share=share)
        place = scenario(phone(), cloud())
        load = dataclasses.replace(place.workload, devices=1000)
        place = dataclasses.replace(place, workload=load)
        made = Planner(place, profile(), (kept,), accuracy=ACCURACY)
        at = made.find(tiers=["phone", "cloud"], ends=["second"], option="exits")
        # a thousandth of a dollar a second for each machine, over a thousand requests
        assert made.plan(at).figures["usd_per_million"].value == pytest.approx(machines)

    def test_rests_on_measured_times_where_they_were_measured(self):
        own = profile()
        derived = dataclasses.replace(own, measured=False)
        made = planner(phone(profile=own), edge(profile=own), cloud(profile=derived))
        at = made.find(
            tiers=["phone", "edge", "cloud"], ends=["first", "second"], option="undefended"
        )
        basis = {p.where: p.ms.basis for p in made.plan(at).phases if p.kind == "compute"}
        assert basis == {"phone": "measured", "edge": "predicted", "cloud": "predicted"}
        direct = made.find(tiers=["phone", "edge"], ends=["first"], option="undefended")
        basis = {p.where: p.ms.basis for p in made.plan(direct).phases if p.kind == "compute"}
        assert basis == {"phone": "measured", "edge": "measured"}

    def test_counts_energy_of_computing_and_of_sending(self):
        place = scenario(phone(), cloud())
        key = ("phone", "cloud")
        hop = dataclasses.replace(place.hops[key], radio_watts=1.0)
        made = Planner(
            dataclasses.replace(place, hops={key: hop}), profile(), options(), accuracy=ACCURACY
        )
        at = made.find(tiers=["phone", "cloud"], ends=["second"], option="undefended")
        assert made.plan(at).figures["device_joules"].value == pytest.approx(
            2.0 * 0.020 + 1.0 * 0.004
        )

    def test_has_no_energy_where_nobody_knows_what_the_radio_takes(self):
        made = planner()
        at = made.find(tiers=["phone", "cloud"], ends=["second"], option="undefended")
        assert "device_joules" not in made.plan(at).figures
        assert made.plan((0, 0)).figures["device_joules"].value == pytest.approx(2.0 * 0.040)

    def test_is_not_taken_for_an_energy_that_nobody_knows(self):
        limits = Constraints(device_joules=1e9)
        unknown, known = planner(), planner(radio_watts=1.0)
        assert unknown.outcome(minimise="device_joules").recommended.placement.stays
        assert unknown.outcome(limits).recommended.placement.stays
        assert unknown.outcome(limits).within["device_joules"] == 1
        chosen = known.outcome(minimise="device_joules").recommended
        assert chosen.placement.segments[0].end == "input"
        assert chosen.figures["device_joules"].value == pytest.approx(1.0 * 0.001)
        assert known.outcome(limits).within["device_joules"] == known.outcome().considered

    def test_is_not_recommended_for_its_energy_where_no_power_is_known(self):
        made = planner(phone(watts=None), cloud(), radio_watts=1.0)
        assert made.outcome(minimise="device_joules").recommended is None
        found = made.outcome(Constraints(device_joules=1e9))
        assert (found.recommended, found.nearest) == (None, {"device_joules": None})

    def test_is_refused_where_the_device_does_not_keep_up(self):
        made = planner(rate=50.0)  # 40 ms each, 25 per second at most
        assert not made.estimates[0].possible[0]
        assert math.isinf(made.estimates[0].latency_ms[0])
        assert made.outcome().recommended is not None

    def test_is_refused_where_memory_does_not_suffice(self):
        made = planner(phone(memory_bytes=2500.0), cloud())
        kept = [p for p in every(made) if made.exceeded(made.index_of(p.placement), Constraints())]
        assert {p.placement.segments[0].end for p in kept} == {"third", "output", "second", "first"}


class TestFunctions:
    @pytest.mark.parametrize(("memory_mb", "fits"), [(841, True), (840, False), (128, False)])
    def test_hold_what_was_bought_beside_the_runtime(self, memory_mb, fits):
        """Half of the model is 200.00004 MB with what it makes; 191 MB of memory are 200.28."""
        price = Function(
            usd_per_gb_second=1e-5, usd_per_request=0.0, memory_mb=memory_mb, runtime_mb=650
        )
        place = scenario(phone(), function(pricing=price, memory_bytes=1e12))
        made = Planner(place, profile(params=100_000_000), options(), accuracy=ACCURACY)
        at = made.find(tiers=["phone", "function"], ends=["second"], option="undefended")
        assert made.exceeded(at, Constraints()) == (() if fits else ("memory",))
        whole = made.find(tiers=["phone", "function"], ends=["input"], option="undefended")
        assert made.exceeded(whole, Constraints()) == ("memory",)

    def test_are_sent_no_longer_messages_than_they_accept(self):
        made = planner(phone(), edge(), function(most_message_bytes=4000.0))
        for cut, exceeded in (("input", ()), ("first", ("message",)), ("second", ())):
            at = made.find(tiers=["phone", "function"], ends=[cut], option="undefended")
            assert made.exceeded(at, Constraints()) == exceeded
        for cut, exceeded in (("first", ("message",)), ("third", ())):
            ends = ["input", cut]
            at = made.find(tiers=["phone", "edge", "function"], ends=ends, option="undefended")
            assert made.exceeded(at, Constraints()) == exceeded

    def test_run_the_last_part_only(self):
        made = planner(phone(), function(), cloud())
        ends = ["first", "second"]
        at = made.find(tiers=["phone", "function", "cloud"], ends=ends, option="undefended")
        assert made.exceeded(at, Constraints()) == ("functions",)
        assert not any("function" in p.placement.tiers[:-1] for p in map(made.plan, made.front))
        last = made.find(tiers=["phone", "function"], ends=["first"], option="undefended")
        assert made.exceeded(last, Constraints()) == ()


class TestBaselines:
    @pytest.mark.parametrize(
        ("names", "where"),
        [
            (None, "cloud"),
            (["phone", "cloud"], "cloud"),
            (["phone", "edge", "cloud"], "cloud"),
            (["phone", "function"], "function"),
            (["phone", "edge", "function"], "function"),
            (["phone", "edge"], "edge"),
        ],
    )
    def test_are_there_whichever_tiers_may_be_used(self, names, where):
        images = [option("input", 1.0, name=name, payload=500) for name in ("raw image", "JPEG")]
        whole = scenario(phone(), edge(), cloud(), function())
        made = Planner(only(whole, names), profile(), (*images, *options()[1:]), accuracy=ACCURACY)
        found = made.outcome().baselines
        assert [*found] == [
            "all on the device",
            f"send raw image to the {where}",
            f"send JPEG to the {where}",
            "fastest undefended cut",
        ]
        assert found[f"send JPEG to the {where}"].plan.placement.tiers == ("phone", where)
        assert not any(judged.exceeded for judged in found.values())

    def test_of_a_device_alone_are_the_device(self):
        assert [*planner(phone()).outcome().baselines] == ["all on the device"]

    def test_that_are_impossible_say_why(self):
        small, slow = cloud(memory_bytes=1500.0), edge(slowdown=500.0, pricing=Owned())
        found = planner(phone(), slow, small).outcome().baselines
        assert found["send undefended to the cloud"].exceeded == ("memory",)
        cut = found["fastest undefended cut"]
        assert cut.exceeded == ()
        assert cut.plan.placement.segments[0].end == "third"
        nowhere = planner(phone(), slow).outcome().baselines["send undefended to the edge"]
        assert nowhere.exceeded == ("load",)
        assert math.isinf(nowhere.plan.figures["latency_ms"].value)


class TestLeakage:
    def test_is_that_of_the_first_tier_that_is_not_trusted(self):
        made = planner(phone(), edge(trusted=True), cloud())
        at = made.find(
            tiers=["phone", "edge", "cloud"], ends=["first", "third"], option="undefended"
        )
        assert made.plan(at).figures["leakage"].value == 0.2
        seen = planner(phone(), edge(), cloud())
        assert seen.plan(at).figures["leakage"].value == 0.9

    def test_of_what_follows_from_a_defended_release_is_at_most_that_of_the_release(self):
        made = planner(phone(), edge(trusted=True), cloud(), given_options=(*options(),))
        ends = ["second", "third"]
        at = made.find(tiers=["phone", "edge", "cloud"], ends=ends, option="noise")
        assert made.plan(at).figures["leakage"].value == pytest.approx(0.2)

    def test_is_nothing_where_everybody_is_trusted(self):
        made = planner(phone(), cloud(trusted=True))
        assert {p.figures["leakage"].value for p in every(made)} == {0.0}

    def test_of_a_cut_that_nobody_measured_is_that_of_the_cut_before(self):
        known = tuple(o for o in options() if o.cut != "third")
        made = planner(phone(), edge(trusted=True), cloud(), given_options=known)
        assert made.costing.plain_leakage.tolist() == [1.0, 0.9, 0.6, 0.6, 0.6]


class TestEnumeration:
    @pytest.mark.parametrize("tiers", [(phone(), cloud()), (phone(), edge(), cloud())])
    def test_has_every_placement_once(self, tiers):
        place = scenario(*tiers)
        found = [
            (tuple(t.name for t in c.route), int(o), tuple(int(e) for e in ends))
            for c in candidates(place, profile(), options())
            for o, ends in zip(c.options, c.ends, strict=True)
        ]
        last, names = len(NAMES) - 1, [t.name for t in tiers]
        wanted = {(("phone",), -1, (last,))}
        for count in range(1, len(tiers)):
            for others in itertools.combinations(names[1:], count):
                for o, chosen in enumerate(options()):
                    first = NAMES.index(chosen.cut)
                    for ends in itertools.combinations(range(first + 1, last), count - 1):
                        wanted.add((("phone", *others), o, (first, *ends, last)))
        assert len(found) == len({*found})
        assert {*found} == wanted

    def test_of_too_many_says_what_to_do(self, monkeypatch):
        monkeypatch.setattr(enumeration, "MOST", 3)
        with pytest.raises(TooManyError, match=r"5 placements .* use offloading\.labels in Python"):
            planner()

    def test_refuses_an_option_at_an_unknown_cut(self):
        strange = dataclasses.replace(option("first", 0.5), cut="elsewhere")
        with pytest.raises(ProfileError, match="'elsewhere' was not profiled"):
            planner(given_options=(strange,))


class TestFront:
    def test_is_what_brute_force_finds(self):
        made = planner(phone(), edge(), function(), cloud())
        plans = [
            p for p in every(made) if not made.exceeded(made.index_of(p.placement), Constraints())
        ]
        points = {values(p) for p in plans}
        best = {
            p
            for p in points
            if not any(all(a <= b for a, b in zip(q, p, strict=True)) and q != p for q in points)
        }
        front = [values(made.plan(index)) for index in made.front]
        assert {*front} == best
        assert [p[0] for p in front] == sorted(p[0] for p in front)

    def test_holds_whatever_is_recommended_without_limits(self):
        made = planner(phone(), edge(), cloud())
        for name in OBJECTIVES:
            chosen = made.outcome(minimise=name).recommended
            least = min(values(p)[OBJECTIVES.index(name)] for p in every(made))
            assert chosen.figures[name].value == least

    def test_dominates_all_that_is_not_on_it(self):
        made = planner(phone(), edge(), cloud())
        on_it = {*made.front}
        for r, found in enumerate(made.routes):
            for i in range(len(found)):
                equal = values(made.plan((r, i))) in {values(made.plan(f)) for f in on_it}
                assert equal or made.dominating((r, i), Constraints()) in on_it


class TestFrontWithinTheLimits:
    @settings(max_examples=60, deadline=None)
    @given(limits=limits_of_any_kind)
    def test_is_what_brute_force_finds_among_what_keeps_them(self, limits):
        points = {
            values(plan)
            for plan in every(AMPLE)
            if not AMPLE.exceeded(AMPLE.index_of(plan.placement), limits)
        }
        best = {
            p
            for p in points
            if not any(all(a <= b for a, b in zip(q, p, strict=True)) and q != p for q in points)
        }
        front = [values(judged.plan) for judged in AMPLE.outcome(limits).front_within]
        assert {*front} == best
        assert [p[0] for p in front] == sorted(p[0] for p in front)

    @settings(max_examples=60, deadline=None)
    @given(loose=limits_of_any_kind, other=limits_of_any_kind)
    def test_never_gains_by_a_tighter_limit(self, loose, other):
        tight = strictest([loose, dataclasses.replace(other, percentile=loose.percentile)], CHAIN)
        wide = np.array([values(AMPLE.plan(i)) for i in AMPLE.front_within(loose)])
        for index in AMPLE.front_within(tight):
            point = np.array(values(AMPLE.plan(index)))
            assert (wide <= point).all(axis=1).any()

    @settings(max_examples=30, deadline=None)
    @given(limits=limits_of_any_kind)
    def test_holds_what_of_the_front_keeps_them_and_nothing_that_exceeds_them(self, limits):
        found = AMPLE.outcome(limits)
        assert all(judged.exceeded == () for judged in found.front_within)
        kept = {values(j.plan) for j in found.front if not j.exceeded}
        assert kept <= {values(j.plan) for j in found.front_within}
        listed = [judged.plan.placement for judged in found.listed]
        assert listed[: len(found.front)] == [judged.plan.placement for judged in found.front]
        assert len({*listed}) == len(listed)
        if found.recommended is not None:
            assert found.recommended.placement in listed

    def test_is_the_front_where_there_are_no_limits(self):
        found = AMPLE.outcome()
        assert found.front_within == found.front == found.listed

    def test_holds_what_only_those_beat_that_exceed_a_limit(self):
        shallow, deep = option("first", 0.1, payload=10.0), option("second", 0.6, exact=False)
        made = planner(given_options=(shallow, deep))
        found = made.outcome(Constraints(at_least="second"))
        fronts = [
            {str(judged.plan.placement.option) for judged in judged_ones}
            for judged_ones in (found.front, found.front_within)
        ]
        assert fronts == [{str(shallow), "None"}, {str(deep), "None"}]

    def test_who_is_named_as_better_keeps_the_limits(self):
        limits = Constraints(at_least="second")
        for index in AMPLE.front_within(limits):
            assert AMPLE.dominating(index, limits) is None


class TestPercentiles:
    def test_add_the_tails_of_independent_phases(self):
        place = scenario(phone(slowdown=1.0), cloud(), rate=0.01, links=shaky())
        timed = profile(late=1.0)
        made = Planner(place, lasting(timed), options(), accuracy=ACCURACY)
        found = made.plan(made.find(tiers=["phone", "cloud"], ends=["second"], option="undefended"))
        for share, deviations, head, tail in (
            (90, 1.2816, 0.1, 0.1),
            (95, 1.645, 0.2, 0.2),
            (99, 2.3263, 0.5, 0.5),
        ):
            jitter = deviations * 3.0
            late = math.hypot(5.0 * head, 5.0 * tail, jitter, jitter)
            figure = found.figures[f"latency_p{share}_ms"]
            assert figure.value == pytest.approx(found.figures["latency_ms"].value + late, rel=1e-3)

    def test_of_a_queue_leave_their_share_above_them(self):
        (made, busy) = (planner(rate=rate) for rate in (1e-6, 20.0))
        for share, tail in ((0.9, "latency_p90_ms"), (0.99, "latency_p99_ms")):
            quiet, late = (each.plan((0, 0)).figures[tail].value for each in (made, busy))
            queue = next(c for c in busy.costing.columns(busy.routes[0]) if c.kind == "queue")
            work = next(c for c in busy.costing.columns(busy.routes[0]) if c.kind == "compute")
            spread = (work.tail_ms / 1.645 / work.ms) ** 2
            asked = (20.0, work.ms, 1, 0.0, spread)
            worst = wait_percentile_ms(*asked, q=share)
            assert late - quiet == pytest.approx(float(np.maximum(worst, queue.ms)[0]), abs=1e-6)

    @settings(max_examples=40, deadline=None)
    @given(limits=limits_of_any_kind)
    def test_rise_with_their_share(self, limits):
        for judged in AMPLE.outcome(limits).front_within:
            names = ("latency_ms", "latency_p90_ms", "latency_p95_ms", "latency_p99_ms")
            each = [judged.plan.figures[name].value for name in names]
            assert each == sorted(each)

    @pytest.mark.parametrize(("percentile", "least"), [(90, 20), (95, 40), (99, 200)])
    def test_of_too_few_runs_are_refused_and_left_out(self, percentile, least):
        limits = Constraints(deadline_ms=100.0, percentile=percentile)
        for runs in (least - 1, least):
            made = Planner(
                scenario(phone(), cloud()), lasting(profile(), n=runs), options(), accuracy=ACCURACY
            )
            figures = made.plan((0, 0)).figures
            assert (f"latency_p{percentile}_ms" in figures) == (runs == least or percentile == 95)
            assert made.outcome(Constraints(percentile=percentile)).recommended is not None
            if runs < least:
                with pytest.raises(ProfileError, match=f"make one with runs={least} or more"):
                    made.outcome(limits)
            else:
                assert made.outcome(limits).recommended is not None

    def test_are_those_of_the_profile_with_the_fewest_runs(self):
        own = dataclasses.replace(cloud(), profile=lasting(profile(), n=199))
        made = Planner(scenario(phone(), own), profile(), options(), accuracy=ACCURACY)
        assert "latency_p99_ms" not in made.plan((0, 0)).figures


def lasting(found, n=1000):
    """The same, with tails of a tenth, a fifth and a half of each time, of so many runs."""

    def late(spread):
        tails = {"p90": 1.1 * spread.p50, "p95": 1.2 * spread.p50, "p99": 1.5 * spread.p50}
        return dataclasses.replace(spread, **tails, n=n)

    cuts = tuple(
        dataclasses.replace(cut, head_ms=late(cut.head_ms), tail_ms=late(cut.tail_ms))
        for cut in found.cuts
    )
    whole, again = late(found.whole_ms), late(found.again_ms)
    return dataclasses.replace(found, cuts=cuts, whole_ms=whole, again_ms=again)


def shaky():
    return {("phone", "cloud"): dataclasses.replace(link(), jitter_ms=3.0)}


class TestLimits:
    def test_are_kept_by_what_is_recommended(self):
        made = planner(phone(), edge(), cloud())
        for limits in (
            Constraints(leakage=0.3),
            Constraints(usd_per_million=150.0),
            Constraints(accuracy_drop=0.0, leakage=0.6),
            Constraints(at_least="third"),
        ):
            chosen = made.outcome(limits).recommended
            assert chosen is not None
            assert made.exceeded(made.index_of(chosen.placement), limits) == ()

    def test_that_nothing_keeps_are_named_with_what_is_to_be_had(self):
        made = planner()
        found = made.outcome(Constraints(leakage=0.0, deadline_ms=30.0, percentile=50))
        assert found.recommended is None
        assert found.nearest["deadline_ms"] == pytest.approx(40.0, rel=0.01)
        fast = [p for p in every(made) if p.figures["latency_ms"].value <= 30.0]
        least = min(p.figures["leakage"].value for p in fast)
        assert found.nearest["leakage"] == least

    def test_refuse_what_is_no_limit(self):
        with pytest.raises(ValueError, match="must not be negative"):
            Constraints(leakage=-0.1)
        with pytest.raises(ValueError, match="choose 50, 90, 95 or 99"):
            Constraints(percentile=98)
        with pytest.raises(ValueError, match="choose from"):
            planner().outcome(minimise="beauty")

    def test_name_baselines_that_exceed_them(self):
        found = planner().outcome(Constraints(leakage=0.3))
        raw = found.baselines["send undefended to the cloud"]
        assert "leakage" in raw.exceeded
        assert found.baselines["all on the device"].exceeded == ()

    def test_of_a_placement_that_does_not_exist_is_an_error(self):
        with pytest.raises(NoSuchPlanError, match="phone > moon"):
            planner().find(tiers=["phone", "moon"], ends=["first"], option="undefended")


rates = st.floats(0.5, 200.0)
delays = st.floats(0.0, 200.0)
slow = st.floats(0.2, 30.0)


def best(made, limits=None):
    chosen = made.outcome(limits).recommended
    return math.inf if chosen is None else chosen.figures["latency_ms"].value


class TestProperties:
    @settings(max_examples=25, deadline=None)
    @given(up=rates, rtt=delays, factor=st.floats(1.0, 20.0), slowdown=slow)
    def test_less_bandwidth_never_helps(self, up, rtt, factor, slowdown):
        def at(mbps):
            way = {("phone", "cloud"): link(up=mbps, rtt=rtt)}
            return best(planner(phone(slowdown=slowdown), cloud(), links=way, rate=0.01))

        assert at(up / factor) >= at(up) - 1e-9

    @settings(max_examples=25, deadline=None)
    @given(leak=st.floats(0, 1), less=st.floats(0, 1), usd=st.floats(0, 2000), slowdown=slow)
    def test_a_tighter_limit_never_improves(self, leak, less, usd, slowdown):
        made = planner(phone(slowdown=slowdown), edge(), cloud(), rate=0.01)
        wide = Constraints(leakage=leak, usd_per_million=usd)
        tight = Constraints(leakage=leak * less, usd_per_million=usd)
        assert best(made, tight) >= best(made, wide) - 1e-9

    @settings(max_examples=25, deadline=None)
    @given(slowdown=slow, up=rates, rtt=delays, leak=st.floats(0, 1))
    def test_one_more_tier_never_hurts(self, slowdown, up, rtt, leak):
        limits = Constraints(leakage=leak)
        ways = {("phone", "edge"): link(up=up, rtt=rtt)}
        few = best(planner(phone(slowdown=slowdown), cloud(), rate=0.01), limits)
        more = planner(phone(slowdown=slowdown), edge(), cloud(), links=ways, rate=0.01)
        assert best(more, limits) <= few + 1e-9

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4), slow)
    def test_every_placement_is_weakly_beaten_by_one_of_the_front(self, leaks, slowdown):
        known = tuple(option(cut, leak) for cut, leak in zip(NAMES[:4], leaks, strict=True))
        made = planner(phone(slowdown=slowdown), edge(), cloud(), given_options=known)
        points = np.array([values(p) for p in every(made)])
        front = np.array([values(made.plan(i)) for i in made.front])
        assert all((front <= point + 1e-12).all(axis=1).any() for point in points)
