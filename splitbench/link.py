"""A network between device and server, as a model."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Link:
    """A network between device and server, as a model: it shapes nothing.

    Attributes:
        name: For tables.
        up_mbps: Rate from the device to the server, in 10^6 bits per second, > 0.
        down_mbps: Rate back, > 0.
        rtt_ms: Round trip time of an empty message, in milliseconds, >= 0.
    """

    name: str
    up_mbps: float
    down_mbps: float
    rtt_ms: float

    def __post_init__(self) -> None:
        if not (self.up_mbps > 0 and self.down_mbps > 0 and self.rtt_ms >= 0):
            raise ValueError(f"{self}: rates must be positive, rtt_ms must not be negative")

    def transfer_ms(self, payload_bytes: float, reply_bytes: float = 0) -> float:
        """Time from the first byte sent to the last byte of the reply received.

        A persistent connection with its window open: one round trip, and every byte once. Headers
        of the transport and lost packets are left out.
        """
        sent = 8 * payload_bytes / (self.up_mbps * 1000)
        return self.rtt_ms + sent + 8 * reply_bytes / (self.down_mbps * 1000)
