"""Carries the bytes of connections, each piece when the link would.

``python -m offloading.emulation.proxy``: reads one JSON document from its input (port of the
server, directions), prints the port at which it listens, and serves until its input ends.
"""

import contextlib
import json
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from offloading.emulation.shaper import Direction, Shaper
from splitbench.link import FRAMING

Dial = Callable[[], socket.socket]
_PIECE_MS = 5.0  # a piece holds what a link carries in this time
_SMALLEST, _LARGEST = 1460, 2**16
_WAITING = 64  # pieces under way, beyond which the sender has to wait


class Proxy:
    """Forwards each connection of a listener to a server; all of them share one link.

    Loss cannot be imitated here: the kernel has repaired it before anybody sees a byte.

    Args:
        listener: Listens already.
        dial: Connects to the server.
        up: What the way to the server does.
        down: What the way back does.
        seed: Of jitter.
    """

    def __init__(
        self,
        listener: socket.socket,
        dial: Dial,
        *,
        up: Direction,
        down: Direction,
        seed: int = 0,
    ) -> None:
        if up.loss or down.loss:
            raise ValueError("a proxy sees no packets, so none can be lost: set loss to 0")
        self.listener = listener
        self.dial = dial
        now = time.monotonic()
        self._ways = tuple(
            _Way(replace(way, queue_bytes=sys.maxsize), now, seed + i)
            for i, way in enumerate((up, down))
        )

    def serve(self) -> None:
        """Accept connections until the listener is closed."""
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self.carry, args=(near,), daemon=True).start()

    def carry(self, near: socket.socket) -> None:
        """Serve one connection until both sides have ended it."""
        try:
            far = self.dial()
        except OSError:  # nobody is there: the near side sees its connection end
            near.close()
            return
        for peer in (near, far):
            if peer.family != socket.AF_UNIX:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        up, down = self._ways
        with near, far:
            workers = [*up.start(near, far), *down.start(far, near)]
            for worker in workers:
                worker.join()


class _Way:
    """One direction of all connections."""

    def __init__(self, direction: Direction, began_s: float, seed: int) -> None:
        self.shaper = Shaper(direction, began_s=began_s, seed=seed)
        self.lock = threading.Lock()
        piece = direction.mbps * 1000 / 8 * _PIECE_MS
        self.piece = int(min(max(piece, _SMALLEST), _LARGEST))

    def start(self, source: socket.socket, target: socket.socket) -> list[threading.Thread]:
        under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(_WAITING)
        workers = [
            threading.Thread(target=work, args=(peer, under_way), daemon=True)
            for work, peer in ((self._take, source), (self._deliver, target))
        ]
        for worker in workers:
            worker.start()
        return workers

    def _take(self, source: socket.socket, under_way: queue.Queue[tuple[float, bytes]]) -> None:
        piece = b"."
        while piece:
            try:
                piece = source.recv(self.piece)
            except OSError:  # reset by whoever sent
                piece = b""
            with self.lock:
                arrival = self.shaper.arrival_s(time.monotonic(), len(piece) * FRAMING)
            under_way.put((arrival or 0.0, piece))

    def _deliver(self, target: socket.socket, under_way: queue.Queue[tuple[float, bytes]]) -> None:
        gone = False
        while True:
            arrival, piece = under_way.get()
            time.sleep(max(0.0, arrival - time.monotonic()))
            with contextlib.suppress(OSError):
                if not piece:
                    target.shutdown(socket.SHUT_WR)
                elif not gone:
                    gone = True  # unless all of it can be sent
                    target.sendall(piece)
                    gone = False
            if not piece:
                return


def main(words: Sequence[str]) -> int:
    """Serve one hop on the loopback interface."""
    del words
    told = json.loads(sys.stdin.buffer.readline())
    up, down = (Direction.of_plain(told[way]) for way in ("up", "down"))
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(
        listener,
        lambda: socket.create_connection(("127.0.0.1", told["port"])),
        up=up,
        down=down,
        seed=told["seed"],
    )
    threading.Thread(target=proxy.serve, daemon=True).start()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
