"""The way from the device to a function that is emulated on the same machine."""

import base64
import binascii
from dataclasses import replace
from typing import Any

from offloading.runtime import wire
from offloading.runtime.errors import RequestFailed, WireError
from offloading.runtime.function import event_of
from offloading.runtime.local_function import Invocation, LocalFunction
from offloading.runtime.transport import checked

_STATUS = {400: "INVALID_ARGUMENT", 412: "FAILED_PRECONDITION", 413: "RESOURCE_EXHAUSTED"}
_STAMPS = ("decoded_ns", "started_ns", "computed_ns", "replied_ns")


class FunctionTransport:
    """Lets a `Client` ask a `LocalFunction`; no network is between them.

    Args:
        function: Answers; closed with this.

    Attributes:
        last: What the last request took on the platform's side, and what it cost.
    """

    def __init__(self, function: LocalFunction) -> None:
        self.function = function
        self.last: Invocation | None = None

    def ask(self, message: bytes, *, classes: int, timeout_s: float) -> wire.Reply:
        """Invoke the function once; see `Transport.ask`.

        The stamps of the reply are those of a processor as slow as was bought. A cold start and
        the wait for an instance come before them: they are part of ``up``.
        """
        self.last = self.function.invoke(event_of(message), timeout_s=timeout_s)
        if self.last.status != 200:
            status = _STATUS.get(self.last.status, "INTERNAL")
            raise RequestFailed(status, str(self.last.document.get("error")))
        try:
            raw = base64.b64decode(self.last.document["reply"], validate=True)
            reply = checked(raw, message, classes=classes)
            slower = self.function.pricing.stretch
            return replace(reply, servers=tuple(_slowed(s, slower) for s in reply.servers))
        except (KeyError, TypeError, binascii.Error, WireError) as error:
            raise RequestFailed("DATA_LOSS", str(error)) from error

    def close(self) -> None:
        """End the function's instances."""
        self.function.close()


def _slowed(server: dict[str, Any], factor: float) -> dict[str, Any]:
    """Stamps as they would be if everything since the arrival had taken so many times as long."""
    began = server["received_ns"]
    return {
        **server,
        **{name: began + round((server[name] - began) * factor) for name in _STAMPS},
    }
