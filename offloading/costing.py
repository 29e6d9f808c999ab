"""What placements take, leak and cost: one formula for all of them at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offloading.carrying import Carrying, between
from offloading.column import NORMAL, P95, Column, added, root_of_squares, spread_out
from offloading.enumeration import Candidates
from offloading.figure import Figure, weakest
from offloading.option import Option
from offloading.plan import PhaseKind, Plan, PlanError
from offloading.pricing import Use
from offloading.profile import Profile
from offloading.queueing import waits_ms
from offloading.scenario import Hop, Scenario
from offloading.spread import TAILS, least_runs
from offloading.tier import Tier
from splitbench.codecs.container import overhead
from splitbench.release import TensorSpec

Array = NDArray[np.float64]
MAY_LACK = ("latency_p90_ms", "latency_p99_ms", "device_joules")  # figures of which nobody knows
IMPOSSIBLE = ("memory", "load", "message", "functions")  # what no limit of a user can allow
SEEN = np.array([[0.90], [0.95], [0.99]])  # share of requests that are as fast as each of `TAILS`
RARE = np.array([[0.10], [0.05], [0.01]])  # and of the others, which a percentile does not see


@dataclass(frozen=True)
class Estimates:
    """What placements along one route come to, ``(n,)`` each.

    Attributes:
        latency_ms: Median of a request, the mean over images that are sent and that are not.
        latency_p90_ms, latency_p95_ms, latency_p99_ms: Of a request, phases taken as independent;
            NaN where a profile has too few runs for it (the 95th is given all the same).
        usd_per_million: Requests.
        leakage: L at the tier that sees most among those that are not trusted; 0 where none is.
        accuracy, accuracy_drop: Of the task.
        payload_bytes: Of a message from the device, the mean over all images.
        device_joules: A model; NaN where the power of the device or of its radio is not known.
        memory: Whether weights and activations fit into every tier.
        load: Whether every tier keeps up.
        message: Whether every tier accepts messages of this length.
        functions: Whether functions run last segments only, and wait for no other tier.
    """

    latency_ms: Array
    latency_p90_ms: Array
    latency_p95_ms: Array
    latency_p99_ms: Array
    usd_per_million: Array
    leakage: Array
    accuracy: Array
    accuracy_drop: Array
    payload_bytes: Array
    device_joules: Array
    memory: NDArray[np.bool_]
    load: NDArray[np.bool_]
    message: NDArray[np.bool_]
    functions: NDArray[np.bool_]

    @property
    def possible(self) -> NDArray[np.bool_]:
        """Whether nothing of all this is in the way."""
        return self.memory & self.load & self.message & self.functions

    @classmethod
    def of(cls, plan: Plan) -> "Estimates":
        """What a plan says of itself, ``(1,)`` each; a plan was made only where it is possible.

        Raises:
            PlanError: It lacks a figure.
        """
        told = {**dict.fromkeys(MAY_LACK, Figure(math.nan, "assumed")), **plan.figures}
        names = [item.name for item in fields(cls) if item.name not in IMPOSSIBLE]
        if missing := [name for name in names if name not in told]:
            raise PlanError(f"the plan {plan.placement} lacks {', '.join(missing)}")
        values = {name: np.array([told[name].value]) for name in names}
        return cls(**values, **{name: np.array([True]) for name in IMPOSSIBLE})


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
        for near, far in reversed(hops):
            phases += self._back(found, near, far)
        return phases

    def estimate(self, found: Candidates) -> Estimates:
        """Objectives of every placement along a route."""
        phases, sends = self.columns(found), len(found.route) > 1
        share = self._of("share_sent", found) if sends else np.zeros(len(found))
        device = found.route[0].name  # which encodes only what it sends
        here = [phase for phase in phases if phase.where == device and phase.kind != "encode"]
        alone, total = added(here), added(phases)
        with np.errstate(invalid="ignore"):  # where a tier does not keep up, times are infinite
            mean = share * total + (1 - share) * alone
        latency = np.where(np.isfinite(total), mean, np.inf) if sends else total
        tails = phases if sends else here
        slow = total if sends else alone
        payload = share * self._of("payload_bytes", found) if sends else np.zeros(len(found))
        p90, p95, p99 = np.where(share < RARE, alone, slow) + root_of_squares(tails)
        unknown = np.full(len(found), np.nan)
        return Estimates(
            latency_ms=latency,
            latency_p90_ms=p90 if self.runs >= least_runs(90) else unknown,
            latency_p95_ms=p95,
            latency_p99_ms=p99 if self.runs >= least_runs(99) else unknown,
            usd_per_million=1e6 * self._usd(found, phases, share),
            leakage=self._leakage(found),
            accuracy=self._task(found, "accuracy", self.accuracy),
            accuracy_drop=self._task(found, "accuracy_drop", 0.0),
            payload_bytes=payload,
            device_joules=self._joules(found, phases, share),
            memory=self._fits(found),
            load=np.isfinite(total),
            message=self._accepted(found),
            functions=np.full(len(found), all(t.kind != "function" for t in found.route[:-1])),
        )

    @cached_property
    def runs(self) -> int:
        """Behind the times of every part: the fewest of all profiles."""
        own = [tier.profile for tier in self.scenario.tiers if tier.profile]
        return min(each.whole_ms.n for each in (self.profile, *own))

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
        basis = tier.times_basis
        if basis == "measured" and (_within(start, end, self.profile) or np.any(extra)):
            basis = "predicted"
        return Column(
            "compute",
            tier.name,
            measured * tier.factor,
            profile.late_ms[:, start, end] * tier.factor,
            basis,
            tier.source,
        )

    def _small(self, kind: PhaseKind, tier: Tier, ms: Array) -> Column:
        return Column(
            kind, tier.name, ms * tier.factor, np.zeros((len(TAILS), len(ms))), tier.basis
        )

    def _onwards(self, found: Candidates, k: int) -> list[Column]:
        """From tier k - 1 to tier k."""
        near, far = found.route[k - 1], found.route[k]
        where, sent = f"{near.name}>{far.name}", self._sent_bytes(found, k)
        way = self._network(where, near, far, self.scenario.hop(near, far).link.up_ms(sent))
        carried = self._carrying(near, far)
        if carried is None:
            return [way]
        late = carried.late_ms / P95 * np.broadcast_to(NORMAL, (len(TAILS), len(found)))
        return [way, _carry(where, carried.there_ms(sent), late, near, far)]

    def _at(self, found: Candidates, k: int, tier: Tier) -> list[Column]:
        first = k == 1
        extra = self._of("server_extra_ms", found) if k == len(found.route) - 1 else 0.0
        decode = self._of("decode_ms", found) if first else np.zeros(len(found))
        work = self._compute(found, k, np.broadcast_to(extra, (len(found),)))
        small = self._small("decode", tier, decode)
        start = self._start(found, k, tier)
        return [self._queue(found, tier, work, small, shared=True), start, small, work]

    def _back(self, found: Candidates, near: Tier, far: Tier) -> list[Column]:
        where, length = f"{far.name}>{near.name}", float(self.scenario.reply_bytes)
        ms = float(self.scenario.hop(near, far).link.down_ms(length))
        way = self._network(where, near, far, np.full(len(found), ms))
        carried = self._carrying(near, far)
        if carried is None:
            return [way]
        back = np.full(len(found), carried.down_ms)
        return [way, _carry(where, back, np.zeros((len(TAILS), len(found))), near, far)]

    def _network(self, where: str, near: Tier, far: Tier, ms: Array) -> Column:
        link = self.scenario.hop(near, far).link
        jitter = link.jitter_ms * np.broadcast_to(NORMAL, (len(TAILS), len(ms)))
        return Column("network", where, ms, jitter, "assumed", link.name)

    def _carrying(self, near: Tier, far: Tier) -> Carrying | None:
        """Of the runtime at both ends; None where nobody measured it."""
        profiles = [tier.profile or self.profile for tier in (near, far)]
        ends = [p.carrying for p in profiles]
        slower = [near.factor, far.factor]
        known = [(each, factor) for each, factor in zip(ends, slower, strict=True) if each]
        return between(known) if len(known) == len(ends) else None

    def _start(self, found: Candidates, k: int, tier: Tier) -> Column:
        """Mean over requests of the time that cold starts take; a tail where they are common."""
        nothing = np.zeros(len(found))
        if tier.cold_start is None:
            never = np.zeros((len(TAILS), len(found)))
            return Column("start", tier.name, nothing, never, tier.basis)
        share = tier.cold_start.share(self._rate(found))
        each = tier.cold_start.start_ms(self.weight_bytes(found.starts(k), found.ends[:, k]))
        tail = np.where(share > RARE, (1 - share) * each, 0.0)
        return Column(
            "start",
            tier.name,
            share * each,
            tail,
            "assumed",
            tier.cold_start.source or "cold starts",
        )

    def _queue(self, found: Candidates, tier: Tier, *work: Column, shared: bool) -> Column:
        """Mean wait for a place on the tier."""
        load = self.scenario.workload
        rate = self._rate(found) if shared else np.full(len(found), load.device_rate_per_s)
        variability = load.shared_variability if shared else load.arrivals.variability
        busy = added(work)
        use = Use(busy_ms=busy, waiting_ms=0 * busy, rate_per_s=rate, start_ms=0 * busy)
        asked = (rate, busy, tier.pricing.servers(use), variability, spread_out(work))
        wait, late = waits_ms(*asked, q=SEEN)
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
            busy = added([p for p in mine if p.kind in ("compute", "decode", "encode")])
            start = added([p for p in mine if p.kind == "start"])
            use = Use(busy_ms=busy, waiting_ms=behind, rate_per_s=self._rate(found), start_ms=start)
            total = total + tier.pricing.usd(use)
            hop = self.scenario.hop(near, tier)
            total = total + hop.usd(self._sent_bytes(found, k), self.scenario.reply_bytes)
            ways = {f"{near.name}>{tier.name}", f"{tier.name}>{near.name}", tier.name}
            behind = behind + added([p for p in phases if p.where in ways])
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
        joules: Array = device.watts * added(busy) / 1000
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
            fits &= needed <= tier.room_bytes
        return fits

    def _accepted(self, found: Candidates) -> NDArray[np.bool_]:
        """Whether each tier accepts what the one before it sends."""
        accepted = np.ones(len(found), dtype=bool)
        for k, tier in enumerate(found.route[1:], start=1):
            accepted &= self._sent_bytes(found, k) <= tier.most_message_bytes
        return accepted


def _within(start: NDArray[np.int64], end: NDArray[np.int64], profile: Profile) -> bool:
    """Whether some of these segments are neither a head nor a tail, which are what is timed."""
    return bool(((start > 0) & (end < len(profile.cuts) - 1)).any())


def _carry(where: str, ms: Array, late_ms: Array, near: Tier, far: Tier) -> Column:
    basis = weakest([near.basis, far.basis])
    return Column("carry", where, ms, late_ms, basis, "runtime on the loopback interface")


def _radio_watts(hop: Hop) -> float:
    """NaN where nobody knows: to send for nothing would look better than to compute."""
    base = math.nan if hop.radio_watts is None else hop.radio_watts
    return base + hop.radio_watts_per_mbps * hop.link.up_mbps
