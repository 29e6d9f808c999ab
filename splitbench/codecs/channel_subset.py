"""Only some of the channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, prod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from splitbench.codec import CodecError
from splitbench.codecs.bitpack import pack, packed_bytes, unpack
from splitbench.codecs.exact import from_bytes, to_bytes
from splitbench.codecs.framed import FramedCodec
from splitbench.release import Tensors, TensorSpec


@dataclass(frozen=True, kw_only=True, repr=False)
class ChannelSubset(FramedCodec):
    """Sends a fixed number of the channels of each tensor; the others arrive as zero.

    Kept are the channels with the largest peak magnitude, of equal ones the first. Whoever sets
    channels to zero beforehand thus decides which are sent, and nothing else is lost. A channel is
    an entry of axis 0 of ``(c, h, w)`` and of the last axis of ``(tokens, width)`` and of vectors.
    Which channels are sent is part of the message, one bit for each, and is decoded beside the
    tensors as ones and zeros. Gradients pass through `transform` for kept channels.

    Args:
        dropped: Share of the channels not to send, in [0, 1): ``floor(dropped * channels)``,
            computed with the decimal number as written.
        entropy: Entropy-code the body where that makes it shorter.
        max_bytes: Refuse messages that decode to more.

    References:
        None.
    """

    number: ClassVar[int] = 20
    lossless: ClassVar[bool] = False

    dropped: float = 0.5
    entropy: bool = False
    max_bytes: int = 2**28

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropped < 1:
            raise ValueError(f"dropped={self.dropped}: must be in [0, 1)")

    def kept(self, channels: int) -> int:
        """How many of so many channels are sent."""
        return channels - floor(Fraction(str(self.dropped)) * channels)

    def beside(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """For each tensor of floats, one value per channel: 1 where it is sent, else 0."""
        return tuple(
            TensorSpec(f"channels of {spec.name}", (_channels(spec.shape),))
            for spec in specs
            if getattr(torch, spec.dtype).is_floating_point
        )

    def decode(self, payload: bytes) -> Tensors:
        """Decode one message; see `Codec.decode`."""
        tensors = super().decode(payload)
        return (*tensors, *(t[0] for t in self._masks(tuple(t[None] for t in tensors))))

    def transform(self, tensors: Tensors) -> Tensors:
        """Drop channels as a message would; see `Codec.transform`."""
        sent = super().transform(tensors)
        return (*sent, *self._masks(sent))

    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """One bit per channel, rounded up to whole bytes, then 4 bytes for each kept value."""
        channels = _channels(shape)
        size = prod(shape) // channels if channels else 0
        return packed_bytes(channels, 1) + 4 * size * self.kept(channels)

    def pack(self, values: Tensor) -> bytes:
        """Write which channels are kept, then their values, channel after channel."""
        mask = self._mask(values[None])[0]
        return pack(mask.numpy(), 1) + to_bytes(_by_channel(values[None])[0][mask].contiguous())

    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Put the kept channels back in place."""
        channels = _channels(shape)
        start = packed_bytes(channels, 1)
        mask = torch.from_numpy(unpack(body[:start], channels, 1).astype(np.bool_))
        kept = int(mask.sum())
        if kept != self.kept(channels):
            raise CodecError(f"{kept} channels are sent, not {self.kept(channels)}")
        size = prod(shape) // channels if channels else 0
        rows = torch.zeros(channels, size)
        rows[mask] = from_bytes(body[start:], TensorSpec("", (kept, size)))
        return _from_channels(rows[None], (1, *shape))[0]

    def round_trip(self, values: Tensor) -> Tensor:
        """Set all but the kept channels to zero."""
        return torch.where(_spread(self._mask(values), values), values, 0.0)

    @torch.no_grad()
    def cell(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Sent channels as they are; of one that is all zero nothing is known."""
        silent = _spread(_peaks(decoded) == 0, decoded)
        low = torch.where(silent, -torch.inf, decoded)
        return low, torch.where(silent, torch.inf, decoded)

    def _masks(self, batch: Tensors) -> Tensors:
        # Decoded tensors say which channels were sent: those that are not zero, then the first.
        return tuple(self._mask(t).float() for t in batch if t.is_floating_point())

    @torch.no_grad()
    def _mask(self, batch: Tensor) -> Tensor:
        """True for kept channels, ``(b, channels)``; of each example by itself."""
        peaks = _peaks(batch)
        order = peaks.sort(dim=1, descending=True, stable=True).indices
        mask = torch.zeros_like(peaks, dtype=torch.bool)
        return mask.scatter_(1, order[:, : self.kept(peaks.shape[1])], True)


def _channels(shape: tuple[int, ...]) -> int:
    """Of one example: the first axis of an image, the last of tokens and of a vector."""
    if not shape:
        return 1
    return shape[0] if len(shape) == 3 else shape[-1]


def _by_channel(batch: Tensor) -> Tensor:
    """``(b, channels, values of each)``."""
    channels = _channels(tuple(batch.shape[1:]))
    size = prod(batch.shape[1:]) // channels if channels else 0
    if batch.ndim == 4:
        return batch.reshape(len(batch), channels, size)
    return batch.reshape(len(batch), size, channels).transpose(1, 2)


def _from_channels(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo `_by_channel`, for a batch of this shape."""
    return (rows if len(shape) == 4 else rows.transpose(1, 2)).reshape(shape)


def _peaks(batch: Tensor) -> Tensor:
    """Largest magnitude in each channel, ``(b, channels)``."""
    rows = _by_channel(batch).abs()
    return rows.amax(2) if rows.shape[2] else rows.sum(2)


def _spread(of_channels: Tensor, batch: Tensor) -> Tensor:
    """What is known of each channel, for each of its values."""
    rows = of_channels[:, :, None].expand_as(_by_channel(batch))
    return _from_channels(rows, tuple(batch.shape))
