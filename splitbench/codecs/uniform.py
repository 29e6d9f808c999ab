"""Uniform quantisation to a few bits per value."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from splitbench.codec import CodecError
from splitbench.codecs.bitpack import pack, packed_bytes, unpack
from splitbench.codecs.framed import FramedCodec
from splitbench.codecs.grid import Grid


@dataclass(frozen=True, kw_only=True, repr=False)
class Uniform(FramedCodec):
    """`bits` bits per value on an even grid, each value rounded to the nearest level.

    Two conventions, because two things are known:

    * With `clip` both sides know the range and nothing but codes is transmitted. The range is
      divided into ``2**bits`` cells of width ``delta = (high - low) / 2**bits`` and each level is
      the middle of its cell: no other fixed levels have a smaller largest error (``delta / 2``).
      What lies beyond the range falls into the outer cells, whose intervals are unbounded.
    * Without it the range is the smallest and the largest value of each example, two float32
      numbers that are transmitted and counted. These two values occur, so the outer levels lie
      on them: ``delta = (high - low) / (2**bits - 1)``. The zeros of a ReLU stay exactly zero,
      decoding and encoding again changes nothing, and the range can be read off the decoded
      tensor. With one bit the two levels are the minimum and the maximum.

    In both, the error within the range is at most ``delta / 2`` and ``delta**2 / 12`` on average
    for values that are uniform over the range.

    `transform` passes no gradient (it would be zero almost everywhere): an attack uses `distance`,
    a defense that trains through it a straight-through estimate.

    Entropy coding works on bytes: it comes near the entropy of the codes where whole codes fill a
    byte (1, 2, 4, 8 or 16 bits) and gains little at other widths.

    Args:
        bits: Bits per value, 1 to 8 or 16.
        per: One range per ``tensor``, or per ``channel``: per entry of axis 0 of the example's
            tensor, which is the channel of ``(c, h, w)`` and the token of ``(tokens, width)``.
            Tensors with less than two axes always have one range.
        clip: Fixed range (low, high), or None for the range of each example.
        entropy: Entropy-code the body where that makes it shorter.
        max_bytes: Refuse messages that decode to more.

    References:
        Gersho, Gray. "Vector quantization and signal compression". Springer 1992, chapter 5.
        doi:10.1007/978-1-4615-3626-0
    """

    number: ClassVar[int] = 3
    lossless: ClassVar[bool] = False

    bits: int = 8
    per: Literal["tensor", "channel"] = "tensor"
    clip: tuple[float, float] | None = None
    entropy: bool = False
    max_bytes: int = 2**28

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (*range(1, 9), 16):
            raise ValueError(f"bits={self.bits}: choose 1 to 8, or 16")
        if self.per not in ("tensor", "channel"):
            raise ValueError(f"per={self.per!r}: choose 'tensor' or 'channel'")
        if self.clip is None:
            return
        low, high = (float(end) for end in self.clip)
        object.__setattr__(self, "clip", (low, high))  # yaml has lists, no tuples
        if self.per == "channel":
            raise ValueError("a fixed clip leaves no range per channel: set per='tensor'")
        finest = 2**self.bits * 2.0**-23 * max(abs(low), abs(high))
        if not finest < high - low < torch.finfo(torch.float32).max:
            raise ValueError(
                f"clip={self.clip}: must be finite, low < high, with levels that float32 can hold"
            )

    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """The codes, packed without gaps, and 8 bytes per range unless it is fixed."""
        count = prod(shape)
        ranges = 0 if self.clip is not None or count == 0 else 8 * self._groups(shape)
        return ranges + packed_bytes(count, self.bits)

    def pack(self, values: Tensor) -> bytes:
        """Write the ranges, then the codes."""
        if values.numel() == 0:
            return b""
        grouped = self._grouped(values[None])
        grid = self._grid(grouped)
        codes = grid.codes(grouped).reshape(values.numel())
        ranges = b""
        if self.clip is None:
            ends = torch.stack([grid.low.flatten(), grid.high.flatten()], dim=1)
            ranges = ends.numpy().astype("<f4").tobytes()
        return ranges + pack(codes.numpy().astype(np.uint32), self.bits)

    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Read the ranges and look up the levels."""
        count = prod(shape)
        if count == 0:
            return torch.zeros(shape)
        groups = self._groups(shape)
        start = 0 if self.clip is not None else 8 * groups
        codes = torch.from_numpy(unpack(body[start:], count, self.bits).astype(np.float64))
        if self.clip is None:
            sent = np.frombuffer(body[:start], "<f4")
            if not np.isfinite(sent).all():  # before a cast, which warns of some kinds of NaN
                raise CodecError("a transmitted range is not finite")
            ends = torch.from_numpy(sent.astype(np.float64))
            low, high = ends.reshape(1, groups, 2, 1).unbind(2)
            if not bool((low <= high).all()):
                raise CodecError("a transmitted range is upside down")
            grid = Grid(low, high, 2**self.bits, ends=True)
        else:
            grid = self._fixed_grid(codes)
        return grid.values(codes.reshape(1, groups, count // groups)).reshape(shape)

    @torch.no_grad()
    def round_trip(self, values: Tensor) -> Tensor:
        """Round every value to its level."""
        if values.numel() == 0:
            return values
        grouped = self._grouped(values)
        grid = self._grid(grouped)
        return grid.values(grid.codes(grouped)).reshape(values.shape)

    @torch.no_grad()
    def cell(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Ends of the cell of each level, given the range that the decoded values show."""
        if decoded.numel() == 0:
            return decoded, decoded
        grouped = self._grouped(decoded)
        grid = self._grid(grouped)
        low, high = grid.cell(grid.codes(grouped))
        return low.reshape(decoded.shape), high.reshape(decoded.shape)

    def _groups(self, shape: tuple[int, ...]) -> int:
        return shape[0] if self.per == "channel" and len(shape) > 1 else 1

    def _grouped(self, batch: Tensor) -> Tensor:
        """Values that share a range along the last axis: ``(b, groups, size)``."""
        groups = self._groups(tuple(batch.shape[1:]))
        return batch.reshape(len(batch), groups, batch[0].numel() // groups)

    def _fixed_grid(self, like: Tensor) -> Grid:
        low, high = self.clip or (0.0, 0.0)
        ends = torch.tensor([low, high], dtype=torch.float64, device=like.device)
        return Grid(ends[0], ends[1], 2**self.bits, ends=False)

    def _grid(self, grouped: Tensor) -> Grid:
        if self.clip is not None:
            return self._fixed_grid(grouped)
        # Adding zero turns -0.0, which compares equal to 0.0, into the one zero there is.
        low = grouped.amin(-1, keepdim=True).double() + 0.0
        high = grouped.amax(-1, keepdim=True).double() + 0.0
        return Grid(low, high, 2**self.bits, ends=True)
