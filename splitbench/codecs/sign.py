"""One bit per value: on which side of a centre it lies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from splitbench.codec import CodecError
from splitbench.codecs.bitpack import pack, packed_bytes, unpack
from splitbench.codecs.framed import FramedCodec
from splitbench.release import TensorSpec, channel_axis, channels_of

_MOST = torch.finfo(torch.float32).max
_FINEST = 2**32  # units in the largest distance: magnitudes are added up in whole numbers


@dataclass(frozen=True, kw_only=True, repr=False)
class Sign(FramedCodec):
    """Sends ``sign(x - centre)``; it arrives as ``centre +- scale``.

    The centre is 0 unless the codec is fitted (`learnt` holds the centres and the scales of each
    tensor, one pair or one for each channel). The scale is the mean magnitude of ``x - centre``,
    which has the least squared error among all: that of each message, sent along as float32 and
    counted, or the one that was learnt, of which nothing is sent. A value at the centre counts as
    above it. `transform` passes no gradient.

    Args:
        per: One centre and scale for each ``tensor``, or for each ``channel`` (axis 0 of images,
            the last one of tokens and vectors). A vector has one scale if that is sent, for
            otherwise it would be sent for each value.
        scale: Of each ``message``, or ``fixed``: learnt, 1 in a codec that is not fitted.
        entropy: Entropy-code the body where that makes it shorter.
        max_bytes: Refuse messages that decode to more.

    References:
        Rastegari, Ordonez, Redmon, Farhadi. "XNOR-Net: ImageNet classification using binary
        convolutional neural networks". ECCV 2016. arXiv:1603.05279
    """

    number: ClassVar[int] = 7
    lossless: ClassVar[bool] = False

    per: Literal["tensor", "channel"] = "tensor"
    scale: Literal["message", "fixed"] = "message"
    entropy: bool = False
    max_bytes: int = 2**28
    learnt: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per not in ("tensor", "channel"):
            raise ValueError(f"per={self.per!r}: choose 'tensor' or 'channel'")
        if self.scale not in ("message", "fixed"):
            raise ValueError(f"scale={self.scale!r}: choose 'message' or 'fixed'")

    def check(self, specs: Sequence[TensorSpec]) -> None:
        """Refuse tensors with other channels than those that the codec was fitted to."""
        for spec, (centres, _) in zip(specs, self.learnt, strict=False):
            if len(centres) not in (1, channels_of(spec.shape)):
                raise ValueError(
                    f"tensor {spec.name} has shape {spec.shape}: fitted to {len(centres)} channels"
                )

    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """One bit per value, and four bytes for each scale that is sent."""
        count = prod(shape)
        scales = self._scales(shape) if self.scale == "message" and count else 0
        return 4 * scales + packed_bytes(count, 1)

    def pack(self, values: Tensor) -> bytes:
        """Write the scales, then the signs in memory order."""
        if values.numel() == 0:
            return b""
        batch = values[None]
        above = (batch >= self._centre(batch)).reshape(values.numel())
        scales = b""
        if self.scale == "message":
            scales = self._measured(batch).reshape(-1).numpy().astype("<f4").tobytes()
        return scales + pack(above.numpy(), 1)

    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Read the scales and look up the two levels."""
        count = prod(shape)
        if count == 0:
            return torch.zeros(shape)
        start = len(body) - packed_bytes(count, 1)
        above = torch.from_numpy(unpack(body[start:], count, 1).astype(np.bool_))
        above = above.reshape(1, *shape)
        scale = self._known(above)
        if self.scale == "message":
            sent = torch.from_numpy(np.frombuffer(body[:start], "<f4").astype(np.float32))
            if not bool((torch.isfinite(sent) & (sent >= 0)).all()):
                raise CodecError("a transmitted scale is negative or not finite")
            scale = sent.reshape(self._spread(above, len(sent)))
        return self._levels(above, scale)[0]

    @torch.no_grad()
    def round_trip(self, values: Tensor) -> Tensor:
        """Replace every value by its level."""
        if values.numel() == 0:
            return values
        scale = self._measured(values) if self.scale == "message" else self._known(values)
        return self._levels(values >= self._centre(values), scale)

    @torch.no_grad()
    def cell(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """All values on the same side of the centre."""
        centre = self._centre(decoded)
        above = decoded >= centre
        infinite = torch.full_like(decoded, torch.inf)
        low = torch.where(above, centre, -infinite)
        return low, torch.where(above, infinite, _below(centre))

    def _levels(self, above: Tensor, scale: Tensor) -> Tensor:
        centre = self._centre(above)
        low = (centre.double() - scale.double()).clamp(min=-_MOST).float()
        high = (centre.double() + scale.double()).clamp(max=_MOST).float()
        # Lower by at least one bit: the sign can be read off the decoded value.
        return torch.where(above, high, torch.minimum(low, _below(centre)))

    def _measured(self, values: Tensor) -> Tensor:
        """Mean magnitude around the centre; the same bits in every order of adding up."""
        axes = list(range(1, values.ndim))
        if self._scales(tuple(values.shape[1:])) > 1:
            axes.remove(channel_axis(values))
        distance = (values.double() - self._centre(values).double()).abs()
        most = distance.amax(axes, keepdim=True) if axes else distance
        unit = torch.where(most > 0, most, 1.0) / _FINEST
        total = (distance / unit).round().long()
        total = total.sum(axes, keepdim=True) if axes else total
        count = values[0].numel() // total[0].numel()
        return (total.double() / count * unit).clamp(max=_MOST).float()

    def _centre(self, like: Tensor) -> Tensor:
        return self._constant(like, self.learnt[0][0] if self.learnt else (0.0,))

    def _known(self, like: Tensor) -> Tensor:
        return self._constant(like, self.learnt[0][1] if self.learnt else (1.0,))

    def _constant(self, like: Tensor, numbers: tuple[float, ...]) -> Tensor:
        values = torch.tensor(numbers, dtype=torch.float32, device=like.device)
        return values.reshape(self._spread(like, len(numbers)))

    def _scales(self, shape: tuple[int, ...]) -> int:
        """How many scales a message has for a tensor."""
        return channels_of(shape) if self.per == "channel" and len(shape) > 1 else 1

    @staticmethod
    def _spread(like: Tensor, count: int) -> list[int]:
        """Shape in which one number, or one for each channel, broadcasts with a batch."""
        shape = [1] * like.ndim
        if count > 1:
            shape[channel_axis(like)] = count
        return shape


def _below(centre: Tensor) -> Tensor:
    return torch.nextafter(centre, torch.full_like(centre, -torch.inf))
