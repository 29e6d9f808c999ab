"""Only the largest values."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from splitbench.codec import CodecError
from splitbench.codecs.bitpack import pack, packed_bytes, unpack
from splitbench.codecs.exact import from_bytes, to_bytes
from splitbench.codecs.float16 import half_cell, halves_from_bytes, halves_to_bytes, round_to_half
from splitbench.codecs.framed import FramedCodec
from splitbench.release import TensorSpec

ROUNDED = 1 + 2**-22  # the mean magnitude may have been rounded down
SCALE_BYTES = 4  # of the mean magnitude, where only signs are sent


@dataclass(frozen=True, kw_only=True, repr=False)
class TopK(FramedCodec):
    """Keeps the largest magnitudes of each tensor of each example; the others arrive as zero.

    Which values were kept is part of the message, and tells much: it costs one bit per value (a
    bitmap) or ``ceil(log2 n)`` bits per kept value (a list), whichever is shorter. Of equal
    magnitudes, the first in memory order are kept. Gradients pass through `transform` for kept
    values.

    Args:
        fraction: Share of values to keep, in (0, 1]: ``k = ceil(fraction * n)``, computed with the
            decimal number as written (0.07 of 100 is 7, although 0.07 * 100 > 7 in binary).
        value_bits: 32 for exact values, 16 for half precision, 1 for the sign alone: of every kept
            value the place and the sign are sent, and once their mean magnitude, which they arrive
            with (a kept zero as a positive one). What is recovered then is told by the places.
        entropy: Entropy-code the body where that makes it shorter.
        max_bytes: Refuse messages that decode to more.

    References:
        Aji, Heafield. "Sparse communication for distributed gradient descent". EMNLP 2017.
        arXiv:1704.05021
        Sattler, Wiedemann, Mueller, Samek. "Robust and communication-efficient federated learning
        from non-i.i.d. data". IEEE TNNLS 2020 (places and signs: sparse ternary compression).
        arXiv:1903.02891
    """

    number: ClassVar[int] = 4
    lossless: ClassVar[bool] = False

    fraction: float = 0.1
    value_bits: Literal[1, 16, 32] = 32
    entropy: bool = False
    max_bytes: int = 2**28

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction}: must be in (0, 1]")
        if self.value_bits not in (1, 16, 32):
            raise ValueError(f"value_bits={self.value_bits}: choose 1, 16 or 32")

    def kept(self, count: int) -> int:
        """How many of `count` values are kept."""
        return ceil(Fraction(str(self.fraction)) * count)

    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """Bitmap or list, rounded up to whole bytes, then the kept values."""
        count = prod(shape)
        return _index_bytes(count, self.kept(count)) + self._value_bytes(self.kept(count))

    def pack(self, values: Tensor) -> bytes:
        """Write where the kept values are, then what they are, in memory order."""
        mask = self._mask(values[None])[0].reshape(values.numel())
        kept = values.reshape(values.numel())[mask]
        if _bitmap_is_shorter(len(mask), len(kept)):
            where = pack(mask.numpy(), 1)
        else:
            where = pack(mask.nonzero()[:, 0].numpy(), _index_bits(len(mask)))
        return where + self._pack_values(kept)

    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Put the kept values back in place."""
        count = prod(shape)
        kept = self.kept(count)
        start = _index_bytes(count, kept)
        if _bitmap_is_shorter(count, kept):
            where = np.flatnonzero(unpack(body[:start], count, 1))
        else:
            where = unpack(body[:start], kept, _index_bits(count)).astype(np.int64)
        if len(where) != kept or (kept and where[-1] >= count) or (np.diff(where) <= 0).any():
            raise CodecError(f"the positions are not {kept} ascending ones below {count}")
        values = torch.zeros(count)
        values[torch.from_numpy(where)] = self._unpack_values(body[start:], kept)
        return values.reshape(shape)

    def round_trip(self, values: Tensor) -> Tensor:
        """Set all but the kept values to zero."""
        mask = self._mask(values)
        if self.value_bits == 1:
            return torch.where(mask, self._signed(values, mask), 0.0)
        kept = torch.where(mask, values, 0.0)
        return kept if self.value_bits == 32 else round_to_half(kept)

    @torch.no_grad()
    def cell(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Kept values as they are; a dropped one has at most the smallest kept magnitude."""
        if decoded.numel() == 0:
            return decoded, decoded
        flat = decoded.reshape(len(decoded), decoded[0].numel())
        if self.value_bits == 1:
            ends = self._cell_of_signs(flat)
            return ends[0].reshape(decoded.shape), ends[1].reshape(decoded.shape)
        low, high = (flat, flat) if self.value_bits == 32 else half_cell(flat)
        kept = flat.abs().topk(self.kept(flat.shape[1]), dim=1).values[:, -1:]
        most = kept if self.value_bits == 32 else half_cell(kept)[1]
        low = torch.where(flat == 0, -most, low)
        high = torch.where(flat == 0, most, high)
        return low.reshape(decoded.shape), high.reshape(decoded.shape)

    def _cell_of_signs(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Magnitudes whose mean is known: none is above their sum, the least not above the mean."""
        scale = flat.abs().amax(1, keepdim=True).expand_as(flat) * ROUNDED
        most = self.kept(flat.shape[1]) * scale
        # What was kept as zero is among the positive ones, and a cell is closed.
        low = torch.where(flat > 0, 0.0, torch.where(flat < 0, -most, -scale))
        high = torch.where(flat > 0, most, torch.where(flat < 0, 0.0, scale))
        return low, high

    def _value_bytes(self, kept: int) -> int:
        """Of so many values; of signs, with their scale."""
        if self.value_bits == 1:
            return packed_bytes(kept, 1) + (SCALE_BYTES if kept else 0)
        return kept * self.value_bits // 8

    def _pack_values(self, kept: Tensor) -> bytes:
        if self.value_bits == 1 and len(kept):
            scale = _mean_magnitude(kept[None])[0]
            return to_bytes(scale) + pack((kept < 0).numpy(), 1)
        return to_bytes(kept) if self.value_bits == 32 else halves_to_bytes(kept)

    def _unpack_values(self, body: bytes, kept: int) -> Tensor:
        if self.value_bits == 1 and kept:
            scale = from_bytes(body[:SCALE_BYTES], TensorSpec("", (1,)))
            if not scale >= 0:
                raise CodecError(f"the magnitude {float(scale)} is negative")
            negative = torch.from_numpy(unpack(body[SCALE_BYTES:], kept, 1).astype(bool))
            return torch.where(negative, -scale, scale)
        if self.value_bits == 32:
            return from_bytes(body, TensorSpec("", (kept,)))
        return halves_from_bytes(body)

    def _signed(self, values: Tensor, mask: Tensor) -> Tensor:
        """The mean magnitude of what is kept of each example, with the sign of every value."""
        count = prod(values.shape[1:])
        kept = values.reshape(len(values), count)[mask.reshape(len(values), count)]
        scale = _mean_magnitude(kept.reshape(len(values), self.kept(count)))
        scale = scale.reshape(len(values), *[1] * (values.ndim - 1))
        return torch.where(values < 0, -scale, scale)

    @torch.no_grad()
    def _mask(self, batch: Tensor) -> Tensor:
        """True for kept values; the same for an example alone and within a batch."""
        count = prod(batch.shape[1:])
        magnitude = batch.reshape(len(batch), count).abs()
        order = magnitude.sort(dim=1, descending=True, stable=True).indices
        mask = torch.zeros_like(magnitude, dtype=torch.bool)
        mask.scatter_(1, order[:, : self.kept(count)], True)
        return mask.reshape(batch.shape)


def _mean_magnitude(rows: Tensor) -> Tensor:
    """Of each row, ``(b, 1)``; 0 where a row is empty."""
    total = rows.double().abs().sum(1, keepdim=True)
    return (total / max(rows.shape[1], 1)).float()


def _index_bits(count: int) -> int:
    """Bits that name one of `count` places: ``ceil(log2 count)``."""
    return max(count - 1, 0).bit_length()


def _bitmap_is_shorter(count: int, kept: int) -> bool:
    return count <= kept * _index_bits(count)


def _index_bytes(count: int, kept: int) -> int:
    if _bitmap_is_shorter(count, kept):
        return packed_bytes(count, 1)
    return packed_bytes(kept, _index_bits(count))
