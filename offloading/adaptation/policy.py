"""Which plan the next request takes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offloading.adaptation.estimator import Estimator
from offloading.adaptation.menu import Menu
from offloading.adaptation.rate import STALE_S, Rate

BINS = 48
_LEAST, _MOST = 0.1, 10_000.0  # Mbit/s over which the table reaches


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What the device saw of a request.

    Attributes:
        choice: Index into the menu.
        latency_ms: Of the whole request.
        sent_mbps: Rate of its transfer; None where nothing was sent.
        load: Requests that waited at the server, as its reply says; None where nothing was sent.
    """

    choice: int
    latency_ms: float
    sent_mbps: float | None
    load: float | None


class Policy(ABC):
    """Chooses among the plans of a menu, and learns from what comes of it."""

    name: str

    @abstractmethod
    def choose(self, now_s: float) -> int:
        """Index into the menu for a request at this time."""

    @abstractmethod
    def learn(self, now_s: float, feedback: Feedback) -> None:
        """Take note of how it went."""

    @property
    def estimate_mbps(self) -> float:
        """What it takes the rate for; NaN where it does not ask."""
        return float("nan")


class Static(Policy):
    """Always the same plan.

    Args:
        menu: The plans.
        choice: Index of the plan.
    """

    def __init__(self, menu: Menu, choice: int) -> None:
        self.choice = range(len(menu))[choice]
        self.name = f"always {menu.choices[choice].name}"

    def choose(self, now_s: float) -> int:
        """The plan."""
        del now_s
        return self.choice

    def learn(self, now_s: float, feedback: Feedback) -> None:
        """Nothing."""


class Table(Policy):
    """The best plan for each range of rates, looked up by an estimate of the rate.

    It changes only for a plan that is better by a margin, and not again before some time has
    passed: both halves of every plan are loaded already, but a rate that wavers about a boundary
    would have it change all the time. Where it sends nothing it learns nothing, so after a while
    it sends one request to see.

    Args:
        menu: The plans.
        estimator: Of the rate.
        mbps: What the rate is taken for before anything was sent.
        margin: Share by which another plan must be faster, >= 0.
        dwell_s: Least time between two changes, >= 0.
        stale_s: After so long without a transfer one is made to see, > 0.
    """

    name = "table"

    def __init__(
        self,
        menu: Menu,
        estimator: Estimator,
        *,
        mbps: float,
        margin: float = 0.1,
        dwell_s: float = 2.0,
        stale_s: float = STALE_S,
    ) -> None:
        if not (margin >= 0 and dwell_s >= 0):
            raise ValueError(f"margin={margin}, dwell_s={dwell_s}: must not be negative")
        self.menu, self.margin, self.dwell_s = menu, margin, dwell_s
        self.rate = Rate(estimator, mbps=mbps, stale_s=stale_s)
        self.edges = np.geomspace(_LEAST, _MOST, BINS + 1)
        middles = np.sqrt(self.edges[1:] * self.edges[:-1])
        self.best: NDArray[np.int64] = menu.latency_ms(middles).argmin(0)
        self.load = 0.0
        self._current: int | None = None
        self._changed_s = 0.0
        sending = [i for i, choice in enumerate(menu.choices) if choice.payload_bytes]
        self._probe = min(sending, key=lambda i: menu.choices[i].payload_bytes, default=None)

    @property
    def estimate_mbps(self) -> float:
        """Of the estimator."""
        return self.rate.mbps

    def choose(self, now_s: float) -> int:
        """Look up; keep the plan unless another one is better enough, and long enough."""
        rate = self.estimate_mbps
        wanted = self._wanted(rate)
        if self._current is None:
            self._current, self._changed_s = wanted, now_s
        elif wanted != self._current and now_s - self._changed_s >= self.dwell_s:
            times = self.menu.latency_ms(rate, self.load)
            if times[wanted] < (1 - self.margin) * times[self._current]:
                self._current, self._changed_s = wanted, now_s
        silent = not self.menu.choices[self._current].payload_bytes
        if silent and self._probe is not None and self.rate.is_stale(now_s):
            return self._probe
        return self._current

    def learn(self, now_s: float, feedback: Feedback) -> None:
        """The rate of its transfer, and how many waited at the server."""
        if feedback.sent_mbps is not None:
            self.rate.observe(now_s, feedback.sent_mbps)
        if feedback.load is not None:
            self.load = feedback.load

    def _wanted(self, rate: float) -> int:
        if self.load:  # the table is for an idle server
            return int(self.menu.latency_ms(rate, self.load).argmin())
        place = int(np.searchsorted(self.edges, rate)) - 1
        return int(self.best[min(max(place, 0), BINS - 1)])


class Bandit(Policy):
    """LinUCB: no profile of anything, only the latency of what was tried.

    Of each plan it learns a linear function of a constant, the time per bit of the last transfers,
    and the load that the server last spoke of; it takes the plan that may be the fastest. Linear
    functions of these are what latencies are, but the time per bit is an estimate.

    Li, Chu, Langford, Schapire: "A contextual-bandit approach to personalized news article
    recommendation", WWW 2010; here with one model for each plan, and costs instead of rewards.

    Args:
        menu: The plans; only how many there are is used.
        estimator: Of the rate.
        mbps: What the rate is taken for before anything was sent.
        boldness: How many standard errors of doubt are given to a plan, >= 0.
        scale_ms: What counts as a usual latency, > 0.
        stale_s: After so long without a transfer one is made to see, > 0: where nothing is sent,
            the circumstances seem never to change.
    """

    name = "bandit"

    def __init__(
        self,
        menu: Menu,
        estimator: Estimator,
        *,
        mbps: float,
        boldness: float = 0.5,
        scale_ms: float = 100.0,
        stale_s: float = STALE_S,
    ) -> None:
        if not (boldness >= 0 and scale_ms > 0):
            raise ValueError(f"boldness={boldness}, scale_ms={scale_ms}: want >= 0 and > 0")
        self.rate = Rate(estimator, mbps=mbps, stale_s=stale_s)
        self.boldness, self.scale_ms = boldness, scale_ms
        self.load = 0.0
        self._context = np.zeros(3)
        self._gram = np.stack([np.eye(3)] * len(menu))
        self._sums = np.zeros((len(menu), 3))
        self._sends = np.zeros(len(menu), dtype=bool)  # as far as was seen

    @property
    def estimate_mbps(self) -> float:
        """Of the estimator."""
        return self.rate.mbps

    def choose(self, now_s: float) -> int:
        """The plan whose optimistic latency is the least, at times the least of those that send."""
        slowness = self.rate.first_mbps / self.rate.mbps
        self._context = np.array([1.0, slowness, self.load])
        inverse = np.linalg.inv(self._gram)
        weights = np.einsum("kij,kj->ki", inverse, self._sums)
        doubt = np.sqrt(np.einsum("i,kij,j->k", self._context, inverse, self._context))
        hoped = weights @ self._context - self.boldness * doubt
        if self._sends.any() and self.rate.is_stale(now_s):
            hoped = np.where(self._sends, hoped, np.inf)
        return int(hoped.argmin())

    def learn(self, now_s: float, feedback: Feedback) -> None:
        """Its latency, in the circumstances in which it was chosen."""
        self._gram[feedback.choice] += np.outer(self._context, self._context)
        self._sums[feedback.choice] += self._context * feedback.latency_ms / self.scale_ms
        if feedback.sent_mbps is not None:
            self.rate.observe(now_s, feedback.sent_mbps)
            self._sends[feedback.choice] = True
        if feedback.load is not None:
            self.load = feedback.load
