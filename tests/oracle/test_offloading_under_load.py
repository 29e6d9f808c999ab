"""Simulated queues and functions against closed forms, and against what another simulator found."""

import numpy as np
import pytest
from loads import plan, scenario, tier
from scipy.optimize import brentq

from offloading.arrivals.bursty import Bursty
from offloading.planner import Planner
from offloading.pricing import Function, Owned
from offloading.queueing import mean_wait_ms, wait_percentile_ms
from offloading.simulation import simulate
from offloading.simulation.durations import exponential
from offloading.simulation.load import merged_arrivals
from offloading.tier import ColdStart
from offloading.workload import Deterministic
from tests.unit import offloading_world as world

CLOUD = ("compute", "cloud")


def servers(count):
    return tier("cloud", kind="cloud", trusted=False, pricing=Owned(parallel=count))


def run(rate, service, count, *, durations=None, arrivals=None, requests=20_000, **more):
    return simulate(
        plan(service),
        scenario(rate, cloud=servers(count), arrivals=arrivals),
        requests=requests,
        durations=durations,
        **more,
    )


def near(interval, wanted):
    """Within four standard errors or so, of an estimate that is worth something."""
    half = interval.high - interval.value
    assert half < 0.2 * interval.value
    assert abs(interval.value - wanted) < 2 * half
    return True


@pytest.mark.parametrize(("rate", "count"), [(25.0, 1), (70.0, 2), (120.0, 4)])
def test_poisson_arrivals_and_exponential_times_wait_as_erlang_says(rate, count):
    found = run(rate, 20.0, count, durations={CLOUD: exponential(20.0)})
    wanted = float(mean_wait_ms(rate, 20.0, count))
    cloud = found.tiers[1]
    assert near(cloud.wait_ms, wanted)
    assert cloud.utilisation == pytest.approx(rate * 0.02 / count, rel=0.03)
    assert near(found.latency_ms["mean"], wanted + 20)


def test_latencies_of_one_server_are_exponential_with_the_spare_rate():
    found = run(30.0, 20.0, 1, durations={CLOUD: exponential(20.0)}, requests=30_000)
    sojourn = 1000 / (1000 / 20 - 30)  # M/M/1: service and wait together
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert near(found.latency_ms[name], -sojourn * np.log(1 - share))
        wait = float(wait_percentile_ms(30.0, 20.0, 1, q=share))
        assert wait < found.latency_ms[name].value


def test_equal_times_at_one_server_wait_as_pollaczek_and_khinchine_say():
    found = run(40.0, 20.0, 1).tiers[1].wait_ms
    assert near(found, float(mean_wait_ms(40.0, 20.0, 1, 1.0, 0.0)))


@pytest.mark.parametrize("count", [1, 3])
def test_every_single_request_waits_until_the_first_server_is_free(count):
    """Kiefer and Wolfowitz: the next one goes where work ends first."""
    rate = 42.0 * count
    found = run(rate, 20.0, count, requests=1000, seed=5)
    (times, _), free = (
        merged_arrivals(scenario(rate).workload, 1000, np.random.default_rng(5)),
        np.zeros(count),
    )
    wanted = []
    for at in 1000 * (times - times[0]):
        begun = max(at, free.min())
        free[free.argmin()] = begun + 20.0
        wanted.append(begun + 20.0 - at)
    np.testing.assert_allclose(found.latencies_ms, wanted[100:], atol=1e-6)


def test_a_clock_that_feeds_equal_times_makes_nobody_wait():
    found = run(40.0, 20.0, 1, arrivals=Deterministic(rate_per_s=40.0), requests=500)
    assert found.tiers[1].wait_ms.value == pytest.approx(0, abs=1e-6)
    assert found.latency_ms["p99"].value == pytest.approx(20.0)


