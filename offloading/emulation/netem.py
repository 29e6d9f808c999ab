"""Namespaces that are joined by the kernel's own link emulator."""

from collections.abc import Mapping, Sequence

from offloading.bandwidth import BandwidthTrace
from offloading.emulation.emulation import Emulation, EmulationError, Hop
from offloading.emulation.namespaces import Namespaces, Runner, run
from offloading.emulation.shaper import QUEUE_BYTES, Direction
from offloading.emulation.tun_relay import DEVICES, address, addressing
from splitbench.link import Link


class Netem(Emulation):
    """Each side has a network stack of its own; the queues between them are ``tc ... netem``.

    The most exact of all, where the kernel has it. Rates that change are not imitated: for a trace
    use `offloading.emulation.tun_relay`.

    Args:
        hops: As `Emulation`.
        traces: None are possible.
        seed: Without effect: the kernel draws for itself.
        runner: Runs commands.
    """

    backend = "netem"
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
        """Make namespaces, a pair of devices for each hop, and their queues.

        Raises:
            EmulationError: The kernel has no netem, or a rate changes.
        """
        if self.traces:
            raise EmulationError("netem keeps one rate: a trace needs the tun backend")
        self.names = self.namespaces.open(self.sides)
        for number, (hop, link) in enumerate(self.hops.items()):
            near, far = (self.names[side] for side in hop)
            for words in joining(near, far, number, link):
                self.runner(words)

    def close(self) -> None:
        """Remove the namespaces, and with them the devices."""
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


def joining(near: str, far: str, hop: int, link: Link) -> list[list[str]]:
    """Commands that join two namespaces with a link.

    Both directions are shaped where they leave. Packets are not merged before the queue
    (``gso_max_segs``): it would count several of them as one.
    """
    device = f"{DEVICES}{hop}"
    made = ["ip", "-n", near, "link", "add", device, "gso_max_segs", "1"]
    peer = ["peer", "name", device, "netns", far, "gso_max_segs", "1"]
    commands = [[*made, "type", "veth", *peer]]
    ways = (Direction.up(link), Direction.down(link))
    for end, (name, way) in enumerate(zip((near, far), ways, strict=True), start=1):
        commands.extend(addressing(name, device, hop, end))
        commands.append(queueing(name, device, way))
    return commands


def queueing(namespace: str, device: str, way: Direction) -> list[str]:
    """The command that shapes what leaves a device."""
    words = ["tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "netem"]
    words += ["rate", f"{round(way.mbps * 1e6)}bit", "delay", f"{round(way.delay_ms * 1000)}us"]
    if way.jitter_ms:
        words += [f"{round(way.jitter_ms * 1000)}us", "distribution", "normal"]
    if way.loss:
        words += ["loss", "random", f"{100 * way.loss:g}%"]
    return [*words, "limit", str(QUEUE_BYTES // 1500)]
