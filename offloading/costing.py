"""What placements take, leak and cost: one formula for all of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offloading.enumeration import Candidates
from offloading.figure import Basis
from offloading.option import Option
from offloading.plan import PhaseKind
from offloading.pricing import Use
from offloading.profile import Profile
from offloading.queueing import mean_wait_ms, wait_percentile_ms
from offloading.scenario import Hop, Scenario
from offloading.tier import Tier
from splitbench.codecs.container import overhead
from splitbench.release import TensorSpec

Array = NDArray[np.float64]
P95 = 1.645  # standard deviations at which one of twenty normal values is larger
RARE = 0.05  # share of requests that the 95th percentile does not see


@dataclass(frozen=True)
class Column:
    """One phase of a request that is sent, over all placements along a route.

    Attributes:
        kind: What happens.
        where: Tier or hop.
        ms: Medians, ``(n,)``.
        tail_ms: How much longer one in twenty takes.
        basis: What the times rest on.
        source: Where from.
    """

    kind: PhaseKind
    where: str
    ms: Array
    tail_ms: Array
    basis: Basis
    source: str = ""


@dataclass(frozen=True)
class Estimates:
    """What placements along one route come to, ``(n,)`` each.

    Attributes:
        latency_ms: Median of a request, the mean over images that are sent and that are not.
        latency_p95_ms: Of a request, phases taken as independent.
        usd_per_million: Requests.
        leakage: L at the tier that sees most among those that are not trusted; 0 where none is.
        accuracy, accuracy_drop: Of the task.
        payload_bytes: Of a message from the device, the mean over all images.
        device_joules: A model; NaN where the power is not known.
        possible: Memory suffices, and no tier is asked for more than it can do.
    """

    latency_ms: Array
    latency_p95_ms: Array
    usd_per_million: Array
    leakage: Array
    accuracy: Array
    accuracy_drop: Array
    payload_bytes: Array
    device_joules: Array
    possible: NDArray[np.bool_]


class Costing:
    """Computes phases and estimates of placements in one scenario.

    Args:
        scenario: Tiers, hops, workload.
        profile: Of the model; tiers that were profiled themselves have their own.
        options: What may leave the device.
        accuracy: Of the undefended model, for placements that send nothing.
    """

    def __init__(
        self, scenario: Scenario, profile: Profile, options: tuple[Option, ...], *, accuracy: float
    ) -> None:
        self.scenario = scenario
        self.profile = profile
        self.options = options
        self.accuracy = accuracy

    def columns(self, found: Candidates) -> list[Column]:
        """The phases of a request that is sent, in their order."""
        device, *others = found.route
        head = self._compute(found, 0, self._of("client_extra_ms", found))
        if not others:
            return [self._queue(found, device, head, shared=False), head]
        encode = self._small("encode", device, self._of("encode_ms", found))
        phases = [self._queue(found, device, head, encode, shared=False), head, encode]
        for k, tier in enumerate(others, start=1):
            phases += self._onwards(found, k)
            phases += self._at(found, k, tier)
        hops = list(zip(found.route[:-1], found.route[1:], strict=True))
        phases += [self._back(found, near, far) for near, far in reversed(hops)]
        return phases

    def estimate(self, found: Candidates) -> Estimates:
        """Objectives of every placement along a route."""
        phases, sends = self.columns(found), len(found.route) > 1
        share = self._of("share_sent", found) if sends else np.zeros(len(found))
        device = found.route[0].name  # which encodes only what it sends
        here = [phase for phase in phases if phase.where == device and phase.kind != "encode"]
        alone, total = _sum(here), _sum(phases)
        with np.errstate(invalid="ignore"):  # where a tier does not keep up, times are infinite
            mean = share * total + (1 - share) * alone
        latency = np.where(np.isfinite(total), mean, np.inf) if sends else total
        tails = phases if sends else here
        slow = total if sends else alone
        payload = share * self._of("payload_bytes", found) if sends else np.zeros(len(found))
        return Estimates(
            latency_ms=latency,
            latency_p95_ms=np.where(share < RARE, alone, slow) + _root_of_squares(tails),
            usd_per_million=1e6 * self._usd(found, phases, share),
            leakage=self._leakage(found),
            accuracy=self._task(found, "accuracy", self.accuracy),
            accuracy_drop=self._task(found, "accuracy_drop", 0.0),
            payload_bytes=payload,
            device_joules=self._joules(found, phases, share),
            possible=self._fits(found) & np.isfinite(total),
        )

    @cached_property
    def plain_bytes(self) -> Array:
        """Length of a message with the plain features of each cut."""
        shapes = [[TensorSpec("", shape) for shape in cut.shapes] for cut in self.profile.cuts]
        extra = np.array([overhead(specs) for specs in shapes], dtype=np.float64)
        return extra + np.array([cut.bytes for cut in self.profile.cuts], dtype=np.float64)

    @cached_property
    def plain_leakage(self) -> Array:
        """L of the plain features of each cut; where nobody measured, that of the cut before."""
        known = {self.profile.places[o.cut]: o.leakage.value for o in self.options if o.exact}
        found, last = np.ones(len(self.profile.cuts)), 1.0
        for place in range(len(found)):
            last = known.get(place, last)
            found[place] = last
        return found

    def _compute(self, found: Candidates, k: int, extra: Array) -> Column:
        tier = found.route[k]
        profile = tier.profile or self.profile
        start, end = found.starts(k), found.ends[:, k]
        measured = np.maximum(profile.segments_ms[start, end] + extra, 0.0)
        basis: Basis = "predicted" if tier.profile else tier.basis
        return Column(
            "compute",
            tier.name,
            measured * tier.factor,
            profile.tails_ms[start, end] * tier.factor,
            basis,
            tier.source,
        )

    def _small(self, kind: PhaseKind, tier: Tier, ms: Array) -> Column:
        return Column(kind, tier.name, ms * tier.factor, np.zeros_like(ms), tier.basis)

    def _onwards(self, found: Candidates, k: int) -> list[Column]:
        """From tier k - 1 to tier k."""
        near, far = found.route[k - 1], found.route[k]
        link = self.scenario.hop(near, far).link
        times = link.up_ms(self._sent_bytes(found, k))
        jitter = np.full(len(found), P95 * link.jitter_ms)
        return [Column("network", f"{near.name}>{far.name}", times, jitter, "assumed", link.name)]

    def _at(self, found: Candidates, k: int, tier: Tier) -> list[Column]:
        first = k == 1
        extra = self._of("server_extra_ms", found) if k == len(found.route) - 1 else 0.0
        decode = self._of("decode_ms", found) if first else np.zeros(len(found))
        work = self._compute(found, k, np.broadcast_to(extra, (len(found),)))
        small = self._small("decode", tier, decode)
        start = self._start(found, k, tier)
        return [self._queue(found, tier, work, small, shared=True), start, small, work]

    def _back(self, found: Candidates, near: Tier, far: Tier) -> Column:
        link = self.scenario.hop(near, far).link
        ms = np.full(len(found), float(link.down_ms(float(self.scenario.reply_bytes))))
        jitter = np.full(len(found), P95 * link.jitter_ms)
        return Column("network", f"{far.name}>{near.name}", ms, jitter, "assumed", link.name)

    def _start(self, found: Candidates, k: int, tier: Tier) -> Column:
        """Mean over requests of the time that cold starts take; a tail where they are common."""
        nothing = np.zeros(len(found))
        if tier.cold_start is None:
            return Column("start", tier.name, nothing, nothing, tier.basis)
        share = tier.cold_start.share(self._rate(found))
        each = tier.cold_start.start_ms(self.weight_bytes(found.starts(k), found.ends[:, k]))
        tail = np.where(share > RARE, (1 - share) * each, 0.0)
        return Column("start", tier.name, share * each, tail, "assumed", "cold starts")

    def _queue(self, found: Candidates, tier: Tier, *work: Column, shared: bool) -> Column:
        """Mean wait for a place on the tier."""
        load = self.scenario.workload
        rate = self._rate(found) if shared else np.full(len(found), load.device_rate_per_s)
        variability = load.shared_variability if shared else load.arrivals.variability
        busy = _sum(work)
        use = Use(busy_ms=busy, waiting_ms=0 * busy, rate_per_s=rate, start_ms=0 * busy)
        asked = (rate, busy, tier.pricing.servers(use), variability, _variability(work))
        wait, late = mean_wait_ms(*asked), wait_percentile_ms(*asked, q=0.95)
        with np.errstate(invalid="ignore"):  # where nobody keeps up, both are infinite
            tail = np.where(np.isfinite(wait), np.maximum(late - wait, 0.0), np.inf)
        return Column("queue", tier.name, wait, tail, "predicted", "queue")

    def _rate(self, found: Candidates) -> Array:
        """Requests per second that leave the devices."""
        share = self._of("share_sent", found)
        return np.maximum(self.scenario.workload.rate_per_s * share, 1e-12)

    def _sent_bytes(self, found: Candidates, k: int) -> Array:
        if k == 1:
            return self._of("payload_bytes", found)
        return self.plain_bytes[found.ends[:, k - 1]]

    def _usd(self, found: Candidates, phases: Sequence[Column], share: Array) -> Array:
        total, behind = np.zeros(len(found)), np.zeros(len(found))
        for k in range(len(found.route) - 1, 0, -1):
            near, tier = found.route[k - 1], found.route[k]
            mine = [p for p in phases if p.where == tier.name]
            busy = _sum([p for p in mine if p.kind in ("compute", "decode", "encode")])
            start = _sum([p for p in mine if p.kind == "start"])
            use = Use(busy_ms=busy, waiting_ms=behind, rate_per_s=self._rate(found), start_ms=start)
            total = total + tier.pricing.usd(use)
            hop = self.scenario.hop(near, tier)
            total = total + hop.usd(self._sent_bytes(found, k), self.scenario.reply_bytes)
            ways = {f"{near.name}>{tier.name}", f"{tier.name}>{near.name}", tier.name}
            behind = behind + _sum([p for p in phases if p.where in ways])
        return share * total

    def _leakage(self, found: Candidates) -> Array:
        """Of the first tier that is not trusted: whoever is behind it sees what follows from it."""
        for k, tier in enumerate(found.route[1:], start=1):
            if not tier.trusted:
                sent: Array = np.array([o.leakage.value for o in self.options])[found.options]
                if k == 1:
                    return sent
                passed: Array = np.minimum(sent, self.plain_leakage[found.ends[:, k - 1]])
                return passed
        return np.zeros(len(found))

    def _task(self, found: Candidates, name: str, otherwise: float) -> Array:
        values = [getattr(o, name).value for o in self.options]
        each: Array = np.array([*values, otherwise])[found.options]
        return each

    def _of(self, name: str, found: Candidates) -> Array:
        nothing = 1.0 if name == "share_sent" else 0.0
        values = [*(getattr(o, name) for o in self.options), nothing]
        each: Array = np.array(values, dtype=np.float64)[found.options]
        return each

    def _joules(self, found: Candidates, phases: Sequence[Column], share: Array) -> Array:
        device = found.route[0]
        if device.watts is None:
            return np.full(len(found), np.nan)
        busy = [p for p in phases if p.where == device.name and p.kind in ("compute", "encode")]
        joules: Array = device.watts * _sum(busy) / 1000
        if len(found.route) > 1:
            hop = self.scenario.hop(device, found.route[1])
            sending = (hop.link.up_ms(self._sent_bytes(found, 1)) - hop.link.up_ms(0.0)) / 1000
            joules = joules + share * _radio_watts(hop) * sending
        return joules

    def weight_bytes(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> Array:
        """Of the parameters between two cuts, as 32-bit floats."""
        heads: Array = np.array([4.0 * cut.head_params for cut in self.profile.cuts])
        weights: Array = np.maximum(heads[end] - heads[start], 0.0)
        return weights

    def _fits(self, found: Candidates) -> NDArray[np.bool_]:
        """Whether weights and activations of each segment go into the memory of its tier."""
        heads = np.array([float(c.head_memory_bytes) for c in self.profile.cuts])
        alive = heads - np.array([4.0 * c.head_params for c in self.profile.cuts])
        fits = np.ones(len(found), dtype=bool)
        for k, tier in enumerate(found.route):
            start, end = found.starts(k), found.ends[:, k]
            needed = self.weight_bytes(start, end) + np.maximum(alive[end], 0.0)
            fits &= needed <= tier.memory_bytes
        return fits


def _sum(phases: Sequence[Column]) -> Array:
    if not phases:
        return np.zeros(1)
    total: Array = np.sum([phase.ms for phase in phases], axis=0)
    return total


def _root_of_squares(phases: Sequence[Column]) -> Array:
    found: Array = np.sqrt(np.sum([phase.tail_ms**2 for phase in phases], axis=0))
    return found


def _variability(work: Sequence[Column]) -> Array:
    """Squared coefficient of variation of the time that work takes, from its tail."""
    deviation = _root_of_squares(work) / P95
    found: Array = (deviation / np.maximum(_sum(work), 1e-9)) ** 2
    return found


def _radio_watts(hop: Hop) -> float:
    return float((hop.radio_watts or 0.0) + hop.radio_watts_per_mbps * hop.link.up_mbps)
