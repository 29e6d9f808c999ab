"""Links between processes of one machine that behave like those of a scenario."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import ClassVar

from offloading.bandwidth import BandwidthTrace
from offloading.emulation.children import Children
from splitbench.link import Link

Hop = tuple[str, str]  # names of the near and of the far side


class EmulationError(RuntimeError):
    """This machine cannot imitate the link, or has stopped to do so."""


class Emulation(ABC):
    """Sides that are joined by imitated links, while a ``with`` block lasts.

    Whatever it started or made is gone after the block, however that ends; what a killed process
    left behind is removed when the next one of its kind begins.

    Args:
        hops: Links by the names of their near and far side; up is from near to far.
        traces: How the rate away from the near side changes, for some of the hops.
        seed: Of jitter and loss.

    Class attributes:
        backend: Its name, stored with every result.
        shapes: What is sent is really held back; otherwise `added_ms` says what it would take.
        counts: Bytes on the link are those of real packets with their headers.
    """

    backend: ClassVar[str]
    shapes: ClassVar[bool] = True
    counts: ClassVar[bool] = False

    def __init__(
        self,
        *,
        hops: Mapping[Hop, Link],
        traces: Mapping[Hop, BandwidthTrace] | None = None,
        seed: int = 0,
    ) -> None:
        self.hops = dict(hops)
        self.traces = dict(traces or {})
        self.seed = seed
        self.children = Children()
        self.sides = tuple(dict.fromkeys(side for hop in self.hops for side in hop))
        if not self.hops or set(self.traces) - set(self.hops):
            raise ValueError(f"hops {[*self.hops]}, traces of {[*self.traces]}: want some, of them")

    def __enter__(self) -> "Emulation":
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def open(self) -> None:
        """Make the links.

        Raises:
            EmulationError: Not possible on this machine, with the reason.
        """

    @abstractmethod
    def close(self) -> None:
        """Remove whatever was made; may be called at any time, more than once."""

    def command(self, side: str, words: Sequence[str]) -> list[str]:
        """The command line that runs a program on a side."""
        del side
        return [*words]

    def listen_host(self, side: str) -> str:
        """The address at which a server of this side listens."""
        del side
        return "127.0.0.1"

    @abstractmethod
    def reach(self, near: str, far: str, port: int) -> str:
        """``host:port`` at which `near` finds a server that listens on a port of `far`.

        Raises:
            EmulationError: There is no such hop.
        """

    def added_ms(self, hop: Hop, up_bytes: float, down_bytes: float) -> tuple[float, float]:
        """What the link would add to the way there and back where nothing is held back."""
        del hop, up_bytes, down_bytes
        return 0.0, 0.0

    def check(self) -> None:
        """Refuse to go on where a part of the imitation has died.

        Raises:
            EmulationError: With what the part has said.
        """
        for child in self.children.running:
            if child.poll() is not None:
                raise EmulationError(f"a part of the {self.backend} links has ended: {said(child)}")

    def known(self, near: str, far: str) -> Link:
        """The link of a hop.

        Raises:
            EmulationError: There is none.
        """
        if (near, far) not in self.hops:
            raise EmulationError(f"no link from {near!r} to {far!r}, only {[*self.hops]}")
        return self.hops[near, far]


def said(child: subprocess.Popen[bytes]) -> str:
    """The last line of the complaint of a process that has ended, or ends."""
    complaint = child.stderr.read() if child.stderr else b""
    return complaint.decode(errors="replace").strip().rpartition("\n")[2] or "without a word"
