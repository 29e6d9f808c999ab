"""Who computes now, and how many wait for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from offloading.runtime.errors import Refused


class Turns:
    """Lets so many compute at a time, and counts those who wait.

    Args:
        parallel: How many at a time, >= 1.

    Attributes:
        waiting: How many wait now.
    """

    def __init__(self, parallel: int) -> None:
        if parallel < 1:
            raise ValueError(f"parallel={parallel}: at least 1")
        self.waiting = 0
        self._free = threading.BoundedSemaphore(parallel)
        self._counting = threading.Lock()

    @contextmanager
    def taken(self, timeout_s: float) -> Iterator[None]:
        """Hold a turn.

        Args:
            timeout_s: How long to wait for one, >= 0.

        Raises:
            Refused: There was none in time.
        """
        if not (self._free.acquire(blocking=False) or self._waited(timeout_s)):
            raise Refused("DEADLINE_EXCEEDED", "others were computed until the caller gave up")
        try:
            yield
        finally:
            self._free.release()

    def _waited(self, timeout_s: float) -> bool:
        self._count(1)
        try:
            return self._free.acquire(timeout=timeout_s)
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:
            self.waiting += more
