"""A serverless platform on one machine: cold starts, keep-alive, a queue and a meter."""

import json
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from offloading.pricing import Function, Use
from offloading.runtime.errors import RequestFailed
from offloading.runtime.function import FOLDER, THREADS, TRUST
from offloading.runtime.instance_process import InstanceProcess


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One event, answered.

    Attributes:
        status: As HTTP counts.
        document: The handler's JSON document.
        cold: An instance had to start for it.
        queue_ms: Until an instance was free, or began to start.
        start_ms: Interpreter, libraries and model, slowed down as bought; 0 of a warm instance.
        import_ms, load_ms: Parts of it as the instance measured them, not slowed down.
        handler_ms: What the handler took, slowed down as bought.
        billed_ms: On the invoice.
        usd: For this request.
    """

    status: int
    document: dict[str, Any]
    cold: bool
    queue_ms: float
    start_ms: float
    import_ms: float
    load_ms: float
    handler_ms: float
    billed_ms: float
    usd: float


class LocalFunction:
    """Runs the function's instances as processes, each with an interpreter of its own.

    A start is a real one: a fresh interpreter imports the handler and loads the model. What a
    platform does before that (finding a machine, fetching an image) does not happen here. Where
    less memory is bought than comes with a whole processor, the time of starts and handlers is
    prolonged by the factor of the price list: the reply is held back, the instance stays busy.

    Args:
        folder: Artefact of the last segment.
        pricing: Memory that is bought, and what it costs.
        keep_alive_s: How long an idle instance is kept, >= 0.
        most_instances: That there are at a time, >= 1; further events wait.
        most_waiting: Events that wait; others are refused.
        trust: Modules beside this project's that the artefact may name.

    Attributes:
        invocations: Events that were answered.
        cold_starts: How many of these had an instance started.
        billed_ms: Of all of them.
        usd: Of all of them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pricing: Function,
        keep_alive_s: float = 600.0,
        most_instances: int = 1,
        most_waiting: int = 100,
        trust: Sequence[str] = (),
    ) -> None:
        if keep_alive_s < 0 or most_instances < 1 or most_waiting < 0:
            raise ValueError(
                f"keep_alive_s={keep_alive_s}, most_instances={most_instances}, "
                f"most_waiting={most_waiting}: want at least 0, 1 and 0"
            )
        self.pricing = pricing
        self.keep_alive_s = keep_alive_s
        self.most_instances = most_instances
        self.most_waiting = most_waiting
        self.environment = {FOLDER: str(folder), TRUST: ",".join(trust), THREADS: "1"}
        self.invocations = self.cold_starts = 0
        self.billed_ms = self.usd = 0.0
        self._idle: list[tuple[float, InstanceProcess]] = []
        self._alive = 0
        self._closed = False
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    def __enter__(self) -> "LocalFunction":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all idle instances, and the others when they have answered."""
        with self._changed:
            self._closed = True
            for _, instance in self._idle:
                instance.end()
            self._alive -= len(self._idle)
            self._idle.clear()

    def invoke(self, event: Mapping[str, Any], *, timeout_s: float = 30.0) -> Invocation:
        """Answer one event; may be called by several threads.

        Args:
            event: As the platform would deliver it.
            timeout_s: For waiting, and again for starting and answering.

        Raises:
            RequestFailed: Too many wait, it took too long, or the instance died.
            ArtefactError: The instance says why it cannot start.
        """
        asked = time.perf_counter()
        instance = self._turn(timeout_s)
        queued = time.perf_counter()
        cold = instance is None
        try:
            if instance is None:
                instance = InstanceProcess(self.environment)
                self._hold_back(instance.start_ms)
            reply, handler_ms = instance.answer(event, timeout_s)
            self._hold_back(handler_ms)
        except BaseException:
            if instance is not None:
                instance.end()
            self._return(None)
            raise
        self._return(instance)
        return self._billed(reply, instance, cold, (queued - asked) * 1000, handler_ms)

    def _hold_back(self, ms: float) -> None:
        """Wait for as long as a slower processor would have taken in addition."""
        time.sleep((self.pricing.stretch - 1) * ms / 1000)

    def _turn(self, timeout_s: float) -> InstanceProcess | None:
        """An idle instance, or None for who is to start one; first come, first served."""
        ticket = object()
        deadline = time.monotonic() + timeout_s
        with self._changed:
            if self._closed:
                raise RequestFailed("UNAVAILABLE", "the function was closed")
            self._expire()
            free = self._idle or self._alive < self.most_instances
            if len(self._line) >= self.most_waiting and not (free and not self._line):
                raise RequestFailed("RESOURCE_EXHAUSTED", f"{len(self._line)} events wait already")
            self._line.append(ticket)
            try:
                while self._line[0] is not ticket or not self._is_free():
                    if not self._changed.wait(deadline - time.monotonic()):
                        raise RequestFailed("DEADLINE_EXCEEDED", "no instance was free in time")
                self._expire()
                if self._idle:
                    return self._idle.pop()[1]  # the one that was used last: others may expire
                self._alive += 1
                return None
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _is_free(self) -> bool:
        return bool(self._idle) or self._alive < self.most_instances

    def _expire(self) -> None:
        """End instances that nobody needed for too long."""
        limit = time.monotonic() - self.keep_alive_s
        for since, instance in list(self._idle):
            if since <= limit:
                instance.end()
                self._idle.remove((since, instance))
                self._alive -= 1

    def _return(self, instance: InstanceProcess | None) -> None:
        with self._changed:
            if instance is None:
                self._alive -= 1
            elif self._closed:
                instance.end()
                self._alive -= 1
            else:
                self._idle.append((time.monotonic(), instance))
            self._changed.notify_all()

    def _billed(
        self,
        reply: Mapping[str, Any],
        instance: InstanceProcess,
        cold: bool,
        queue_ms: float,
        handler_ms: float,
    ) -> Invocation:
        slower = self.pricing.stretch
        start_ms = instance.start_ms * slower if cold else 0.0
        use = Use(
            busy_ms=np.array([handler_ms * slower]),
            waiting_ms=np.zeros(1),
            rate_per_s=np.ones(1),
            start_ms=np.array([start_ms]),
        )
        made = Invocation(
            status=int(reply["statusCode"]),
            document=json.loads(reply["body"]),
            cold=cold,
            queue_ms=queue_ms,
            start_ms=start_ms,
            import_ms=instance.import_ms if cold else 0.0,
            load_ms=instance.load_ms if cold else 0.0,
            handler_ms=handler_ms * slower,
            billed_ms=float(self.pricing.billed_ms(use)[0]),
            usd=float(self.pricing.usd(use)[0]),
        )
        with self._changed:
            self.invocations += 1
            self.cold_starts += cold
            self.billed_ms += made.billed_ms
            self.usd += made.usd
        return made
