"""The way itself: two processes that compute what a plan computes and speak through a bare socket.

No framework, no threads, no checks: what any runtime on this machine pays at least.
"""

import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from splitbench.split import Split

ANSWER = bytes(400)  # about what a reply has
WARMUP = 5


def plain_socket_ms(
    parts: Sequence[Split], sizes: Sequence[int], images: Tensor, *, requests: int
) -> list[float]:
    """Median time there and back of messages over TCP on the loopback interface, for each split.

    Args:
        parts: What both sides compute around the message; in turn, as a plan is measured.
        sizes: Bytes of the message of each.
        images: ``(n, c, h, w)``, float in [0, 1].
        requests: Timed ones of each.
    """
    cores = sorted(os.sched_getaffinity(0))
    listening = socket.create_server(("127.0.0.1", 0))
    server = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(listening, parts, sizes, images[:1], cores[-1]), daemon=True
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    server.start()
    os.sched_setaffinity(0, {cores[0]})
    try:
        with socket.create_connection(listening.getsockname()) as way:
            way.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _asked(way, parts, sizes, images, requests)
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
        server.terminate()
        listening.close()


@torch.inference_mode()
def _asked(
    way: socket.socket,
    parts: Sequence[Split],
    sizes: Sequence[int],
    images: Tensor,
    requests: int,
) -> list[float]:
    found: list[list[float]] = [[] for _ in parts]
    for turn in range(requests + WARMUP):
        for place, (part, size) in enumerate(zip(parts, sizes, strict=True)):
            part.client(images[turn % len(images)].unsqueeze(0))
            message = bytes([place]) + bytes(size)  # copied before the clock runs
            began = time.monotonic_ns()
            way.sendall(message)
            arrived, computed = (int(text) for text in _read(way, len(ANSWER)).split(b",")[:2])
            ended = time.monotonic_ns()
            found[place].append((ended - began - (computed - arrived)) / 1e6)
    return [statistics.median(times[WARMUP:]) for times in found]


@torch.inference_mode()
def _serve(
    listening: socket.socket,
    parts: Sequence[Split],
    sizes: Sequence[int],
    image: Tensor,
    core: int,
) -> None:
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    features = [part.client(image) for part in parts]
    way, _ = listening.accept()
    way.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        place = _read(way, 1)[0]
        _read(way, sizes[place])
        arrived = time.monotonic_ns()
        parts[place].server(features[place])
        told = f"{arrived},{time.monotonic_ns()},".encode()
        way.sendall(told.ljust(len(ANSWER)))


def _read(way: socket.socket, size: int) -> bytes:
    kept = bytearray()
    while len(kept) < size:
        piece = way.recv(size - len(kept))
        if not piece:
            raise SystemExit
        kept += piece
    return bytes(kept)
