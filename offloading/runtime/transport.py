"""How a message reaches the next segment."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import grpc

from offloading.runtime import wire
from offloading.runtime.errors import RequestFailed, WireError

METHOD = "/splitbench.Segment/Run"
TOKEN_KEY, TOKEN_SCHEME = "authorization", "Bearer "
_OPTIONS = (
    ("grpc.enable_retries", 0),  # a request is sent once
    ("grpc.enable_http_proxy", 0),  # and straight to the server
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Transport(Protocol):
    """Carries messages to one segment."""

    def ask(self, message: bytes, *, classes: int, timeout_s: float) -> wire.Reply:
        """Send one message, once, and wait for its reply.

        Raises:
            RequestFailed: There is none.
        """

    def close(self) -> None:
        """Let go of whatever is held."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a caller shows, and what it expects of a server.

    Attributes:
        token: Shown with every request; None shows none.
        root: File with the certificate that the server's must come from (PEM); None speaks in
            clear.
        name: The name in the server's certificate, where it is not the address's.
    """

    token: str | None = None
    root: Path | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        check_token(self.token)


def check_token(token: str | None) -> None:
    """Refuse what does not travel in a header.

    Raises:
        ValueError: It is empty, or not plain visible characters.
    """
    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise ValueError("the token must be one line of visible ASCII characters, not empty")


class GrpcTransport:
    """A connection that is kept open.

    Args:
        address: ``host:port`` or ``unix:PATH``.
        credentials: Shown and expected.

    Raises:
        OSError: The certificate cannot be read.
    """

    def __init__(self, address: str, credentials: Credentials | None = None) -> None:
        shown = credentials or Credentials()
        options: list[tuple[str, int | str]] = list(_OPTIONS)
        if shown.name is not None:
            options.append(("grpc.ssl_target_name_override", shown.name))
        if shown.root is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            tls = grpc.ssl_channel_credentials(shown.root.read_bytes())
            self._channel = grpc.secure_channel(address, tls, options)
        self._run = self._channel.stream_unary(METHOD)  # bytes as they are
        self._metadata = [(TOKEN_KEY, TOKEN_SCHEME + shown.token)] if shown.token else []

    def connect(self, timeout_s: float) -> None:
        """Wait until the server is reached.

        Raises:
            RequestFailed: It was not, in that time.
        """
        try:
            grpc.channel_ready_future(self._channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError as error:
            raise RequestFailed("UNAVAILABLE", f"not reached within {timeout_s} s") from error

    def ask(self, message: bytes, *, classes: int, timeout_s: float) -> wire.Reply:
        """Send one message in chunks; see `Transport.ask`."""
        try:
            raw = self._run(wire.chunks(message), timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise RequestFailed(error.code().name, error.details() or "no reason given") from error
        try:
            return checked(raw, message, classes=classes)
        except WireError as error:
            raise RequestFailed("DATA_LOSS", str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def checked(raw: bytes, message: bytes, *, classes: int) -> wire.Reply:
    """Read a reply, if it is the one to this message.

    Raises:
        WireError: It is not.
    """
    asked, found = wire.header(message), wire.header(raw)
    same = (found.plan, found.segment, found.request) == (asked.plan, asked.segment, asked.request)
    if found.kind != "reply" or not same:
        raise WireError("this is the reply to something else")
    payload = wire.payload_of(found, raw[wire.HEADER_BYTES :])
    return replace(wire.read_reply(payload, classes=classes), size=len(raw))
