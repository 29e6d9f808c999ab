"""A network between two machines, as a model."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

FRAMING = 1 + 40 / 1460  # what headers of TCP and IP add to a full packet of 1500 bytes

Bytes = TypeVar("Bytes", float, NDArray[np.float64])


@dataclass(frozen=True, kw_only=True)
class Link:
    """A network between two machines, as a model: it shapes nothing.

    Times are those of a persistent connection whose window is open: half a round trip, and every
    byte once, headers of the transport included.

    Attributes:
        name: For tables.
        up_mbps: Rate away from the device, in 10^6 bits per second, > 0.
        down_mbps: Rate back, > 0.
        rtt_ms: Round trip time of an empty message, in milliseconds, >= 0.
        jitter_ms: Standard deviation of the time of one way, >= 0. Not in the times below, which
            are medians.
        loss: Share of packets that are lost, in [0, 1). Not in the times below either.
    """

    name: str
    up_mbps: float
    down_mbps: float
    rtt_ms: float
    jitter_ms: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        if not (self.up_mbps > 0 and self.down_mbps > 0 and self.rtt_ms >= 0):
            raise ValueError(f"{self}: rates must be positive, rtt_ms must not be negative")
        if not (self.jitter_ms >= 0 and 0 <= self.loss < 1):
            raise ValueError(f"{self}: jitter_ms must not be negative, loss must lie in [0, 1)")

    def up_ms(self, payload_bytes: Bytes) -> Bytes:
        """Time of one message away from the device, from its first byte to its arrival."""
        return self.rtt_ms / 2 + payload_bytes * (8 * FRAMING / (self.up_mbps * 1000))

    def down_ms(self, payload_bytes: Bytes) -> Bytes:
        """Time of one message back."""
        return self.rtt_ms / 2 + payload_bytes * (8 * FRAMING / (self.down_mbps * 1000))

    def transfer_ms(self, payload_bytes: float, reply_bytes: float = 0) -> float:
        """Time from the first byte sent to the last byte of the reply received."""
        return self.up_ms(payload_bytes) + self.down_ms(reply_bytes)
