"""A segment behind an address: gRPC, with bytes as they are."""

import hmac
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2

from offloading.runtime import wire
from offloading.runtime.errors import Refused, RequestFailed, WireError
from offloading.runtime.trace import now_ns
from offloading.runtime.transport import METHOD, TOKEN_KEY, TOKEN_SCHEME, check_token
from offloading.runtime.worker import MOST_SECONDS, Worker

LET_IN = 32  # requests at a time: each has a thread, so that who sends slowly keeps nobody waiting
SPARE = 8  # threads that refuse the others, and tell how the server is
# Of one connection, open or not yet listened to. Who reaches this limit may lose requests to a race
# (he is told of a stream's end before the server has counted it): no honest peer should.
STREAMS = 8 * LET_IN
ARRIVAL_SECONDS = 10.0  # a message may take so long to arrive, and longer ...
SLOWEST_BYTES_PER_S = 2**14  # ... as its size needs at this rate
HANDSHAKE_MS = 10_000  # who connects and says nothing is let go
LOCAL = ("localhost", "127.", "[::1]", "unix:", "unix-abstract:")
_SERVICE, _, _NAME = METHOD.removeprefix("/").partition("/")


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask, and how.

    Attributes:
        token: Requests without it are refused; None asks for none.
        certificate: File with the server's certificate (PEM); None speaks in clear.
        key: File with its private key.
    """

    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate needs its key, and a key its certificate")
        check_token(self.token)


def is_local(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return address.startswith(LOCAL)


class Server:
    """Serves one segment.

    Args:
        worker: Computes.
        address: ``host:port``, where port 0 chooses one, or ``unix:PATH``.
        access: Who may ask.

    Attributes:
        address: Where it listens, with the port that was chosen.

    Raises:
        OSError: It cannot listen there, or a file cannot be read.
    """

    def __init__(self, worker: Worker, address: str, access: Access | None = None) -> None:
        self.worker = worker
        self._patience_s = ARRIVAL_SECONDS + worker.stage.bound / SLOWEST_BYTES_PER_S
        self._token = (access or Access()).token
        self._slots = threading.BoundedSemaphore(LET_IN)
        self._readers = ThreadPoolExecutor(LET_IN, "reader")
        self._server = grpc.server(
            ThreadPoolExecutor(LET_IN + SPARE),
            maximum_concurrent_rpcs=LET_IN + SPARE,
            options=[
                ("grpc.max_receive_message_length", wire.CHUNK_BYTES),
                ("grpc.max_concurrent_streams", STREAMS),
                ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
                ("grpc.so_reuseport", 0),  # who comes second is told that the port is taken
            ],
        )
        self._health = health.HealthServicer()
        handler = grpc.stream_unary_rpc_method_handler(self._run)
        # No `Watch`: the names that it is asked about would be remembered for ever.
        check = grpc.unary_unary_rpc_method_handler(
            self._health.Check,
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(_SERVICE, {_NAME: handler}),
                grpc.method_handlers_generic_handler(health.SERVICE_NAME, {"Check": check}),
            ]
        )
        self.address = self._listen(address, access or Access())

    def start(self) -> None:
        """Take requests."""
        self._server.start()
        for name in ("", _SERVICE):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace_s: float = 1.0) -> None:
        """Take no more requests; those that are being answered have so long to end."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._readers.shutdown(wait=False)

    def _listen(self, address: str, access: Access) -> str:
        mask = os.umask(0o077) if address.startswith("unix:") else None  # the socket is the user's
        try:
            if access.certificate is None or access.key is None:
                port = self._server.add_insecure_port(address)
            else:
                pair = (access.key.read_bytes(), access.certificate.read_bytes())
                port = self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        except RuntimeError as error:
            raise OSError(f"cannot listen at {address}: is it taken, or elsewhere?") from error
        finally:
            if mask is not None:
                os.umask(mask)
        host, colon, wanted = address.rpartition(":")
        return f"{host}:{port}" if colon and wanted == "0" else address

    def _run(self, pieces: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        try:
            self._admit(context)
            return self._answered(pieces, context)
        except (Refused, RequestFailed) as error:
            context.abort(grpc.StatusCode[error.status], str(error))
            raise  # what `abort` does, too

    def _admit(self, context: grpc.ServicerContext) -> None:
        """Refuse who may not ask, and who would keep a thread for ever."""
        if self._token is not None:
            shown = dict(context.invocation_metadata()).get(TOKEN_KEY, "")
            wanted = TOKEN_SCHEME + self._token
            if not hmac.compare_digest(str(shown).encode(), wanted.encode()):
                raise Refused("UNAUTHENTICATED", "the token is missing or wrong")
        if not context.time_remaining() <= MOST_SECONDS:
            raise Refused("INVALID_ARGUMENT", f"set a deadline of at most {MOST_SECONDS:.0f} s")

    def _answered(self, pieces: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        if not self._slots.acquire(blocking=False):
            raise Refused("RESOURCE_EXHAUSTED", f"too busy: {LET_IN} requests are let in at a time")
        try:
            whole = self._arrived(pieces, context.time_remaining())
            remaining = context.time_remaining()
            return self.worker.answer(whole, received_ns=now_ns(), remaining_s=remaining)
        finally:
            self._slots.release()

    def _arrived(self, pieces: Iterator[bytes], remaining_s: float) -> bytes:
        """The whole message, unless its sender dawdles.

        Another thread reads: who waits for a chunk cannot be told to stop, but ends with the call.
        """
        reading = self._readers.submit(self._read, pieces)
        try:
            return reading.result(min(self._patience_s, remaining_s))
        except TimeoutError as error:
            raise Refused(
                "DEADLINE_EXCEEDED", f"the message was not there after {self._patience_s:.0f} s"
            ) from error

    def _read(self, pieces: Iterator[bytes]) -> bytes:
        first = next(pieces, b"")
        found = self.worker.admit(first[: wire.HEADER_BYTES])
        try:
            return wire.gathered(chain([first], pieces), most=wire.HEADER_BYTES + found.length)
        except WireError as error:
            raise Refused("INVALID_ARGUMENT", str(error)) from error
        except OverflowError as error:
            raise Refused("RESOURCE_EXHAUSTED", str(error)) from error
