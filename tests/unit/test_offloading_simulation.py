"""Plans under load, by cases that can be worked out by hand."""

import json
from itertools import pairwise

import numpy as np
import pytest

from offloading.figure import Figure
from offloading.option import Option
from offloading.plan import Phase, Placement, Plan, Segment
from offloading.pricing import Function, Hourly, Owned
from offloading.scenario import Hop, Scenario, ScenarioError
from offloading.simulation import Autoscaling, Interval, simulate
from offloading.simulation.durations import exponential, lognormal, resampled
from offloading.simulation.load import merged_arrivals
from offloading.tier import ColdStart, Tier
from offloading.workload import Arrivals, Deterministic, Poisson, Workload
from splitbench.link import Link

LINK = Link(name="lte", up_mbps=8.0, down_mbps=80.0, rtt_ms=40.0)
BACKBONE = Link(name="backbone", up_mbps=100.0, down_mbps=100.0, rtt_ms=10.0)
PRICE = {"usd_per_gb_second": 0.0000166667, "usd_per_request": 2e-7, "memory_mb": 1024}
COLD = ColdStart(fixed_ms=500.0, load_mb_per_s=100.0, keep_alive_s=60.0)


class Listed(Arrivals):
    """Requests at given seconds, then one every hour."""

    def __init__(self, *, seconds):
        self.seconds = seconds
        self.rate_per_s = 0.01

    @property
    def variability(self):
        return 1.0

    def times(self, count, *, rng):
        hours = self.seconds[-1] + 3600.0 * np.arange(1, count + 1)
        return np.concatenate([self.seconds, hours])[:count]


def measured(value):
    return Figure(value, "measured")


def chain(*tiers, share_sent=1.0, tail_ms=0.0, stays=False):
    """Device 10 ms and encoding 1; up 30, back 20.5; decoding 2; each tier behind it 5."""
    names = [tier.name for tier in tiers]
    cuts = ["input", *(f"cut{k}" for k in range(1, len(tiers))), "output"]
    phases = [("compute", names[0], 10.0)]
    if not stays:
        phases += [("encode", names[0], 1.0), ("network", f"{names[0]}>{names[1]}", 30.0)]
        phases += [("queue", names[1], 77.0), ("start", names[1], 88.0)]  # not to be used
        phases += [("decode", names[1], 2.0), ("compute", names[1], 5.0)]
        for near, far in pairwise(names[1:]):
            phases += [("network", f"{near}>{far}", 15.0), ("compute", far, 5.0)]
            phases += [("network", f"{far}>{near}", 5.5)]
        phases += [("network", f"{names[1]}>{names[0]}", 20.5)]
    option = Option(
        cut="cut1",
        name="plain",
        payload_bytes=10_000.0,
        leakage=measured(0.5),
        accuracy=measured(0.9),
        accuracy_drop=measured(0.0),
        share_sent=share_sent,
    )
    return Plan(
        placement=Placement(
            segments=tuple(
                Segment(tier=name, start=a, end=b, weight_bytes=20e6)
                for name, a, b in zip(names, cuts, cuts[1:], strict=False)
            ),
            option=None if stays else option,
        ),
        scenario="by hand",
        model="model",
        figures={},
        phases=tuple(
            Phase(kind=kind, where=where, ms=measured(ms), tail_ms=tail_ms)
            for kind, where, ms in phases
        ),
    )


def place(name, kind, pricing=None, **more):
    pricing = pricing or Owned()
    return Tier(
        name=name, kind=kind, slowdown=1.0, trusted=kind == "device", pricing=pricing, **more
    )


PHONE = place("phone", "device")
EDGE = place("edge", "edge", Hourly(usd_per_hour=0.36))
SERVERLESS = place("function", "function", Function(**PRICE), cold_start=COLD)


