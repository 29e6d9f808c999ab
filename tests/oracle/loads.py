"""Small systems under load, with one thing in them that matters."""

from offloading.figure import Figure
from offloading.option import Option
from offloading.plan import Phase, Placement, Plan, Segment
from offloading.pricing import Owned
from offloading.scenario import Hop, Scenario
from offloading.tier import Tier
from offloading.workload import Poisson, Workload
from splitbench.link import Link

FAST = Link(name="fast", up_mbps=1e9, down_mbps=1e9, rtt_ms=0.0)


def ms(value, basis="measured"):
    return Figure(value, basis)


def option(**changed):
    nothing = Figure(0.0, "measured")
    plain = {"cut": "relu", "name": "plain", "payload_bytes": 100.0, "leakage": nothing}
    given = {**plain, "accuracy": nothing, "accuracy_drop": nothing, **changed}
    return Option(**given)


def plan(work_ms, *, phases=(), tail_ms=0.0, share_sent=1.0, tiers=("phone", "cloud"), weight=0.0):
    """The device does nothing; the tier behind it works so long."""
    ends = ["relu", *(f"relu{k}" for k in range(1, len(tiers) - 1)), "output"]
    starts = ["input", *ends[:-1]]
    return Plan(
        placement=Placement(
            segments=tuple(
                Segment(tier=t, start=a, end=b, weight_bytes=weight)
                for t, a, b in zip(tiers, starts, ends, strict=True)
            ),
            option=option(share_sent=share_sent),
        ),
        scenario="test",
        model="model",
        figures={},
        phases=(
            Phase(kind="compute", where=tiers[-1], ms=ms(work_ms), tail_ms=tail_ms),
            *phases,
        ),
    )


def scenario(rate_per_s, *, cloud=None, devices=1, arrivals=None, link=FAST, hop=None, more=()):
    cloud = cloud or tier("cloud", kind="cloud", trusted=False)
    tiers = (tier("phone"), *more, cloud)
    hops = {
        (near.name, far.name): hop or Hop(link=link)
        for i, near in enumerate(tiers)
        for far in tiers[i + 1 :]
    }
    workload = Workload(
        arrivals=arrivals or Poisson(rate_per_s=rate_per_s / devices), devices=devices
    )
    return Scenario(name="test", tiers=tiers, hops=hops, workload=workload)


def tier(name, *, kind="device", pricing=None, trusted=True, **more):
    return Tier(
        name=name,
        kind=kind,
        slowdown=1.0,
        trusted=trusted,
        pricing=pricing or Owned(),
        **more,
    )
