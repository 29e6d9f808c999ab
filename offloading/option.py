"""What may leave the device at a cut, and what is known about it."""

from dataclasses import dataclass

from offloading.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to release the features of one cut: a defense and a codec.

    Attributes:
        cut: Where.
        name: The defense with its setting, and the codec where it is not plain; ``undefended``.
        payload_bytes: Mean length of a message that is sent.
        encode_ms: Tensors to bytes, on the machine of the profile.
        decode_ms: Bytes to tensors, likewise.
        client_extra_ms: What the defense adds to the head (or saves, where it is negative).
        server_extra_ms: What it adds to the tail.
        leakage: L of the strongest attack on it, closed over what follows from it.
        accuracy: Of the task.
        accuracy_drop: Against the undefended model; a share, positive is worse.
        share_sent: Of the images of which a message is sent; the device answers the others.
        exact: The undefended features in a lossless codec: later cuts can be computed from it.
        defense, codec: The expressions that build them.
    """

    cut: str
    name: str
    payload_bytes: float
    leakage: Figure
    accuracy: Figure
    accuracy_drop: Figure
    encode_ms: float = 0.0
    decode_ms: float = 0.0
    client_extra_ms: float = 0.0
    server_extra_ms: float = 0.0
    share_sent: float = 1.0
    exact: bool = False
    defense: str = ""
    codec: str = ""

    def __post_init__(self) -> None:
        if not (self.payload_bytes >= 0 and 0 <= self.share_sent <= 1):
            raise ValueError(f"{self}: want payload_bytes >= 0 and a share_sent in [0, 1]")