def test_on_off_bursts_wait_as_the_root_says_and_longer_than_their_variability_does():
    """GI/M/1: a request waits with chance r = A(50 (1 - r)), A of Laplace the time between two."""
    bursts = Bursty(rate_per_s=25.0, peak=4.0, share=0.25, burst_s=0.05)
    burst, _ = bursts.rates_per_s
    ends, begins = (1 / length for length in bursts.lengths_s)

    def laplace(s):
        return burst * (s + begins) / ((s + burst + ends) * (s + begins) - ends * begins)

    root = brentq(lambda r: laplace(50 * (1 - r)) - r, 1e-6, 1 - 1e-6)
    wanted = 1000 * root / (50 * (1 - root))
    found = run(25.0, 20.0, 1, durations={CLOUD: exponential(20.0)}, arrivals=bursts)
    assert near(found.tiers[1].wait_ms, wanted)
    assert mean_wait_ms(25.0, 20.0, 1, bursts.variability) < wanted


def test_functions_start_cold_as_often_as_simfaas_says():
    """Its README: of 898,469 requests .0014 met no warm instance; 7.66 instances, 1.79 running."""
    function = tier(
        "cloud",
        kind="function",
        trusted=False,
        pricing=Function(usd_per_gb_second=1e-5, usd_per_request=0.0, memory_mb=1769),
        cold_start=ColdStart(fixed_ms=2244.0 - 1991.0, load_mb_per_s=1.0, keep_alive_s=600.0),
    )
    found = simulate(
        plan(1991.0),
        scenario(0.9, cloud=function),
        requests=60_000,
        durations={CLOUD: exponential(1991.0)},
    )
    load = found.tiers[1]
    assert load.cold_share.low < 0.0014 < load.cold_share.high
    assert load.cold_share.value == pytest.approx(0.0014, rel=0.25)
    assert load.servers == pytest.approx(7.66, rel=0.03)
    assert load.working == pytest.approx(1.79, rel=0.03)


def test_a_rarely_called_function_is_cold_as_often_as_the_keep_alive_says():
    cold = ColdStart(fixed_ms=1.0, load_mb_per_s=1.0, keep_alive_s=10.0)
    function = tier(
        "cloud",
        kind="function",
        trusted=False,
        pricing=Function(usd_per_gb_second=1e-5, usd_per_request=0.0, memory_mb=1769),
        cold_start=cold,
    )
    load = simulate(plan(1.0), scenario(0.1, cloud=function), requests=8_000).tiers[1]
    assert near(load.cold_share, cold.share(0.1))


@pytest.mark.parametrize(
    "behind",
    [(world.cloud(),), (world.function(cold_start=None),), (world.edge(), world.cloud())],
)
def test_without_load_every_plan_of_the_planner_takes_and_costs_what_it_predicts(behind):
    place = world.scenario(world.phone(), *behind, rate=0.5, reply=10, egress=0.09)
    planner = Planner(place, world.profile(), world.options(), accuracy=world.ACCURACY)
    for index in planner.front:
        chosen = planner.plan(index)
        found = simulate(chosen, place, requests=200)
        figures = chosen.figures
        assert found.latencies_ms == pytest.approx(figures["latency_ms"].value)
        wanted = pytest.approx(figures["usd_per_million"].value, rel=0.01)  # of a short run
        assert found.usd_per_million == wanted


def test_the_planner_says_how_far_times_spread_and_what_a_cold_start_reads():
    place = world.scenario(world.phone(), world.function(), rate=0.001)
    planner = Planner(place, world.profile(late=1.5), world.options(), accuracy=world.ACCURACY)
    index = planner.find(tiers=("phone", "function"), ends=("second",), option="undefended")
    chosen = planner.plan(index)
    head, *_ = (phase for phase in chosen.phases if phase.kind == "compute")
    assert head.tail_ms == pytest.approx(0.5 * head.ms.value)
    assert chosen.placement.segments[1].weight_bytes == 4 * 500
    found = simulate(chosen, place, requests=200)
    work = sum(p.ms.value for p in chosen.phases if p.kind not in ("start", "queue"))
    assert found.tiers[1].cold_share.value == 1  # every 1000 s, kept for 600
    assert found.latency_ms["p50"].value == pytest.approx(1000 + 0.02 + work, rel=0.01)
