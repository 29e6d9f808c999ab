"""Running a plan under load."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import simpy
from numpy.typing import NDArray

from offloading.plan import Plan
from offloading.pricing import SECONDS_PER_HOUR, Hourly, Use
from offloading.scenario import Scenario, ScenarioError
from offloading.simulation.journey import Durations, Journey, Stop
from offloading.simulation.load import merged_arrivals
from offloading.simulation.outcome import (
    BATCHES,
    LATENCIES,
    Interval,
    Simulated,
    TierLoad,
    level,
    mean,
)
from offloading.simulation.stations import (
    Autoscaling,
    Functions,
    Line,
    Machines,
    Steps,
    Visit,
)

Array = NDArray[np.float64]
WARM_UP = 0.1  # share of the requests at the beginning that is not counted
FEWEST = 200


def simulate(
    plan: Plan,
    scenario: Scenario,
    *,
    requests: int = 20_000,
    seed: int = 0,
    autoscaling: Mapping[str, Autoscaling] | None = None,
    durations: Durations | None = None,
) -> Simulated:
    """Let requests come, wait, and be served as planned.

    A device works on one request at a time, has its own line to the next tier, and that line
    carries one message each way at a time; lines between tiers behind it are shared by all. A
    machine takes the next request while one of its own waits for tiers behind it; an instance of a
    function does not, and is paid for meanwhile. Tiers with a fixed number of servers are always
    warm. Images that the device answers itself are neither encoded nor sent.

    Args:
        plan: Its phases are medians (and tails, where it has them) of the work; its predictions of
            queues and cold starts are not used.
        scenario: Tiers, hops, and what is asked.
        requests: Of all devices together, >= 200.
        seed: Of all random numbers.
        autoscaling: By name of a tier that is rented by the hour; otherwise it has the machines
            that it was planned with, all the time.
        durations: Where work does not take lognormal times through its median and its tail.

    Raises:
        ScenarioError: Plan and scenario do not fit together.
        ValueError: Too few requests.
    """
    if requests < FEWEST:
        raise ValueError(f"requests={requests}: want at least {FEWEST}")
    journey = Journey.of(plan, scenario, durations or {})
    run = _Run(journey, scenario, requests, np.random.default_rng(seed), autoscaling or {})
    run.go()
    first = int(WARM_UP * requests)
    kept = run.latencies_ms[first:]
    window = run.arrivals_ms[first], run.arrivals_ms[-1]
    sent = float(run.sent[first:].mean())
    return Simulated(
        placement=str(plan.placement),
        scenario=scenario.name,
        requests=kept.size,
        seed=seed,
        latency_ms={name: Interval.over(kept, each) for name, each in LATENCIES.items()},
        tiers=tuple(run.load(k, first, window) for k in range(len(journey.stops))),
        traffic_usd_per_million=1e6 * sent * sum(way.usd for way in journey.ways),
        overloaded=run.overloaded(),
        latencies_ms=kept,
    )


class _Run:
    """One run: stations, lines, and what each request takes."""

    def __init__(
        self,
        journey: Journey,
        scenario: Scenario,
        requests: int,
        rng: np.random.Generator,
        autoscaling: Mapping[str, Autoscaling],
    ) -> None:
        self.env = simpy.Environment()
        self.journey, self.workload, self.autoscaling = journey, scenario.workload, autoscaling
        times, self.device_of = merged_arrivals(self.workload, requests, rng)
        self.arrivals_ms = 1000 * (times - times[0])
        self.sent = rng.random(requests) < journey.share_sent
        self.latencies_ms = np.zeros(requests)
        device, *others = journey.stops
        self.head_ms = device.work_ms(requests, rng, kind="compute")
        self.encode_ms = device.work_ms(requests, rng, kind="encode")
        self.work_ms = [stop.work_ms(requests, rng, kind=None) for stop in others]
        self.delays_ms = [
            [
                np.maximum(delay_ms + way.hop.link.jitter_ms * rng.standard_normal(requests), 0)
                for delay_ms in way.delay_ms
            ]
            for way in journey.ways
        ]
        devices = self.workload.devices
        self.lines = [
            [(Line(self.env), Line(self.env)) for _ in range(devices if k == 0 else 1)]
            for k in range(len(journey.ways))
        ]
        self.stations = [
            [self._station(stop) for _ in range(devices if k == 0 else 1)]
            for k, stop in enumerate(journey.stops)
        ]
        named = {stop.tier.name for stop in others if isinstance(stop.tier.pricing, Hourly)}
        if {*autoscaling} - named:
            raise ScenarioError(
                f"autoscaling of {sorted({*autoscaling} - named)}: of the tiers that are rented by "
                f"the hour, the plan uses {sorted(named)}"
            )

    def go(self) -> None:
        """Until the last request has its reply."""
        self.open = self.arrivals_ms.size
        self.done = self.env.event()
        self.env.process(self._arrive())
        for stop, (station, *_) in zip(self.journey.stops, self.stations, strict=True):
            rules = self.autoscaling.get(stop.tier.name)
            if rules is not None and isinstance(station, Machines):
                self.env.process(station.scale(rules))
        self.env.run(self.done)

    def load(self, k: int, first: int, window: tuple[float, float]) -> TierLoad:
        """What happened on one tier, from the request with this number on."""
        stop, stations = self.journey.stops[k], self.stations[k]
        visits = sorted(visit for station in stations for visit in station.visits)
        seen = [visit for visit in visits if visit.request >= first]
        waits = np.array([visit.begun - visit.asked for visit in seen])
        cold = np.array([float(visit.cold) for visit in seen])
        there = sum(level(station.spans, *window) * station.parallel for station in stations)
        starts = isinstance(stations[0], Functions) and stop.tier.cold_start is not None
        enough = len(seen) >= BATCHES
        return TierLoad(
            tier=stop.tier.name,
            servers=there,
            working=level([(visit.begun, visit.freed) for visit in visits], *window),
            wait_ms=Interval.over(waits, mean) if enough else None,
            cold_share=Interval.over(cold, mean) if enough and starts else None,
            usd_per_million=1e6 * self._usd(stop, seen, window, there) / (self.sent.size - first),
        )

    def overloaded(self) -> tuple[str, ...]:
        """Tiers and lines whose queues grow without end."""
        found = []
        own, shared = self.workload.device_rate_per_s, self.workload.rate_per_s
        for k, stop in enumerate(self.journey.stops):
            rate = own if k == 0 else shared * self.journey.share_sent
            servers = float(stop.tier.pricing.servers(stop.use(max(rate, 1e-12)))[0])
            work = self.head_ms.mean() if k == 0 else self.work_ms[k - 1].mean()
            if k == 0:
                work += self.journey.share_sent * self.encode_ms.mean()
            if rate * work / 1000 >= servers and stop.tier.name not in self.autoscaling:
                found.append(stop.tier.name)
        for k, way in enumerate(self.journey.ways):
            rate = (own if k == 0 else shared) * self.journey.share_sent
            if rate * max(way.sending_ms) / 1000 >= 1:
                found.append(f"{self.journey.stops[k].tier.name}>{way.hop.link.name}")
        return tuple(found)

    def _station(self, stop: Stop) -> Machines | Functions:
        rate = self.workload.rate_per_s * self.journey.share_sent
        servers = float(stop.tier.pricing.servers(stop.use(max(rate, 1e-12)))[0])
        cold, rules = stop.tier.cold_start, self.autoscaling.get(stop.tier.name)
        if math.isinf(servers):
            if cold is None:
                return Functions(self.env, 0.0, math.inf)
            start_ms = cold.start_ms(stop.weight_bytes)
            return Functions(self.env, start_ms, 1000 * cold.keep_alive_s)
        pricing = stop.tier.pricing
        parallel = pricing.parallel if isinstance(pricing, Hourly) else int(servers)
        count = rules.least if rules else int(servers) // parallel
        return Machines(self.env, count, parallel)

    def _usd(
        self, stop: Stop, seen: Sequence[Visit], window: tuple[float, float], there: float
    ) -> float:
        """Machines by the hour, whether they work or not; all else by the request."""
        pricing = stop.tier.pricing
        if isinstance(pricing, Hourly):
            hours = (window[1] - window[0]) / 1000 / SECONDS_PER_HOUR
            return there / pricing.parallel * hours * pricing.usd_per_hour
        if not seen:
            return 0.0
        use = Use(
            busy_ms=np.array([visit.busy_ms for visit in seen]),
            waiting_ms=np.array([visit.waiting_ms for visit in seen]),
            rate_per_s=np.full(len(seen), self.workload.rate_per_s),
            start_ms=np.array([visit.start_ms for visit in seen]),
        )
        return float(pricing.usd(use).sum())

    def _arrive(self) -> Steps:
        for i, at in enumerate(self.arrivals_ms):
            yield self.env.timeout(max(at - self.env.now, 0.0))
            self.env.process(self._request(i))

    def _request(self, i: int) -> Steps:
        began = self.env.now
        work_ms = self.head_ms[i] + (self.encode_ms[i] if self.sent[i] else 0.0)
        behind = self._beyond(i, 0) if self.sent[i] else _nothing()
        yield from self.stations[0][self.device_of[i]].serve(i, work_ms, behind)
        self.latencies_ms[i] = self.env.now - began
        self.open -= 1
        if not self.open:
            self.done.succeed()

    def _beyond(self, i: int, k: int) -> Steps:
        """Over hop k, through the tier behind it, and back."""
        if k == len(self.journey.ways):
            return
        up, down = self.lines[k][self.device_of[i] if k == 0 else 0]
        (there_ms, back_ms), delays = self.journey.ways[k].sending_ms, self.delays_ms[k]
        yield from up.send(there_ms, delays[0][i])
        yield from self.stations[k + 1][0].serve(i, self.work_ms[k][i], self._beyond(i, k + 1))
        yield from down.send(back_ms, delays[1][i])


def _nothing() -> Steps:
    """Nobody behind has to do anything."""
    yield from ()
