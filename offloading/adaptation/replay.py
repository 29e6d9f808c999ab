"""A recorded network played again, with a policy that does not know what comes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offloading.adaptation.menu import Menu
from offloading.adaptation.policy import Feedback, Policy
from offloading.bandwidth import BandwidthTrace

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What came of a policy; one value for each request.

    Attributes:
        policy: Its name.
        plans: Names of the plans.
        seconds: When requests were made.
        mbps: The rate at that time.
        waiting: Requests of others that waited at the server at that time.
        estimates_mbps: What the policy took it for; NaN where it does not ask.
        chosen: Index of the plan.
        latency_ms: What it took.
        best_ms: What the best plan of the menu would have taken.
        deadline_ms: For `violations`; infinite where there is none.
    """

    policy: str
    plans: tuple[str, ...]
    seconds: Array
    mbps: Array
    waiting: Array
    estimates_mbps: Array
    chosen: NDArray[np.int64]
    latency_ms: Array
    best_ms: Array
    deadline_ms: float

    @property
    def regret_ms(self) -> Array:
        """How much longer than the best plan each request took, >= 0."""
        return self.latency_ms - self.best_ms

    @property
    def mean_regret_ms(self) -> float:
        """Mean of it."""
        return float(self.regret_ms.mean())

    @property
    def violations(self) -> float:
        """Share of requests that missed the deadline."""
        return float((self.latency_ms > self.deadline_ms).mean())

    @property
    def unavoidable(self) -> float:
        """Share of requests that every plan would have been late for."""
        return float((self.best_ms > self.deadline_ms).mean())

    @property
    def changes_per_minute(self) -> float:
        """How often the plan was another one than before."""
        minutes = max(float(self.seconds[-1] - self.seconds[0]) / 60, 1e-9)
        return float((np.diff(self.chosen) != 0).sum() / minutes)


def replay(
    policy: Policy,
    menu: Menu,
    trace: BandwidthTrace,
    seconds: Array,
    *,
    load: Array | None = None,
    deadline_ms: float = np.inf,
) -> Replay:
    """Make requests one after the other, each over the trace at its time.

    A payload crosses the trace as it is then, with whatever the rate does meanwhile. Requests do
    not wait for each other: the trace is that of a device that is seldom asked.

    Args:
        policy: Chooses; only what a device can see is told to it.
        menu: The same that the policy was made for.
        trace: Of the device's link.
        seconds: When requests are made, ascending ``(n,)``.
        load: Requests of others that wait at the server at that time, ``(n,)``; None for none.
            Each takes the server as long as the one that comes. Who sends is told the number.
        deadline_ms: By which a request should be answered.
    """
    waiting = np.zeros(len(seconds)) if load is None else load
    every = latencies(menu, trace, seconds, waiting)
    chosen = np.zeros(len(seconds), dtype=np.int64)
    estimates = np.zeros(len(seconds))
    for i, now in enumerate(seconds.tolist()):
        estimates[i] = policy.estimate_mbps
        chosen[i] = policy.choose(now)
        choice = menu.choices[chosen[i]]
        sent = None
        if choice.bits:
            sent = choice.bits / (trace.finish_s(now, choice.bits) - now) / 1e6
        feedback = Feedback(
            choice=int(chosen[i]),
            latency_ms=float(every[chosen[i], i]),
            sent_mbps=sent,
            load=float(waiting[i]) if choice.bits else None,
        )
        policy.learn(now, feedback)
    return Replay(
        policy=policy.name,
        plans=tuple(choice.name for choice in menu.choices),
        seconds=seconds,
        mbps=np.array([trace.at(second) for second in seconds.tolist()]),
        waiting=waiting,
        estimates_mbps=estimates,
        chosen=chosen,
        latency_ms=every[chosen, np.arange(len(seconds))],
        best_ms=every.min(0),
        deadline_ms=deadline_ms,
    )


def latencies(menu: Menu, trace: BandwidthTrace, seconds: Array, load: Array) -> Array:
    """What every plan takes at every time, ``(choices, n)``: what a clairvoyant knows.

    Args:
        menu: The plans.
        trace: Of the device's link.
        seconds: When requests are made, ``(n,)``.
        load: Requests of others that wait at the server at that time, ``(n,)``.
    """
    sending = np.array(
        [
            [1000 * (trace.finish_s(now, choice.bits) - now) for now in seconds.tolist()]
            for choice in menu.choices
        ]
    )
    fixed = np.array([[choice.fixed_ms] for choice in menu.choices])
    served = np.array([[choice.server_ms] for choice in menu.choices]) * (1 + load)[None]
    found: Array = fixed + served + sending
    return found


class Clairvoyant(Policy):
    """Knows trace and load. No policy can do better with the same menu.

    Args:
        menu: The plans.
        trace: The network that is to come.
        load: Requests that wait at the server, by the second at which a request is made.
    """

    name = "clairvoyant"

    def __init__(
        self, menu: Menu, trace: BandwidthTrace, load: dict[float, float] | None = None
    ) -> None:
        self.menu, self.trace, self.load = menu, trace, load or {}

    def choose(self, now_s: float) -> int:
        """The fastest of all."""
        load = np.array([self.load.get(now_s, 0.0)])
        return int(latencies(self.menu, self.trace, np.array([now_s]), load)[:, 0].argmin())

    def learn(self, now_s: float, feedback: Feedback) -> None:
        """It knows."""
