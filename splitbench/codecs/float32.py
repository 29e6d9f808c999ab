"""Single precision, the reference."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import Tensor

from splitbench.codecs.exact import from_bytes, to_bytes
from splitbench.codecs.framed import FramedCodec
from splitbench.release import TensorSpec


@dataclass(frozen=True, kw_only=True, repr=False)
class Float32(FramedCodec):
    """Four bytes per value; nothing is lost.

    Gradients pass through `transform` unchanged.

    Args:
        entropy: Entropy-code the body where that makes it shorter.
        max_bytes: Refuse messages that decode to more.

    References:
        IEEE 754-2019, binary32.
    """

    number: ClassVar[int] = 1
    lossless: ClassVar[bool] = True

    entropy: bool = False
    max_bytes: int = 2**28

    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """Four bytes per value."""
        return 4 * prod(shape)

    def pack(self, values: Tensor) -> bytes:
        """Write the values."""
        return to_bytes(values)

    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Read the values."""
        return from_bytes(body, TensorSpec("", shape))

    def round_trip(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values
