"""What the runtime takes to carry messages: fitted, shared between two ends, in plans."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.carrying import by_size
from offloading.carrying import Carrying, between
from offloading.measuring.loopback import carrying_of
from offloading.measuring.prediction import at_host_speed
from offloading.planner import Planner
from offloading.profile import Profile
from offloading.simulation.journey import Journey
from offloading.spread import Spread
from tests.unit.offloading_world import ACCURACY, cloud, function, options, phone, profile, scenario

KNOWN = Carrying(up_ms=1.0, up_ms_per_mb=500.0, down_ms=0.5, late_ms=0.3)


def carried(**changed):
    return dataclasses.replace(profile(), carrying=KNOWN, **changed)


def planned(*tiers, of=None):
    world = scenario(*tiers)
    made = Planner(world, of or carried(), options(), accuracy=ACCURACY)
    names = [tier.name for tier in tiers]
    index = made.find(tiers=names, ends=["second"], option="undefended")
    return made.plan(index), world, made


def carries(plan):
    return {p.where: p.ms.value for p in plan.phases if p.kind == "carry"}


def test_a_constant_and_a_time_per_byte_are_found_again():
    sizes = [4_000, 100_000, 1_000_000]
    found = Carrying.fitted(sizes, [KNOWN.there_ms(s) for s in sizes], [0.5] * 3, [0.3] * 3)
    assert dataclasses.asdict(found) == pytest.approx(dataclasses.asdict(KNOWN))


def test_larger_messages_never_take_less():
    found = Carrying.fitted([1_000, 100_000], [2.0, 1.0], [-0.1, -0.1], [0.0, 0.0])
    assert found.up_ms_per_mb == 0
    assert 1.0 <= found.up_ms <= 2.0
    assert found.down_ms == 0


@pytest.mark.parametrize("changes", [{"up_ms": -1.0}, {"late_ms": float("nan")}])
def test_times_are_finite_and_not_negative(changes):
    with pytest.raises(ValueError, match="none of them negative"):
        dataclasses.replace(KNOWN, **changes)


def test_each_end_takes_half_at_its_own_pace():
    found = between([(KNOWN, 4.0), (KNOWN, 1.0)])
    assert found.up_ms == pytest.approx(2.5)
    assert found.there_ms(np.array([0.0, 1e6])) == pytest.approx([2.5, 2.5 * 501])


def test_a_plan_has_it_in_both_directions_and_its_latency_with_it():
    plan, _, _ = planned(phone(), cloud())
    without, _, _ = planned(phone(), cloud(), of=profile())
    assert carries(without) == {}
    up = 2.5 * (1.0 + 4000 * 500.0 / 1e6)  # the phone is four times slower
    assert carries(plan) == pytest.approx({"phone>cloud": up, "cloud>phone": 2.5 * 0.5})
    longer = plan.figures["latency_ms"].value - without.figures["latency_ms"].value
    assert longer == pytest.approx(up + 1.25)


def test_nothing_is_made_up_for_a_tier_where_nobody_measured_it():
    plan, _, _ = planned(phone(profile=profile()), cloud())
    assert carries(plan) == {}


def test_a_function_is_billed_while_what_it_has_sent_is_on_its_way():
    far = cloud(pricing=function().pricing, cold_start=None)
    costs = []
    for known in (None, dataclasses.replace(KNOWN, up_ms=100.0)):
        tiers = (phone(), function(cold_start=None), far)
        made = Planner(
            scenario(*tiers),
            dataclasses.replace(profile(), carrying=known),
            options(),
            accuracy=ACCURACY,
        )
        at = made.find(
            tiers=["phone", "function", "cloud"], ends=["first", "third"], option="undefended"
        )
        costs.append(made.plan(at).figures["usd_per_million"].value)
    milliseconds = 1e6 * 1e-5 * 1769 / 1024 / 1000
    assert costs[1] - costs[0] == pytest.approx(101 * milliseconds, abs=2 * milliseconds)


def test_at_the_speed_of_the_host_it_is_what_was_measured_there():
    plan, world, _ = planned(phone(), cloud())
    found = at_host_speed(plan, world).phases_ms
    assert found["up"] == pytest.approx(5.0 + 4.0 + KNOWN.there_ms(4000.0))
    assert found["down"] == pytest.approx(5.0 + 0.5)


def test_a_simulated_request_takes_it_without_holding_the_line():
    plan, world, _ = planned(phone(), cloud())
    (way,) = Journey.of(plan, world, {}).ways
    assert way.delay_ms == pytest.approx((5.0 + 7.5, 5.0 + 1.25))
    assert way.sending_ms == pytest.approx((4.0, 0.0))


def test_a_profile_keeps_it():
    assert Profile.from_json(carried().to_json()) == carried()
    raw = json.loads(carried().to_json())
    del raw["carrying"]  # of an earlier version
    assert Profile.from_json(json.dumps(raw)) == profile()


def test_it_is_read_from_what_two_processes_did():
    def spread(ms):
        return Spread(p50=ms, p90=ms, p95=ms + 0.3, p99=ms + 0.3, mean=ms, n=9)

    told = [
        SimpleNamespace(
            sent_bytes=size, phases_ms={"up": spread(KNOWN.there_ms(size)), "down": spread(0.5)}
        )
        for size in (1e4, 1e6)
    ]
    found = carrying_of(told)
    wanted = dataclasses.replace(KNOWN, late_ms=0.3 * 2**0.5)
    assert dataclasses.asdict(found) == pytest.approx(dataclasses.asdict(wanted))


def test_releases_of_several_sizes_are_sent():
    sizes = [3136, 200_000, 100_000, 90_000, 3136, 40]
    cuts = [SimpleNamespace(bytes=size, is_output=size == 40) for size in sizes]
    assert [cut.bytes for cut in by_size(cuts)] == [3136, 100_000, 200_000]
    assert [cut.bytes for cut in by_size(cuts[:1])] == [3136]
