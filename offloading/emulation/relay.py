"""Carries packets between two network namespaces, each when the link would.

``python -m offloading.emulation.relay``: reads one JSON document from its input (namespaces, device
name, directions), makes a TUN device in each namespace, says ``ready``, and carries packets until
its input ends. The devices vanish with it.
"""

import ctypes
import errno
import fcntl
import json
import os
import select
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from offloading.emulation.shaper import Direction, Shaper

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_PR_SET_TIMERSLACK = 29
_LARGEST = 65_536
_BATCH = 64  # packets read in one go from one side before the other gets its turn


@dataclass
class _Way:
    """Packets under way in one direction."""

    source: int
    target: int
    shaper: Shaper
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)

    def take(self) -> None:
        """Read what has been sent."""
        for _ in range(_BATCH):
            try:
                packet = os.read(self.source, _LARGEST)
            except BlockingIOError:
                return
            arrival = self.shaper.arrival_s(time.monotonic(), len(packet))
            if arrival is not None:
                self.waiting.append((arrival, packet))

    def deliver(self) -> None:
        """Write what has arrived."""
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            _, packet = self.waiting.popleft()
            try:
                os.write(self.target, packet)
            except OSError as error:  # the device is full, or not yet in service
                if error.errno not in (errno.EAGAIN, errno.EIO):
                    raise
                self.shaper.lost += 1


def carry(ways: list[_Way], stop: int) -> None:
    """Carry packets until `stop` can be read, or has ended."""
    by_source = {way.source: way for way in ways}
    while True:
        due = [way.waiting[0][0] for way in ways if way.waiting]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        readable, _, _ = select.select([*by_source, stop], [], [], timeout)
        for found in readable:
            if found == stop:
                return
            by_source[found].take()
        for way in ways:
            way.deliver()


def tun(namespace: str, device: str) -> int:
    """Make a TUN device in a namespace; this process stays in it.

    Raises:
        OSError: Not allowed, or no such namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open("rb") as handle:
        if libc.setns(handle.fileno(), _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, f"setns: {os.strerror(number)}", namespace)
    made = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(made, _TUNSETIFF, request)
    return made


def request(
    namespaces: tuple[str, str], device: str, up: Direction, down: Direction, seed: int
) -> str:
    """The document that the program reads, one line."""
    ways = {"up": up.plain(), "down": down.plain()}
    return json.dumps({"namespaces": namespaces, "device": device, "seed": seed, **ways})


def main() -> int:
    """Serve one hop."""
    told = json.loads(sys.stdin.buffer.readline())
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    with suppress(OSError):  # a link does not wait for a processor: where it may, it goes first
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    near, far = (tun(name, told["device"]) for name in told["namespaces"])
    now = time.monotonic()
    up = Shaper(Direction.of_plain(told["up"]), began_s=now, seed=told["seed"])
    down = Shaper(Direction.of_plain(told["down"]), began_s=now, seed=told["seed"] + 1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    carry([_Way(near, far, up), _Way(far, near, down)], sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
