"""The image itself, uncompressed: the baseline of the cut "input"."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from splitbench.codecs.framed import FramedCodec
from splitbench.codecs.grid import Grid
from splitbench.release import TensorSpec


@dataclass(frozen=True, kw_only=True, repr=False)
class RawImage(FramedCodec):
    """One byte per pixel and channel; exact for images that come from 8-bit files.

    `transform` passes no gradient.

    Args:
        entropy: Entropy-code the body where that makes it shorter.
        max_bytes: Refuse messages that decode to more.

    References:
        None; the payload of sending the input.
    """

    number: ClassVar[int] = 5
    lossless: ClassVar[bool] = False

    entropy: bool = False
    max_bytes: int = 2**28

    def check(self, specs: Sequence[TensorSpec]) -> None:
        """Take one image; see `check_image`."""
        check_image(specs)

    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """One byte per value."""
        return prod(shape)

    def pack(self, values: Tensor) -> bytes:
        """Write the pixels."""
        check_range(values)
        return _grid(values).codes(values).numpy().astype(np.uint8).tobytes()

    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Read the pixels."""
        codes = torch.from_numpy(np.frombuffer(body, np.uint8).astype(np.float64))
        return _grid(codes).values(codes).reshape(shape)

    @torch.no_grad()
    def round_trip(self, values: Tensor) -> Tensor:
        """Round to multiples of 1/255."""
        check_range(values)
        return _grid(values).values(_grid(values).codes(values))

    @torch.no_grad()
    def cell(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """The values in [0, 1] that round to each pixel."""
        return _grid(decoded).cell(_grid(decoded).codes(decoded))


def check_image(specs: Sequence[TensorSpec]) -> None:
    """Raise ValueError unless the message is one float32 image of 1 or 3 channels."""
    shapes = [spec.shape for spec in specs]
    image = len(specs) == 1 and len(shapes[0]) == 3 and shapes[0][0] in (1, 3)
    if not image or 0 in shapes[0] or specs[0].dtype != "float32":
        raise ValueError(
            f"got tensors of shape {shapes}; an image codec carries one float image (c, h, w) with "
            "c of 1 or 3: use it at the cut 'input' only"
        )


def check_range(images: Tensor) -> None:
    """Raise ValueError unless all pixels are in [0, 1]."""
    if images.numel() == 0:
        return
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise ValueError(f"pixels of an image must be in [0, 1], got [{low:.3g}, {high:.3g}]")


def _grid(like: Tensor) -> Grid:
    ends = torch.tensor([0, 1], dtype=torch.float64, device=like.device)
    return Grid(ends[0], ends[1], 256, ends=True)
