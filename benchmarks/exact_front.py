"""The exact front of a model with seventy cuts over four tiers, six codecs at each."""

import statistics
import time
from collections.abc import Iterator

from offloading.constraints import Constraints
from offloading.enumeration import Candidates
from offloading.figure import Figure
from offloading.option import Option
from offloading.planner import Planner
from offloading.pricing import Function, Hourly, Owned
from offloading.profile import CutProfile, Profile
from offloading.scenario import Hop, Scenario
from offloading.spread import Spread
from offloading.tier import ColdStart, Tier
from offloading.workload import Deterministic, Workload
from splitbench.link import Link

CUTS, CODECS, RUNS, ONE_BY_ONE = 70, 6, 5, 300
ACCURACY = Figure(0.9, "assumed")


def measure() -> Iterator[str]:
    """Time all of it, and compare costing all placements at once with one after the other."""
    profile, options, scenario = chain(), sent(), world()
    planner = Planner(scenario, profile, options, accuracy=ACCURACY)
    count = sum(len(found) for found in planner.routes)
    whole = []
    for _ in range(RUNS):
        began = time.perf_counter()
        planner = Planner(scenario, profile, options, accuracy=ACCURACY)
        front = planner.front
        whole.append(time.perf_counter() - began)
    began = time.perf_counter()
    planner.best(Constraints(leakage=0.5, deadline_ms=500.0))
    asked = time.perf_counter() - began
    yield (
        f"{count:,} placements: all of them and their front of {len(front)} in "
        f"{statistics.median(whole):.2f} s, a recommendation under limits in {asked:.2f} s more"
    )
    singly = one_by_one(planner) * count
    yield f"costing them one after the other would take {singly / statistics.median(whole):.0f} x"


def one_by_one(planner: Planner) -> float:
    """Seconds to cost one placement by itself."""
    longest = max(planner.routes, key=len)
    single: list[Candidates] = [
        longest[i] for i in range(0, len(longest), len(longest) // ONE_BY_ONE)
    ]
    began = time.perf_counter()
    for found in single:
        planner.costing.estimate(found)
    return (time.perf_counter() - began) / len(single)


def chain() -> Profile:
    """A chain whose parts take a millisecond each."""
    names = ["input", *(f"cut{i}" for i in range(1, CUTS)), "output"]
    cuts = tuple(
        CutProfile(
            name=name,
            shapes=((1000 - 10 * place,),),
            bytes=4 * (1000 - 10 * place),
            head_flops=0,
            tail_flops=0,
            head_params=1000 * place,
            tail_params=1000 * (CUTS - place),
            head_ms=spread(float(place)),
            tail_ms=spread(float(CUTS - place)),
            head_memory_bytes=4000 * place + 4000,
            tail_memory_bytes=4000 * CUTS,
        )
        for place, name in enumerate(names)
    )
    whole = spread(float(CUTS))
    return Profile(
        model="chain",
        image_shape=(1, 25, 40),
        machine={},
        threads=1,
        cuts=cuts,
        whole_ms=whole,
        again_ms=whole,
    )


def spread(ms: float) -> Spread:
    """One in twenty takes a tenth longer."""
    return Spread(p50=ms, p90=1.08 * ms, p95=1.1 * ms, p99=1.2 * ms, mean=ms, n=100)


def sent() -> list[Option]:
    """Six codecs at each cut: each smaller than the one before, at some loss."""
    names = ["input", *(f"cut{i}" for i in range(1, CUTS))]
    return [
        Option(
            cut=name,
            name=f"codec {codec}",
            payload_bytes=4.0 * (1000 - 10 * place) / (1 + codec),
            leakage=Figure((1 - place / CUTS) * (1 - codec / 10), "assumed"),
            accuracy=Figure(0.9 - codec / 100, "assumed"),
            accuracy_drop=Figure(codec / 100, "assumed"),
            exact=codec == 0,
        )
        for place, name in enumerate(names)
        for codec in range(CODECS)
    ]


def world() -> Scenario:
    """A phone, an edge server, a machine and functions in the cloud; all reach all behind them."""
    price = Function(usd_per_gb_second=1.67e-5, usd_per_request=2e-7, memory_mb=1769)
    start = ColdStart(fixed_ms=500.0, load_mb_per_s=100.0, keep_alive_s=600.0)
    tiers = (
        Tier(name="phone", kind="device", slowdown=4.0, trusted=True, pricing=Owned()),
        Tier(
            name="edge", kind="edge", slowdown=2.0, trusted=False, pricing=Hourly(usd_per_hour=0.1)
        ),
        Tier(
            name="cloud",
            kind="cloud",
            slowdown=1.0,
            trusted=False,
            pricing=Hourly(usd_per_hour=0.4),
        ),
        Tier(
            name="function",
            kind="function",
            slowdown=1.0,
            trusted=False,
            pricing=price,
            cold_start=start,
        ),
    )
    link = Link(name="link", up_mbps=10.0, down_mbps=20.0, rtt_ms=20.0)
    names = [tier.name for tier in tiers]
    pairs = [(near, far) for i, near in enumerate(names) for far in names[i + 1 :]]
    return Scenario(
        name="benchmark",
        tiers=tiers,
        hops={pair: Hop(link=link) for pair in pairs},
        workload=Workload(arrivals=Deterministic(rate_per_s=1.0)),
        reply_bytes=64,
    )
