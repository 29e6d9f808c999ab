"""Times plain messages between two sides; both programs share the machine's monotonic clock.

``python -m offloading.emulation.probe answer HOST`` prints its port and answers;
``python -m offloading.emulation.probe ask HOST:PORT`` reads one JSON list of ``[up, down]`` sizes
from its input and prints, for each, how long the way there and the way back took.
"""

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence

_SIZES = struct.Struct("<II")
_TIMES = struct.Struct("<qq")
_LARGEST = 2**26  # claimed by a peer: more is refused
_CHUNK = 2**16


def answer(listener: socket.socket) -> None:
    """Serve one connection: take a message, return one of the size that was asked for.

    Raises:
        ValueError: A peer claims more than 64 MiB.
    """
    peer, _ = listener.accept()
    with peer:
        _at_once(peer)
        while header := _exactly(peer, _SIZES.size):
            up, down = _SIZES.unpack(header)
            if max(up, down) > _LARGEST:
                raise ValueError(f"a message of {max(up, down)} bytes: at most {_LARGEST}")
            _discard(peer, up)
            received = time.monotonic_ns()
            peer.sendall(_TIMES.pack(received, time.monotonic_ns()) + bytes(down))


def ask(peer: socket.socket, sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[float, float]]:
    """Send messages one after the other; milliseconds there and back of each.

    The way there ends with its last byte; so does the way back.

    Raises:
        ConnectionError: The other side has gone.
    """
    _at_once(peer)
    for up, down in sizes:
        began = time.monotonic_ns()
        peer.sendall(_SIZES.pack(up, down) + bytes(up))
        times = _exactly(peer, _TIMES.size)
        if not times:
            raise ConnectionError("the other side has gone")
        received, sent = _TIMES.unpack(times)
        _discard(peer, down)
        yield (received - began) / 1e6, (time.monotonic_ns() - sent) / 1e6


def _at_once(peer: socket.socket) -> None:
    if peer.family != socket.AF_UNIX:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _exactly(peer: socket.socket, size: int) -> bytes:
    """So many bytes, or none if the other side has gone."""
    parts: list[bytes] = []
    while size:
        part = peer.recv(min(size, _CHUNK))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _discard(peer: socket.socket, size: int) -> None:
    while size:
        part = peer.recv(min(size, _CHUNK))
        if not part:
            return
        size -= len(part)


def main(words: Sequence[str]) -> int:
    """One of the two programs."""
    role, where = words
    if role == "answer":
        with socket.create_server((where, 0)) as listener:
            sys.stdout.write(f"{listener.getsockname()[1]}\n")
            sys.stdout.flush()
            answer(listener)
        return 0
    host, _, port = where.rpartition(":")
    sizes = [(int(up), int(down)) for up, down in json.loads(sys.stdin.readline())]
    with socket.create_connection((host, int(port)), timeout=60) as peer:
        sys.stdout.write(json.dumps([*ask(peer, sizes)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
