"""No link at all: its times are computed and added."""

from offloading.emulation.emulation import Emulation, Hop


class Analytic(Emulation):
    """Everything runs on the loopback interface, and the link's formula is added to the times.

    Nothing that a network does to a program is seen: no congestion, no windows, no loss. Times
    with it are predictions in all but the computing.
    """

    backend = "analytic"
    shapes = False

    def open(self) -> None:
        """Nothing to make."""

    def close(self) -> None:
        """Nothing to remove."""

    def reach(self, near: str, far: str, port: int) -> str:
        """The server itself."""
        self.known(near, far)
        return f"127.0.0.1:{port}"

    def added_ms(self, hop: Hop, up_bytes: float, down_bytes: float) -> tuple[float, float]:
        """`Link.up_ms` and `Link.down_ms`."""
        link = self.known(*hop)
        return link.up_ms(up_bytes), link.down_ms(down_bytes)
