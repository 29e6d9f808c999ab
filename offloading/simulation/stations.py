"""What requests wait for: servers, functions, and lines. Times are milliseconds of one clock."""

import heapq
import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import simpy

Steps = Generator[Any, Any, None]  # of a simulated process


class Visit(NamedTuple):
    """One request on one tier.

    Attributes:
        request: Its number, in the order of arrival on the devices.
        asked: When it came.
        begun: When its work, or the start before it, began.
        freed: When its place was free for the next one.
        start_ms: What a cold start took; 0 where the instance was warm.
        cold: Whether the instance was not.
        busy_ms: Work.
        waiting_ms: From the end of the work to the reply of the tiers behind.
    """

    request: int
    asked: float
    begun: float
    freed: float
    start_ms: float
    cold: bool
    busy_ms: float
    waiting_ms: float


@dataclass(frozen=True, kw_only=True)
class Autoscaling:
    """Machines that come and go with the requests there are.

    Every now and then the machines that are wanted are counted: as many as keep each below a share
    of its time, those that queue included. More are rented at once, and work when they have
    booted; fewer are kept only after the need was less for a while.

    Attributes:
        boot_s: From renting a machine to its first request, >= 0.
        least, most: Machines.
        busy: Share of its time that each is to work, in (0, 1].
        every_s: Between two counts, > 0.
        hold_s: For which machines are kept that may be needed again, >= 0.
    """

    boot_s: float
    least: int = 1
    most: int = 1000
    busy: float = 0.7
    every_s: float = 10.0
    hold_s: float = 300.0

    def __post_init__(self) -> None:
        if not (0 <= self.boot_s < math.inf and self.every_s > 0 and self.hold_s >= 0):
            raise ValueError(f"{self}: times must not be negative, every_s must be positive")
        if not (1 <= self.least <= self.most and 0 < self.busy <= 1):
            raise ValueError(f"{self}: want 1 <= least <= most, and busy in (0, 1]")


class Machines:
    """Servers with one queue: who comes first is served first; whoever waits for others, not here.

    Args:
        env: The clock.
        count: Machines at the beginning.
        parallel: Requests that one works on at a time.

    Attributes:
        visits: Of all requests that were served.
        spans: From when to when each machine was rented; to infinity where it still is.
    """

    def __init__(self, env: simpy.Environment, count: int, parallel: int) -> None:
        self.env = env
        self.parallel = parallel
        self.visits: list[Visit] = []
        self.spans: list[tuple[float, float]] = []
        self.places = simpy.PriorityStore(env)  # numbers of machines: the first are filled first
        self.working = 0
        for _ in range(count):
            self._ready(self._rent())

    def serve(self, request: int, work_ms: float, behind: Steps) -> Steps:
        """Wait for a place, work, leave it, and have the tiers behind do theirs."""
        asked = self.env.now
        machine = yield self.places.get()
        begun = self.env.now
        self.working += 1
        yield self.env.timeout(work_ms)
        self.working -= 1
        self.places.put(machine)
        freed = self.env.now
        yield from behind
        waited = self.env.now - freed
        self.visits.append(Visit(request, asked, begun, freed, 0.0, False, work_ms, waited))

    def scale(self, rules: Autoscaling) -> Steps:
        """Rent and give back machines, for ever."""
        recent: deque[int] = deque(maxlen=1 + int(rules.hold_s / rules.every_s))
        while True:
            yield self.env.timeout(1000 * rules.every_s)
            there = self.working + len(self.places.get_queue)
            needed = math.ceil(there / (self.parallel * rules.busy))
            recent.append(min(max(needed, rules.least), rules.most))
            rented = sum(until == math.inf for _, until in self.spans)
            for _ in range(max(recent) - rented):
                self.env.process(self._boot(self._rent(), rules.boot_s))
            if max(recent) < rented:
                self._give_back(rented - max(recent))

    def _rent(self) -> int:
        self.spans.append((self.env.now, math.inf))
        return len(self.spans) - 1

    def _boot(self, machine: int, boot_s: float) -> Steps:
        yield self.env.timeout(1000 * boot_s)
        self._ready(machine)

    def _ready(self, machine: int) -> None:
        for _ in range(self.parallel):
            self.places.put(machine)

    def _give_back(self, count: int) -> None:
        """The last ones, if they are idle: they are where the first ones suffice."""
        free = self.places.items
        idle = [m for m in sorted({*free}, reverse=True) if free.count(m) == self.parallel]
        for machine in idle[:count]:
            self.spans[machine] = self.spans[machine][0], self.env.now
        free[:] = [m for m in free if self.spans[m][1] == math.inf]
        heapq.heapify(free)


class Functions:
    """Instances of a function, one for each request at a time, which stay warm for a while.

    The instance that was used last is used first, so that those that are not needed go away. An
    instance is taken until the tiers behind have replied.

    Args:
        env: The clock.
        start_ms: Of a cold start.
        keep_alive_ms: For which an idle instance stays; infinite where nothing is ever cold.

    Attributes:
        visits: Of all requests that were served.
        spans: From when to when each instance was there.
    """

    parallel = 1  # requests that one instance works on at a time

    def __init__(self, env: simpy.Environment, start_ms: float, keep_alive_ms: float) -> None:
        self.env = env
        self.start_ms = start_ms
        self.keep_alive_ms = keep_alive_ms
        self.visits: list[Visit] = []
        self._gone: list[tuple[float, float]] = []
        self._taken: set[int] = set()
        self._born: list[float] = []
        self._idle: deque[tuple[int, float]] = deque()  # and since when; who is idle longest first

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Instances that are idle are there until they go; those that are taken, to infinity."""
        idle = [(self._born[i], since + self.keep_alive_ms) for i, since in self._idle]
        return [*self._gone, *idle, *((self._born[i], math.inf) for i in self._taken)]

    def serve(self, request: int, work_ms: float, behind: Steps) -> Steps:
        """Take a warm instance or start one, work, and have the tiers behind do theirs."""
        asked = self.env.now
        instance, warm = self._take()
        start_ms = 0.0 if warm else self.start_ms
        yield self.env.timeout(start_ms + work_ms)
        done = self.env.now
        yield from behind
        freed = self.env.now
        self._taken.remove(instance)
        self._idle.append((instance, freed))
        cold = not warm and self.keep_alive_ms < math.inf
        visit = Visit(request, asked, asked, freed, start_ms, cold, work_ms, freed - done)
        self.visits.append(visit)

    def _take(self) -> tuple[int, bool]:
        while self._idle and self._idle[0][1] + self.keep_alive_ms < self.env.now:
            instance, since = self._idle.popleft()
            self._gone.append((self._born[instance], since + self.keep_alive_ms))
        warm = bool(self._idle)
        if warm:
            instance, _ = self._idle.pop()
        else:
            instance = len(self._born)
            self._born.append(self.env.now)
        self._taken.add(instance)
        return instance, warm


class Line:
    """One direction of a link: one message after the other; then each takes its time to arrive.

    Args:
        env: The clock.
    """

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.turn = simpy.Resource(env)

    def send(self, sending_ms: float, delay_ms: float) -> Steps:
        """Wait for the line, have it to oneself, and arrive."""
        with self.turn.request() as turn:
            yield turn
            yield self.env.timeout(sending_ms)
        yield self.env.timeout(delay_ms)