def world(*tiers, arrivals=None, devices=1, **hop):
    hops = {(tiers[0].name, t.name): Hop(link=LINK, **hop) for t in tiers[1:]}
    hops |= {(a.name, b.name): Hop(link=BACKBONE) for a, b in pairwise(tiers[1:])}
    load = Workload(arrivals=arrivals or Deterministic(rate_per_s=0.1), devices=devices)
    return Scenario(name="by hand", tiers=tiers, hops=hops, workload=load)


def run(*tiers, arrivals=None, devices=1, requests=200, plan=None, **more):
    chosen = plan or chain(*tiers)
    return simulate(
        chosen, world(*tiers, arrivals=arrivals, devices=devices), requests=requests, **more
    )


def total(plan):
    return sum(p.ms.value for p in plan.phases if p.kind not in ("queue", "start"))


@pytest.mark.parametrize("behind", [(EDGE,), (SERVERLESS,), (EDGE, SERVERLESS), (SERVERLESS, EDGE)])
def test_without_load_a_request_takes_the_sum_of_its_phases(behind):
    found = run(PHONE, *behind)
    wanted = total(chain(PHONE, *behind))
    assert found.latencies_ms == pytest.approx(wanted)
    assert found.latency_ms["p50"] == Interval(*[pytest.approx(wanted)] * 3)
    assert found.overloaded == ()


def test_a_plan_that_stays_takes_the_device_and_costs_nothing():
    found = run(PHONE, plan=chain(PHONE, stays=True))
    assert found.latencies_ms == pytest.approx(10.0)
    assert found.usd_per_million == 0
    assert [tier.tier for tier in found.tiers] == ["phone"]


def test_images_that_the_device_answers_are_neither_encoded_nor_sent():
    found = run(PHONE, EDGE, plan=chain(PHONE, EDGE, share_sent=0.25), requests=4000)
    sent = found.latencies_ms > 11
    assert sent.mean() == pytest.approx(0.25, abs=0.03)
    assert found.latencies_ms[~sent] == pytest.approx(10.0)
    assert found.latencies_ms[sent] == pytest.approx(total(chain(PHONE, EDGE)))


def test_who_finds_no_warm_instance_waits_for_a_start_that_reads_the_weights():
    gaps = np.tile([30.0, 70.0], 150)  # kept for 60 s after the reply
    found = run(PHONE, SERVERLESS, arrivals=Listed(seconds=np.cumsum(gaps)), requests=300)
    warm, cold = total(chain(PHONE, SERVERLESS)), 500 + 20e6 / 100e3
    wanted = np.where(np.arange(300) % 2 == 1, warm + cold, warm)[30:]
    np.testing.assert_allclose(found.latencies_ms, wanted)
    assert found.tiers[1].cold_share.value == pytest.approx(0.5)


def test_a_function_is_billed_for_work_for_starts_and_for_waiting():
    gaps = np.tile([30.0, 70.0], 150)
    found = run(PHONE, SERVERLESS, EDGE, arrivals=Listed(seconds=np.cumsum(gaps)), requests=300)
    busy, waiting, start = 2.0 + 5.0, 15.0 + 5.0 + 5.5, 700.0
    billed = np.array([busy + waiting, busy + waiting + start])
    usd = (2e-7 + 0.0000166667 * np.ceil(billed) / 1000).mean()  # of one GB
    assert found.tiers[1].usd_per_million == pytest.approx(1e6 * usd)


def test_a_machine_costs_the_same_whether_it_works_or_not():
    found = run(PHONE, EDGE, arrivals=Deterministic(rate_per_s=10.0), requests=2000)
    assert found.tiers[1].usd_per_million == pytest.approx(0.36 / 3600 / 10 * 1e6, rel=0.01)
    assert found.tiers[1].servers == pytest.approx(1)
    assert found.tiers[1].working == pytest.approx(10 * 0.007, rel=0.01)


def test_traffic_is_paid_in_both_directions():
    scenario = world(PHONE, EDGE, up_usd_per_gb=1.0, down_usd_per_gb=2.0)
    found = simulate(chain(PHONE, EDGE), scenario, requests=200)
    unit_up, unit_down = LINK.up_ms(1.0) - 20, LINK.down_ms(1.0) - 20
    usd = (10.0 / unit_up * 1.0 + 0.5 / unit_down * 2.0) / 1e9
    assert found.traffic_usd_per_million == pytest.approx(1e6 * usd, rel=1e-6)
    assert found.usd_per_million > found.traffic_usd_per_million


