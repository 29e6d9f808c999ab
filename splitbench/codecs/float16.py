"""Half precision."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from splitbench.codecs.framed import FramedCodec


@dataclass(frozen=True, kw_only=True, repr=False)
class Float16(FramedCodec):
    """Two bytes per value, rounded to the nearest half-precision number, ties to even.

    Gradients pass through `transform` as if nothing were rounded. Magnitudes from 65520 on, which
    would become infinite, are refused rather than clipped.

    Args:
        entropy: Entropy-code the body where that makes it shorter.
        max_bytes: Refuse messages that decode to more.

    References:
        IEEE 754-2019, binary16.
    """

    number: ClassVar[int] = 2
    lossless: ClassVar[bool] = False

    entropy: bool = False
    max_bytes: int = 2**28

    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """Two bytes per value."""
        return 2 * prod(shape)

    def pack(self, values: Tensor) -> bytes:
        """Write the rounded values."""
        return halves_to_bytes(values)

    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Read the values."""
        return halves_from_bytes(body).reshape(shape)

    def round_trip(self, values: Tensor) -> Tensor:
        """Round to half precision and back."""
        return round_to_half(values)

    def cell(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """The float32 values that round to each half-precision number."""
        return half_cell(decoded)


def round_to_half(values: Tensor) -> Tensor:
    """Nearest half-precision numbers, as float32.

    Raises:
        ValueError: A magnitude is 65520 or more.
    """
    if values.numel() and float(values.detach().abs().max()) >= 65520:
        raise ValueError(
            f"magnitude {float(values.abs().max()):.6g} does not fit half precision (below 65520); "
            "use Float32 or Uniform"
        )
    return values.half().float()


def halves_to_bytes(values: Tensor) -> bytes:
    """Write float32 values on the CPU as half precision; raises like `round_to_half`."""
    return round_to_half(values).reshape(values.numel()).numpy().astype("<f2").tobytes()


def halves_from_bytes(body: bytes) -> Tensor:
    """Read half-precision numbers as float32, one axis."""
    return torch.from_numpy(np.frombuffer(body, "<f2").astype(np.float32))


def half_cell(decoded: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest float32 value that round to each (rounded) half-precision number."""
    half = decoded.half()
    bits = half.abs().view(torch.int16)
    # Consecutive bit patterns are consecutive magnitudes; the one after the largest is infinity,
    # where rounding behaves as if it were 65536. Below zero lies the smallest negative number.
    outer = (bits + 1).view(torch.float16).float().clamp(max=65536)
    inner = torch.where(bits > 0, (bits - 1).clamp(min=0).view(torch.float16).float(), -(2.0**-24))
    magnitude = half.abs().float()
    nearest = _towards((magnitude + inner) / 2, half.abs())
    furthest = _towards((magnitude + outer) / 2, half.abs())
    negative = half < 0
    return (
        torch.where(negative, -furthest, nearest),
        torch.where(negative, -nearest, furthest),
    )


def _towards(middle: Tensor, half: Tensor) -> Tensor:
    """The middle between two half-precision numbers where it rounds to `half`, else the next."""
    return torch.where(middle.half() == half, middle, torch.nextafter(middle, half.float()))
