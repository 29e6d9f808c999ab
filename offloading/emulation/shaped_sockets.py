"""Links that are imitated by proxies on the loopback interface."""

import json
import sys

from offloading.emulation.emulation import Emulation, EmulationError, said
from offloading.emulation.shaper import Direction


class ShapedSockets(Emulation):
    """A proxy for each server that is reached over a hop; needs no rights.

    It shapes streams, not packets: rates and delays are imitated, headers are counted as
    `Link` counts them, loss and congestion are not seen. Servers of a hop are reached through
    proxies that do not share its rate: measure one after the other.
    """

    backend = "proxy"

    def open(self) -> None:
        """Check that it can be done; proxies start when a server is there to be reached.

        Raises:
            EmulationError: A link loses packets.
        """
        lossy = [hop for hop, link in self.hops.items() if link.loss]
        if lossy:
            raise EmulationError(f"shaped sockets see no packets, so none is lost on {lossy}")

    def close(self) -> None:
        """End the proxies."""
        self.children.close()

    def reach(self, near: str, far: str, port: int) -> str:
        """A new proxy to the server."""
        hop, link = (near, far), self.known(near, far)
        proxy = self.children.start([sys.executable, "-m", "offloading.emulation.proxy"])
        up, down = Direction.up(link, self.traces.get(hop)), Direction.down(link)
        told = {"port": port, "up": up.plain(), "down": down.plain(), "seed": self.seed}
        proxy.stdin.write(json.dumps(told).encode() + b"\n")  # type: ignore[union-attr]
        proxy.stdin.flush()  # type: ignore[union-attr]
        answer = proxy.stdout.readline()  # type: ignore[union-attr]
        if not answer.strip().isdigit():
            raise EmulationError(f"no proxy: {said(proxy)}")
        return f"127.0.0.1:{int(answer)}"