def pair(*, devices):
    """Two requests at the same time, every 100 s."""
    each = np.repeat(100.0 * np.arange(1, 201), 2 // devices)
    return Listed(seconds=each)


def test_the_second_of_two_requests_on_one_device_waits_for_the_first():
    found = run(PHONE, EDGE, arrivals=pair(devices=1), requests=300)
    alone = total(chain(PHONE, EDGE))
    late = np.sort(found.latencies_ms.reshape(-1, 2), axis=1)
    np.testing.assert_allclose(late[:, 0], alone)
    np.testing.assert_allclose(late[:, 1], alone + 11)  # the device; line and tier are faster


def test_a_slow_line_is_had_by_one_message_at_a_time():
    phone = place("phone", "device", Owned(parallel=2))
    found = run(phone, EDGE, arrivals=pair(devices=1), requests=300)
    late = np.sort(found.latencies_ms.reshape(-1, 2), axis=1)
    np.testing.assert_allclose(late[:, 1], total(chain(phone, EDGE)) + 10)  # 30 ms less delay 20


def test_devices_do_not_wait_for_each_other_until_they_meet():
    arrivals = Deterministic(rate_per_s=10.0)  # on one device of eight; a tier has 7 ms of 12.5
    found = run(PHONE, EDGE, arrivals=arrivals, devices=8, requests=800)
    assert found.tiers[0].wait_ms.value == pytest.approx(0)
    assert found.tiers[0].servers == pytest.approx(8)
    assert found.latencies_ms.max() < total(chain(PHONE, EDGE)) + 8 * 7


def test_what_is_asked_for_more_than_it_can_do_is_named():
    busy = run(PHONE, EDGE, arrivals=Poisson(rate_per_s=95.0), requests=1000)
    assert busy.overloaded == ("phone",)
    line = run(
        place("phone", "device", Owned(parallel=4)), EDGE, arrivals=Poisson(rate_per_s=105.0)
    )
    assert line.overloaded == ("phone>lte",)
    assert line.latencies_ms[-20:].mean() > line.latencies_ms[:20].mean()


def test_machines_come_when_they_are_needed_and_go_when_they_are_not():
    many = np.arange(0, 20, 1 / 400.0)  # 2.8 machines' worth
    few = 20 + np.arange(1, 600) / 1.0
    arrivals = Listed(seconds=np.concatenate([many, few]))
    rules = Autoscaling(boot_s=2.0, every_s=1.0, hold_s=30.0, most=8)
    phone = place("phone", "device", Owned(parallel=100))
    plan = chain(phone, EDGE)
    quick = [p for p in plan.phases if p.kind != "network"]
    plan = Plan(placement=plan.placement, scenario="", model="", figures={}, phases=tuple(quick))
    scenario = world(phone, EDGE, arrivals=arrivals)
    count = many.size + few.size
    scaled = simulate(plan, scenario, requests=count, autoscaling={"edge": rules})
    fixed = simulate(plan, scenario, requests=count)
    assert fixed.tiers[1].servers == pytest.approx(1)
    assert 1 < scaled.tiers[1].servers < 4
    assert scaled.latency_ms["p95"].value < fixed.latency_ms["p95"].value / 5
    assert scaled.tiers[1].usd_per_million > fixed.tiers[1].usd_per_million
    assert scaled.latencies_ms[-300:] == pytest.approx(18.0)  # nobody waits any more


def test_autoscaling_of_what_is_not_rented_is_refused():
    with pytest.raises(ScenarioError, match="function"):
        run(PHONE, SERVERLESS, autoscaling={"function": Autoscaling(boot_s=1.0)})


@pytest.mark.parametrize(
    "wrong",
    [{"boot_s": -1.0}, {"least": 0}, {"least": 5, "most": 4}, {"busy": 0.0}, {"every_s": 0}],
)
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="Autoscaling"):
        Autoscaling(**{"boot_s": 1.0, **wrong})


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    runs = [run(PHONE, EDGE, arrivals=Poisson(rate_per_s=50.0), seed=s) for s in (3, 3, 4)]
    assert runs[0] == runs[1]
    np.testing.assert_array_equal(runs[0].latencies_ms, runs[1].latencies_ms)
    assert runs[0] != runs[2]


