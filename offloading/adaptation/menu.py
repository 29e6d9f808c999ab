"""The plans among which a device may change, as functions of what the network does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offloading.plan import Plan
from splitbench.link import FRAMING, Link

Array = NDArray[np.float64]


class MenuError(ValueError):
    """There is nothing to choose from."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One plan, its latency a function of the rate of the device's own link.

    Attributes:
        name: Of the plan.
        fixed_ms: All but sending the payload and what the server computes.
        server_ms: What the tiers behind the device compute, when they have nothing else to do.
        payload_bytes: What the device sends; 0 where it sends nothing.
        leakage: L of what is sent.
    """

    name: str
    fixed_ms: float
    server_ms: float
    payload_bytes: float
    leakage: float

    def __post_init__(self) -> None:
        times = (self.fixed_ms, self.server_ms, self.payload_bytes)
        if not (np.isfinite([*times, self.leakage]).all() and min(times) >= 0):
            raise ValueError(f"{self}: want finite times and bytes, none of them negative")

    @property
    def bits(self) -> float:
        """What the link has to carry, headers included."""
        return 8 * FRAMING * self.payload_bytes

    def latency_ms(self, mbps: Array | float, load: Array | float = 0.0) -> Array:
        """Latency at some rates.

        Args:
            mbps: In 10^6 bits per second, > 0; any shape.
            load: Requests that wait at the server, each as long as this one.
        """
        sending = self.bits / (np.asarray(mbps, dtype=np.float64) * 1000)
        found: Array = self.fixed_ms + self.server_ms * (1 + np.asarray(load)) + sending
        return found

    @classmethod
    def of(cls, plan: Plan, link: Link) -> "Choice":
        """A plan as the planner made it.

        Args:
            plan: With its phases.
            link: From the device to the next tier, for which the plan was made.
        """
        device = plan.placement.tiers[0]
        total = sum(phase.ms.value for phase in plan.phases)
        behind = [p for p in plan.phases if p.kind in ("compute", "decode") and p.where != device]
        server = sum(phase.ms.value for phase in behind)
        option = plan.placement.option
        payload = 0.0 if option is None else option.payload_bytes
        sending = float(link.up_ms(payload) - link.up_ms(0.0)) if payload else 0.0
        return cls(
            name=str(plan.placement),
            fixed_ms=max(total - server - sending, 0.0),
            server_ms=server,
            payload_bytes=payload,
            leakage=plan.figures["leakage"].value,
        )


class Menu:
    """The choices that keep the limit. The others are not in it, so no policy can pick one.

    Args:
        choices: With names of their own.
        leakage_limit: Most L that is allowed.

    Attributes:
        choices: Those within the limit, in the order given.
        refused: Names of the others.
        leakage_limit: The limit.

    Raises:
        MenuError: None is within the limit.
    """

    def __init__(self, choices: Sequence[Choice], *, leakage_limit: float) -> None:
        if len({choice.name for choice in choices}) != len(choices):
            raise ValueError("two choices have the same name")
        self.leakage_limit = leakage_limit
        self.choices = tuple(c for c in choices if c.leakage <= leakage_limit)
        self.refused = tuple(c.name for c in choices if c.leakage > leakage_limit)
        if not self.choices:
            least = min((choice.leakage for choice in choices), default=float("nan"))
            raise MenuError(f"no plan leaks at most {leakage_limit}; the least is {least:.3g}")

    def __len__(self) -> int:
        return len(self.choices)

    def latency_ms(self, mbps: Array | float, load: Array | float = 0.0) -> Array:
        """Latency of every choice, ``(choices, *)`` of the shape of the rates."""
        found: Array = np.stack([choice.latency_ms(mbps, load) for choice in self.choices])
        return found
