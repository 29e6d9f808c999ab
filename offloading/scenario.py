"""Where a model may run: tiers, the links between them, and what is asked of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise

from offloading.tier import Tier
from offloading.workload import Workload
from splitbench.link import Bytes, Link

Route = tuple[Tier, ...]


class ScenarioError(ValueError):
    """Tiers and links do not fit together."""


@dataclass(frozen=True, kw_only=True)
class Hop:
    """A way from one tier to another.

    Attributes:
        link: The network; up is away from the device.
        up_usd_per_gb: Price of bytes on the way up, per 10^9 bytes; entry to a cloud is free.
        down_usd_per_gb: Of bytes back.
        radio_watts: What sending takes on the near side; None where it is not known:
            then neither is the energy of whatever is sent.
        radio_watts_per_mbps: And more of it for each 10^6 bits per second.
    """

    link: Link
    up_usd_per_gb: float = 0.0
    down_usd_per_gb: float = 0.0
    radio_watts: float | None = None
    radio_watts_per_mbps: float = 0.0

    def usd(self, up_bytes: Bytes, down_bytes: float) -> Bytes:
        """Dollars for the traffic of one request."""
        return (self.up_usd_per_gb * up_bytes + self.down_usd_per_gb * down_bytes) / 1e9


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Tiers in order, from the device outwards.

    Attributes:
        name: For tables.
        tiers: The first is the device, where the image is.
        hops: By names of the tiers, ``(from, to)``; who has none cannot send there.
        workload: What is asked.
        reply_bytes: What comes back to the device.
    """

    name: str
    tiers: tuple[Tier, ...]
    hops: Mapping[tuple[str, str], Hop]
    workload: Workload
    reply_bytes: int = 64

    def __post_init__(self) -> None:
        names = [tier.name for tier in self.tiers]
        if not names or self.tiers[0].kind != "device":
            raise ScenarioError(f"{self.name}: the first tier must be the device")
        if len({*names}) != len(names):
            raise ScenarioError(f"{self.name}: two tiers have the same name among {names}")
        for near, far in self.hops:
            if near not in names or far not in names or names.index(near) >= names.index(far):
                raise ScenarioError(
                    f"{self.name}: a hop from {near!r} to {far!r}, but the tiers are {names}, in "
                    "this order"
                )

    def routes(self) -> list[Route]:
        """Every sequence of tiers that starts on the device and has hops all the way."""
        device, *others = self.tiers
        found = [
            (device, *some)
            for count in range(len(others) + 1)
            for some in combinations(others, count)
        ]
        return [
            route
            for route in found
            if all((a.name, b.name) in self.hops for a, b in pairwise(route))
        ]

    def hop(self, near: Tier, far: Tier) -> Hop:
        """The way between two tiers."""
        return self.hops[near.name, far.name]

    def unknown_watts(self) -> list[str]:
        """Settings without which the energy on the device is not known for every placement."""
        device = self.tiers[0].name
        missing = [f"tiers.{device}.watts"] if self.tiers[0].watts is None else []
        return missing + [
            f"hops.{near}.{far}.radio_watts"
            for (near, far), hop in self.hops.items()
            if near == device and hop.radio_watts is None
        ]