def test_times_that_vary_keep_their_median_and_reach_their_tail():
    plan = chain(PHONE, stays=True, tail_ms=6.0)
    found = run(PHONE, plan=plan, requests=20_000)
    assert found.latency_ms["p50"].value == pytest.approx(10.0, rel=0.02)
    assert found.latency_ms["p95"].value == pytest.approx(16.0, rel=0.02)


def test_samplers_draw_what_they_say():
    rng = np.random.default_rng(0)
    assert (lognormal(0.0, 5.0)(3, rng) == 0).all()
    assert (lognormal(4.0)(3, rng) == 4).all()
    assert set(resampled([1.0, 2.0])(50, rng)) == {1.0, 2.0}
    assert exponential(3.0)(50_000, rng).mean() == pytest.approx(3, rel=0.02)
    with pytest.raises(ValueError, match="no times"):
        resampled([])
    with pytest.raises(ValueError, match="not be negative"):
        lognormal(1.0, -1.0)


def test_the_tail_goes_from_everybody_to_the_slowest():
    found = run(PHONE, EDGE, arrivals=Poisson(rate_per_s=50.0), requests=2000)
    ms, above = found.tail(50)
    assert (np.diff(ms) >= 0).all()
    assert (above[0], above[-1]) == pytest.approx((1, 1 / 1800))
    assert ms[0] == found.latencies_ms.min()
    slow = above < 0.5  # half of the requests do not wait: there is nothing to tell apart
    shares = [(found.latencies_ms > x).mean() for x in ms[slow]]
    np.testing.assert_allclose(shares, above[slow], atol=0.002)


def test_what_is_written_is_plain_and_complete():
    raw = json.loads(run(PHONE, SERVERLESS).to_json())
    assert {"p50", "p90", "p95", "p99", "mean"} == {*raw["latency_ms"]}
    assert raw["tiers"][1]["cold_share"]["value"] == 0
    assert raw["usd_per_million"] > 0
    assert len(raw["tail"]["latency_ms"]) == len(raw["tail"]["share_above"])


def test_arrivals_of_devices_are_merged_without_leaving_any_out():
    load = Workload(arrivals=Poisson(rate_per_s=2.0), devices=5)
    times, device = merged_arrivals(load, 5000, np.random.default_rng(0))
    assert times.shape == device.shape == (5000,)
    assert (np.diff(times) >= 0).all()
    assert times[-1] == pytest.approx(500, rel=0.05)
    assert np.bincount(device).min() > 900


def test_a_plan_of_another_scenario_is_refused():
    with pytest.raises(ScenarioError, match="no tier edge"):
        simulate(chain(PHONE, EDGE), world(PHONE, SERVERLESS))
    apart = Scenario(name="x", tiers=(PHONE, EDGE), hops={}, workload=world(PHONE).workload)
    with pytest.raises(ScenarioError, match="no hop from phone to edge"):
        simulate(chain(PHONE, EDGE), apart)
    with pytest.raises(ScenarioError, match="no phase"):
        run(PHONE, EDGE, durations={("compute", "moon"): exponential(1.0)})


def test_too_few_requests_are_refused():
    with pytest.raises(ValueError, match="at least 200"):
        run(PHONE, EDGE, requests=199)


def test_a_plan_keeps_tails_and_weights_in_its_file():
    plan = chain(PHONE, EDGE, tail_ms=2.5)
    assert Plan.from_dict(json.loads(plan.to_json())) == plan
