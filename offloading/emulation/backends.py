"""Choosing how links are imitated: the best way that this machine allows."""

from collections.abc import Mapping
from typing import Literal, get_args

from offloading.bandwidth import BandwidthTrace
from offloading.emulation.analytic import Analytic
from offloading.emulation.emulation import Emulation, EmulationError, Hop
from offloading.emulation.netem import Netem
from offloading.emulation.shaped_sockets import ShapedSockets
from offloading.emulation.tun_relay import TunRelay
from splitbench.link import Link

Backend = Literal["auto", "netem", "tun", "proxy", "analytic"]
# From the best to the last resort; the analytic one is never chosen for somebody.
BACKENDS: tuple[type[Emulation], ...] = (Netem, TunRelay, ShapedSockets, Analytic)


def emulation(
    backend: Backend,
    *,
    hops: Mapping[Hop, Link],
    traces: Mapping[Hop, BandwidthTrace] | None = None,
    seed: int = 0,
) -> tuple[Emulation, tuple[str, ...]]:
    """Imitated links, not yet open.

    ``auto`` tries, by opening and closing it, netem, tun and proxy in this order.

    Returns:
        The emulation, and why each better one is not used.

    Raises:
        ValueError: No such backend.
        EmulationError: None of them works here.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend={backend!r}: choose from {', '.join(get_args(Backend))}")
    reasons: list[str] = []
    for kind in BACKENDS:
        made = kind(hops=hops, traces=traces, seed=seed)
        if backend == made.backend:
            return made, ()
        if backend != "auto" or not kind.shapes:
            continue
        try:
            with made:
                return kind(hops=hops, traces=traces, seed=seed), tuple(reasons)
        except EmulationError as error:
            reasons.append(f"{kind.backend}: {error}")
    raise EmulationError("no link can be imitated here: " + "; ".join(reasons))
