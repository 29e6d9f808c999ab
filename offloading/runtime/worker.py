"""One segment at work: bytes that arrive to tensors that leave, whatever carries the bytes."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from offloading.runtime import wire
from offloading.runtime.errors import Refused, WireError
from offloading.runtime.segments import BETWEEN, Stage, one_example
from offloading.runtime.trace import ServerTrace, clock_name, now_ns
from offloading.runtime.turns import Turns
from splitbench.codec import CodecError
from splitbench.release import Tensors

# Sends a message to the next segment, with so many seconds left, and returns its reply.
Forward = Callable[[bytes, float], wire.Reply]
MOST_SECONDS = 310.0  # a client may wait for 300, and deadlines are rounded up on the way


@dataclass
class Worker:
    """Answers messages for one segment; may be asked by several threads.

    Attributes:
        stage: What it computes.
        forward: The way to the next segment; None in the last one.
        parallel: How many requests it computes at a time.
        device: Where it computes.
        turns: Of those who want to compute.
    """

    stage: Stage
    forward: Forward | None = None
    parallel: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (self.forward is None) != self.stage.manifest.is_last:
            raise ValueError("every segment but the last one needs the address of the next one")
        self.turns = Turns(self.parallel)

    def admit(self, start: bytes) -> wire.Header:
        """Read a header, before its payload is there.

        Raises:
            Refused: It is none, or of another plan or segment, or claims too much.
        """
        manifest = self.stage.manifest
        try:
            found = wire.header(start)
        except WireError as error:
            raise Refused("INVALID_ARGUMENT", str(error)) from error
        if found.kind != "request":
            raise Refused("INVALID_ARGUMENT", "not a request")
        if (found.plan, found.segment) != (manifest.deployed.id, manifest.segment):
            raise Refused(
                "FAILED_PRECONDITION",
                f"the request is for segment {found.segment} of plan {found.plan}; this is segment "
                f"{manifest.segment} of plan {manifest.deployed.id}",
            )
        if found.length > self.stage.bound:
            raise Refused(
                "RESOURCE_EXHAUSTED",
                f"{found.length} bytes, no message of this plan has more than {self.stage.bound}",
            )
        return found

    def answer(self, whole: bytes, *, received_ns: int, remaining_s: float = MOST_SECONDS) -> bytes:
        """Answer a message with a reply.

        Args:
            whole: The message.
            received_ns: When its last byte was there.
            remaining_s: Until the caller gives up.

        Raises:
            Refused: The message is damaged, of another plan, or cannot be computed.
            RequestFailed: The next segment did not answer.
        """
        found = self.admit(whole)
        tensors = self._decoded(found, whole)
        decoded = now_ns()
        left_s = max(remaining_s - (decoded - received_ns) / 1e9, 0.0)
        with self.turns.taken(left_s):
            started = now_ns()
            out = self._computed(tensors)
            computed, waiting = now_ns(), self.turns.waiting
        sent, behind = None, wire.Reply(out[0], ())
        if self.forward is not None:
            following = self._message(found, out)
            sent = now_ns()
            behind = self.forward(following, remaining_s - (sent - received_ns) / 1e9)
        own = ServerTrace(
            segment=found.segment,
            pid=os.getpid(),
            host=platform.node(),
            clock=clock_name(),
            waiting=waiting,
            received_ns=received_ns,
            decoded_ns=decoded,
            started_ns=started,
            computed_ns=computed,
            sent_ns=sent,
            replied_ns=now_ns(),
        )
        reply = wire.Reply(behind.logits, (own.to_dict(), *behind.servers))
        try:
            payload = wire.reply_payload(reply)
        except ValueError as error:
            raise Refused("INTERNAL", f"the answer cannot be sent: {error}") from error
        return wire.message(
            "reply", segment=found.segment, plan=found.plan, request=found.request, payload=payload
        )

    def _decoded(self, found: wire.Header, whole: bytes) -> Tensors:
        """The tensors of a message, as the plan has them."""
        specs = self.stage.manifest.deployed.hops[found.segment - 1]
        try:
            payload = wire.payload_of(found, whole[wire.HEADER_BYTES :])
            tensors = self.stage.codec.decode(payload)[: len(specs)]
        except (WireError, CodecError) as error:
            raise Refused("INVALID_ARGUMENT", str(error)) from error
        for spec, values in zip(specs, tensors, strict=False):
            if tuple(values.shape) != spec.shape or str(values.dtype) != f"torch.{spec.dtype}":
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"a tensor is {values.dtype} of shape {tuple(values.shape)}, want {spec}",
                )
        if len(tensors) < len(specs):
            raise Refused("INVALID_ARGUMENT", f"{len(tensors)} tensors, want {len(specs)}")
        return one_example(tensors)

    @torch.inference_mode()
    def _computed(self, tensors: Tensors) -> Tensors:
        moved = tuple(values.to(self.device) for values in tensors)
        try:
            out: Tensors | Tensor = self.stage.module(moved)
        except RuntimeError as error:
            raise Refused("INTERNAL", f"the segment cannot compute this: {error}") from error
        several = (out,) if isinstance(out, Tensor) else out
        return tuple(values.cpu() for values in several)

    def _message(self, found: wire.Header, tensors: Tensors) -> bytes:
        """What the next segment is sent."""
        try:
            payload = BETWEEN.encode([values[0] for values in tensors])
        except ValueError as error:
            raise Refused("INTERNAL", f"the features cannot be sent: {error}") from error
        return wire.message(
            "request",
            segment=found.segment + 1,
            plan=found.plan,
            request=found.request,
            payload=payload,
        )
