"""Who did what, and when: the stamps of a request, and where its time went."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from offloading.runtime.errors import WireError

PHASES = (
    "head", "encode", "up", "decode", "queue", "middle", "tail", "down", "network", "failed",
)  # fmt: skip
_LAST = 2**63 - 1  # nanoseconds of a clock; beyond it differences are no numbers of milliseconds
_MOST_WAITING = 2**16  # more than a server can let in: each has a thread
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def now_ns() -> int:
    """The clock that all processes of one host share."""
    return time.monotonic_ns()


@cache
def clock_name() -> str:
    """Names the clock: stamps of two processes compare only where theirs are equal."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return f"{platform.node()} {os.getpid()}"


@dataclass(frozen=True, kw_only=True)
class ServerTrace:
    """What one server did with a request; times in nanoseconds of its clock.

    Attributes:
        segment: Which one it runs.
        pid: Its process.
        host: Its machine.
        clock: See `clock_name`.
        waiting: Requests that waited for their turn when computing ended.
        received_ns: The last byte was there.
        decoded_ns: The tensors were there.
        started_ns: Computing began: others may have been before.
        computed_ns: Computing ended.
        sent_ns: The bytes for the next segment were there; None in the last one.
        replied_ns: The answer was there.
    """

    segment: int
    pid: int
    host: str
    clock: str
    waiting: int
    received_ns: int
    decoded_ns: int
    started_ns: int
    computed_ns: int
    replied_ns: int
    sent_ns: int | None = None

    def __post_init__(self) -> None:
        order = [self.received_ns, self.decoded_ns, self.started_ns, self.computed_ns]
        order += [self.computed_ns if self.sent_ns is None else self.sent_ns, self.replied_ns]
        if order != sorted(order) or order[0] < 0 or order[-1] > _LAST:
            raise ValueError("the stamps are not in order, or no times of a clock")
        if not 0 <= self.waiting <= _MOST_WAITING:
            raise ValueError("as many requests as the server says cannot wait")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "ServerTrace":
        """Undo `to_dict`.

        Raises:
            WireError: Other fields, or values that are no stamps.
        """
        for name, value in raw.items():
            wanted: Any = cls.__annotations__.get(name)
            if wanted is None or isinstance(value, bool) or not isinstance(value, wanted):
                raise WireError(f"a server says {name:.20}={value!r:.80}")
        try:
            return cls(**raw)
        except (TypeError, ValueError) as error:
            raise WireError(f"a server does not say what it did: {error}") from error


def phases_ns(
    began: int,
    headed: int,
    encoded: int,
    ended: int,
    servers: Sequence[ServerTrace],
    *,
    failed: int | None = None,
) -> dict[str, int]:
    """Where the time of a request went; the parts sum to all of it.

    Args:
        began: When the device began.
        headed: When it had protected features.
        encoded: When it had bytes.
        ended: When it had read the reply.
        servers: Those that took part, the nearest first; none where the device answered.
        failed: When it was known that no answer would come; None where one did, or none was wanted.

    Returns:
        Nanoseconds by `PHASES`: of the chain, ``encode``, ``up``, ``decode`` and ``queue`` are sums
        over the segments, ``middle`` is what all but the last one computed. ``down`` begins when
        the last one has computed. Where a clock is not the device's, ``up`` and ``down`` of its way
        cannot be told apart: they are ``network``. Where the device answers, ``tail`` is its own,
        after it has waited in vain for as long as ``failed`` says.
    """
    spent = dict.fromkeys(PHASES, 0)
    spent["head"], spent["encode"] = headed - began, encoded - headed
    sent, back, clock = encoded, ended, clock_name()
    for server in servers:
        last = server is servers[-1]
        done = server.computed_ns if last else server.replied_ns
        if server.clock == clock:
            spent["up"] += server.received_ns - sent
            spent["down"] += back - done
        else:
            spent["network"] += (back - sent) - (done - server.received_ns)
        spent["decode"] += server.decoded_ns - server.received_ns
        spent["queue"] += server.started_ns - server.decoded_ns
        spent["tail" if last else "middle"] += server.computed_ns - server.started_ns
        if server.sent_ns is not None:
            spent["encode"] += server.sent_ns - server.computed_ns
            sent, back, clock = server.sent_ns, server.replied_ns, server.clock
    if not servers:
        waited = encoded if failed is None else failed
        spent["failed"], spent["tail"] = waited - encoded, ended - waited
    return spent
