"""The device's side: runs the head, sends the release, says where the time went."""

import os
import platform
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from offloading.runtime import wire
from offloading.runtime.errors import ArtefactError, RequestFailed, WireError
from offloading.runtime.segments import Head, load_head
from offloading.runtime.trace import ServerTrace, now_ns, phases_ns
from offloading.runtime.transport import Credentials, GrpcTransport, Transport
from splitbench.release import Tensors
from splitbench.stations import stations

AnsweredBy = Literal["server", "exit", "local_exit", "local_whole"]
# Nobody was there, or too busy. Other refusals are mistakes, which no answer of the device mends.
OUTAGES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the user is told about one image, and how it came about.

    Attributes:
        logits: ``(1, classes)``.
        answered_by: ``server``; ``exit`` where the defense's exit was sure, so that nothing was
            sent; ``local_exit`` or ``local_whole`` where no answer came and the plan lets the
            device answer by itself.
        phases_ms: Times by name, see `trace.phases_ns`; they sum to `end_to_end_ms`.
        end_to_end_ms: From the image to the logits, by the device's clock.
        payload_bytes: Of the codec's message; 0 where none was sent.
        sent_bytes: With the header.
        received_bytes: Of the reply.
        servers: What each segment behind the device did, with its process and host.
        failure: Why no answer came, where the device had to answer.
    """

    logits: Tensor
    answered_by: AnsweredBy
    phases_ms: dict[str, float]
    end_to_end_ms: float
    payload_bytes: int
    sent_bytes: int
    received_bytes: int = 0
    servers: tuple[ServerTrace, ...] = ()
    failure: str | None = None

    @property
    def pid(self) -> int:
        """The process that computed the logits."""
        return self.servers[-1].pid if self.servers else os.getpid()

    @property
    def host(self) -> str:
        """The machine that computed the logits."""
        return self.servers[-1].host if self.servers else platform.node()


class Client:
    """Asks one plan about images, one at a time; never tries twice.

    Args:
        head: What runs here.
        transport: The way to the next segment.
        timeout_s: After which a request has failed, in (0, 300].
        generator: Of the defense's noise; None draws a seed from the operating system. What comes
            out of it can be told from true randomness by who sees enough of it: noise that must
            withstand that needs another source.
        device: Where to compute.
    """

    def __init__(
        self,
        head: Head,
        transport: Transport,
        *,
        timeout_s: float = 30.0,
        generator: torch.Generator | None = None,
        device: str = "cpu",
    ) -> None:
        if not 0 < timeout_s <= 300:
            raise ValueError(f"timeout_s={timeout_s}: must be in (0, 300]")
        self.head = head
        self.deployed = head.manifest.deployed
        self.transport = transport
        self.timeout_s = timeout_s
        self.generator = generator or torch.Generator().manual_seed(secrets.randbits(63))
        self.device = device

    @classmethod
    def open(
        cls,
        folder: Path,
        address: str,
        *,
        credentials: Credentials | None = None,
        timeout_s: float = 30.0,
        trust: Sequence[str] = (),
        device: str = "cpu",
    ) -> "Client":
        """Load the first segment and connect to the second one.

        Raises:
            ArtefactError: The folder holds no first segment.
        """
        head = load_head(folder, trust=trust, device=device)
        return cls(head, GrpcTransport(address, credentials), timeout_s=timeout_s, device=device)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.transport.close()

    @torch.inference_mode()
    def request(self, image: Tensor) -> Answer:
        """Ask about one image, ``(c, h, w)`` or ``(1, c, h, w)``, float in [0, 1].

        Raises:
            RequestFailed: No answer came, and the plan does not let the device answer.
            ValueError: The image has another shape.
        """
        batch = (image.unsqueeze(0) if image.ndim == 3 else image).to(self.device)
        if tuple(batch.shape) != (1, *self.deployed.image_shape):
            raise ValueError(f"shape {tuple(image.shape)}: want one of {self.deployed.image_shape}")
        head = self.head
        began = now_ns()
        for reached in stations(head.defense, head.client, batch):
            features, told = reached
            if told is not None and bool(told.stays[0]):  # the rest of the head is not computed
                return self._local("exit", told.logits, [began, now_ns()])
        protected = head.defense.protect(features, generator=self.generator)
        protected = tuple(values.cpu() for values in protected)  # waits for whatever computes
        headed = now_ns()
        payload = head.codec.encode([values[0] for values in protected])
        message = wire.message(
            "request",
            segment=1,
            plan=self.deployed.id,
            request=secrets.token_bytes(16),
            payload=payload,
        )
        encoded = now_ns()
        try:
            reply = self.transport.ask(
                message, classes=self.deployed.classes, timeout_s=self.timeout_s
            )
            servers = self._servers(reply)
        except RequestFailed as error:
            stamps = [began, headed, encoded, now_ns()]
            sizes = (len(payload), len(message), 0)
            return self._instead(error, features, protected, stamps, sizes)
        ended = now_ns()
        return self._answer(
            reply.logits,
            "server",
            [began, headed, encoded, ended],
            servers=servers,
            sizes=(len(payload), len(message), reply.size),
        )

    def _servers(self, reply: wire.Reply) -> tuple[ServerTrace, ...]:
        """Who answered: all segments behind this one, each once.

        Raises:
            RequestFailed: Others did.
        """
        try:
            servers = tuple(ServerTrace.from_dict(each) for each in reply.servers)
        except WireError as error:
            raise RequestFailed("DATA_LOSS", str(error)) from error
        if [server.segment for server in servers] != [*range(1, self.deployed.segments)]:
            raise RequestFailed("DATA_LOSS", "the reply does not come from all segments in turn")
        return servers

    def _instead(
        self,
        error: RequestFailed,
        features: Tensors,
        protected: Tensors,
        stamps: list[int],
        sizes: tuple[int, int, int],
    ) -> Answer:
        """What the device answers by itself, where the plan says so.

        Raises:
            RequestFailed: It does not, or the request was a mistake.
        """
        if self.deployed.fallback == "none" or error.status not in OUTAGES:
            raise error
        if self.deployed.fallback == "exit":
            told = self.head.defense.answered(features)
            logits = None if told is None else told.logits
            by: AnsweredBy = "local_exit"
        else:
            local, by = self.head.local, "local_whole"
            live = len(self.deployed.hops[0])
            received = self.head.codec.transform(protected)[:live]
            moved = tuple(values.to(self.device) for values in received)
            logits = None if local is None else local(moved)
        if logits is None:
            raise ArtefactError("the plan lets the device answer, the artefact does not") from error
        *before, failed = stamps
        return self._answer(
            logits, by, [*before, now_ns()], failed=failed, sizes=sizes, failure=str(error)
        )

    def _local(self, by: AnsweredBy, logits: Tensor, stamps: list[int]) -> Answer:
        began, headed = stamps
        return self._answer(logits, by, [began, headed, headed, now_ns()])

    def _answer(
        self,
        logits: Tensor,
        by: AnsweredBy,
        stamps: list[int],
        *,
        servers: tuple[ServerTrace, ...] = (),
        failed: int | None = None,
        sizes: tuple[int, int, int] = (0, 0, 0),
        failure: str | None = None,
    ) -> Answer:
        began, headed, encoded, ended = stamps
        spent = phases_ns(began, headed, encoded, ended, servers, failed=failed)
        return Answer(
            logits=logits.cpu(),
            answered_by=by,
            phases_ms={name: ns / 1e6 for name, ns in spent.items()},
            end_to_end_ms=(ended - began) / 1e6,
            payload_bytes=sizes[0],
            sent_bytes=sizes[1],
            received_bytes=sizes[2],
            servers=servers,
            failure=failure,
        )
