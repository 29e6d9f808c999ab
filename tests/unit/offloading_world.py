"""A small model on a few tiers, whose numbers can be worked out by hand."""

from offloading.figure import Figure
from offloading.option import Option
from offloading.pricing import Function, Hourly, Owned
from offloading.profile import CutProfile, Profile
from offloading.scenario import Hop, Scenario
from offloading.spread import Spread
from offloading.tier import ColdStart, Tier
from offloading.workload import Deterministic, Workload
from splitbench.link import FRAMING, Link

HEADS = (0.0, 2.0, 5.0, 9.0, 10.0)  # milliseconds from the image to each cut
BYTES = (1000, 8000, 4000, 400, 40)
NAMES = ("input", "first", "second", "third", "output")
LEAKS = (1.0, 0.9, 0.6, 0.2)


def spread(ms, *, late=1.0, n=1000):
    return Spread(p50=ms, p90=ms * late, p95=ms * late, p99=ms * late, mean=ms, n=n)


def profile(*, heads=HEADS, late=1.0, params=1000):
    whole = heads[-1]
    cuts = tuple(
        CutProfile(
            name=name,
            shapes=((count // 4,),),
            bytes=count,
            head_flops=0,
            tail_flops=0,
            head_params=int(params * head / whole),
            tail_params=params - int(params * head / whole),
            head_ms=spread(head, late=late),
            tail_ms=spread(whole - head, late=late),
            head_memory_bytes=4 * int(params * head / whole) + count,
            tail_memory_bytes=4 * params,
        )
        for name, count, head in zip(NAMES, BYTES, heads, strict=True)
    )
    return Profile(
        model="a chain",
        image_shape=(1, 10, 25),
        machine={"processor": "imagined"},
        threads=1,
        cuts=cuts,
        whole_ms=spread(whole, late=late),
        again_ms=spread(whole, late=late),
    )


def option(cut, leakage, *, name="undefended", exact=True, drop=0.0, share=1.0, payload=None):
    return Option(
        cut=cut,
        name=name,
        payload_bytes=float(BYTES[NAMES.index(cut)] if payload is None else payload),
        leakage=Figure(leakage, "measured", "imagined"),
        accuracy=Figure(0.9 - drop, "measured"),
        accuracy_drop=Figure(drop, "measured"),
        share_sent=share,
        exact=exact,
    )


def options():
    plain = [option(cut, leak) for cut, leak in zip(NAMES, LEAKS, strict=False)]
    noisy = option("second", 0.3, name="noise", exact=False, drop=0.02)
    return (*plain, noisy)


def link(*, up=8.0 * FRAMING, rtt=10.0):
    """One byte takes a microsecond at 8 Mbps, headers aside."""
    return Link(name="wire", up_mbps=up, down_mbps=up, rtt_ms=rtt)


def phone(**changed):
    told = {"slowdown": 4.0, "watts": 2.0, **changed}
    return Tier(name="phone", kind="device", trusted=True, pricing=Owned(), **told)


def cloud(**changed):
    told = {"slowdown": 1.0, "trusted": False, "pricing": Hourly(usd_per_hour=3.6), **changed}
    return Tier(name="cloud", kind="cloud", **told)


def edge(**changed):
    told = {"slowdown": 2.0, "trusted": False, "pricing": Hourly(usd_per_hour=0.36), **changed}
    return Tier(name="edge", kind="edge", **told)


def function(**changed):
    price = Function(usd_per_gb_second=1e-5, usd_per_request=2e-7, memory_mb=1769)
    start = ColdStart(fixed_ms=1000.0, load_mb_per_s=100.0, keep_alive_s=600.0)
    told = {"slowdown": 1.0, "trusted": False, "pricing": price, "cold_start": start, **changed}
    return Tier(name="function", kind="function", **told)


def scenario(*tiers, links=None, rate=1.0, reply=0, egress=0.0, radio_watts=None):
    """All tiers reach all that are behind them, over the same link if none are given."""
    names = [tier.name for tier in tiers]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    hops = {
        pair: Hop(
            link=(links or {}).get(pair, link()), down_usd_per_gb=egress, radio_watts=radio_watts
        )
        for pair in pairs
    }
    asked = Workload(arrivals=Deterministic(rate_per_s=rate))
    return Scenario(
        name="imagined", tiers=tuple(tiers), hops=hops, workload=asked, reply_bytes=reply
    )


ACCURACY = Figure(0.9, "measured", "imagined")
