"""The plans among which a device may change, as functions of what the network does."""

import math
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
        exceeds: Names of the limits that it exceeds; the deadline is none of them.
    """

    name: str
    fixed_ms: float
    server_ms: float
    payload_bytes: float
    leakage: float
    exceeds: tuple[str, ...] = ()

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
    def of(cls, plan: Plan, link: Link, exceeds: tuple[str, ...] = ()) -> "Choice":
        """A plan as the planner made it.

        Args:
            plan: With its phases.
            link: From the device to the next tier, for which the plan was made.
            exceeds: Names of limits.
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
            exceeds=exceeds,
        )


class Menu:
    """The choices that keep the limits. The others are not in it, so no policy can pick one.

    Args:
        choices: With names of their own.
        leakage_limit: Most L that is allowed.

    Attributes:
        choices: Those that keep all limits, in the order given.
        refused: By the names of the others, the limits that they exceed.

    Raises:
        MenuError: None keeps them.
    """

    def __init__(self, choices: Sequence[Choice], *, leakage_limit: float = math.inf) -> None:
        if len({choice.name for choice in choices}) != len(choices):
            raise ValueError("two choices have the same name")
        exceeded = {choice.name: _exceeded(choice, leakage_limit) for choice in choices}
        self.choices = tuple(choice for choice in choices if not exceeded[choice.name])
        self.refused = {name: limits for name, limits in exceeded.items() if limits}
        if not self.choices:
            least = min((choice.leakage for choice in choices), default=math.nan)
            names = ", ".join(sorted({name for limits in exceeded.values() for name in limits}))
            raise MenuError(
                f"no plan keeps all limits (exceeded: {names}; the least L is {least:.3g}): "
                "make plans within the limits, or wider limits"
            )

    def __len__(self) -> int:
        return len(self.choices)

    def latency_ms(self, mbps: Array | float, load: Array | float = 0.0) -> Array:
        """Latency of every choice, ``(choices, *)`` of the shape of the rates."""
        found: Array = np.stack([choice.latency_ms(mbps, load) for choice in self.choices])
        return found


def _exceeded(choice: Choice, leakage_limit: float) -> tuple[str, ...]:
    """Names of all limits that a choice exceeds, each once."""
    leaks = () if choice.leakage <= leakage_limit else ("leakage",)
    return tuple(dict.fromkeys((*choice.exceeds, *leaks)))
