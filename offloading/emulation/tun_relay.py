"""Namespaces that are joined by relays in user space."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from offloading.bandwidth import BandwidthTrace
from offloading.emulation.emulation import Emulation, EmulationError, Hop, said
from offloading.emulation.namespaces import Namespaces, Runner, run
from offloading.emulation.relay import request
from offloading.emulation.shaper import Direction
from splitbench.link import Link

DEVICES = "sb"  # what the names of network devices begin with
QUEUE_PACKETS = 10_000  # between the kernel and the relay, which must not lose any


class TunRelay(Emulation):
    """Each side has a network stack of its own; packets between them pass a relay.

    Programs see an ordinary network: the kernel's TCP, its windows and its retransmissions. The
    relay is a program in Python: it keeps up with about 100 Mbit/s, and `calibrate` says whether it
    did.

    Args:
        hops: As `Emulation`.
        traces: Likewise.
        seed: Likewise.
        runner: Runs commands.
    """

    backend = "tun"
    counts = True

    def __init__(
        self,
        *,
        hops: Mapping[Hop, Link],
        traces: Mapping[Hop, BandwidthTrace] | None = None,
        seed: int = 0,
        runner: Runner = run,
    ) -> None:
        super().__init__(hops=hops, traces=traces, seed=seed)
        self.namespaces = Namespaces(runner)
        self.runner = runner
        self.names: dict[str, str] = {}

    def open(self) -> None:
        """Make namespaces, start a relay for each hop, and give the devices their addresses."""
        self.names = self.namespaces.open(self.sides)
        for number, (hop, link) in enumerate(self.hops.items()):
            device = f"{DEVICES}{number}"
            self._relay(hop, link, device)
            for end, side in enumerate(hop, start=1):
                for words in addressing(self.names[side], device, number, end):
                    self.runner(words)

    def close(self) -> None:
        """End the relays and remove the namespaces."""
        self.children.close()
        self.namespaces.close()
        self.names = {}

    def command(self, side: str, words: Sequence[str]) -> list[str]:
        """Inside the namespace of the side."""
        return ["ip", "netns", "exec", self.names[side], *words]

    def listen_host(self, side: str) -> str:
        """Every address of the side's own namespace, which nobody else can reach."""
        del side
        return "0.0.0.0"  # noqa: S104

    def reach(self, near: str, far: str, port: int) -> str:
        """The far end of the hop."""
        self.known(near, far)
        return f"{address([*self.hops].index((near, far)), 2)}:{port}"

    def _relay(self, hop: Hop, link: Link, device: str) -> None:
        relay = self.children.start([sys.executable, "-m", "offloading.emulation.relay"])
        ends = (self.names[hop[0]], self.names[hop[1]])
        up, down = Direction.up(link, self.traces.get(hop)), Direction.down(link)
        with suppress(BrokenPipeError):  # then it says why below
            relay.stdin.write(f"{request(ends, device, up, down, self.seed)}\n".encode())  # type: ignore[union-attr]
            relay.stdin.flush()  # type: ignore[union-attr]
        if relay.stdout.readline() != b"ready\n":  # type: ignore[union-attr]
            raise EmulationError(f"no TUN device: {said(relay)}")


def address(hop: int, end: int) -> str:
    """Address of an end of a hop, 1 near and 2 far; private to the namespaces."""
    return f"10.{200 + hop // 200}.{hop % 200}.{end}"


def addressing(namespace: str, device: str, hop: int, end: int) -> list[list[str]]:
    """Commands that give a device its address and put it into service."""
    tool = ["ip", "-n", namespace]
    return [
        [*tool, "addr", "add", f"{address(hop, end)}/24", "dev", device],
        [
            *tool,
            "link",
            "set",
            "dev",
            device,
            "mtu",
            "1500",
            "txqueuelen",
            str(QUEUE_PACKETS),
            "up",
        ],
    ]
