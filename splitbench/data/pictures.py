"""Picture files of any size, made square."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from splitbench.data.source import DataDamagedError

LARGEST_BYTES = 16 << 30
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_pictures(paths: Sequence[Path], *, size: int, grayscale: bool) -> Tensor:
    """Read picture files, each scaled and centre cropped to a square.

    Args:
        paths: The files; any 8-bit format that Pillow reads.
        size: Side of the square in pixels, >= 1. The shorter side is scaled to it (bicubic).
        grayscale: One channel instead of three.

    Returns:
        uint8 ``(n, 1 or 3, size, size)``.

    Raises:
        DataDamagedError: A file is no readable 8-bit picture; the message names it.
        ValueError: `size` is below 1, or all pictures together need more than 16 GiB.
    """
    if size < 1:
        raise ValueError(f"size must be >= 1, got {size}")
    shape = (len(paths), 1 if grayscale else 3, size, size)
    if np.prod(shape, dtype=float) > LARGEST_BYTES:
        raise ValueError(f"{len(paths)} pictures of {size} x {size} do not fit: set a limit")
    pixels = torch.empty(shape, dtype=torch.uint8)
    for place, path in zip(pixels, paths, strict=True):
        place.copy_(_read(path, size, "L" if grayscale else "RGB"))
    return pixels


def _read(path: Path, size: int, mode: str) -> Tensor:
    try:
        with Image.open(path) as image:
            if image.mode not in _EIGHT_BIT:
                raise ValueError(f"mode {image.mode} is not 8 bit")
            upright = ImageOps.exif_transpose(image)
            # A palette may hold transparency, which only RGBA can take over.
            whole = upright.convert("RGBA") if upright.mode == "P" else upright
            square = ImageOps.fit(
                whole.convert(mode), (size, size), method=Image.Resampling.BICUBIC
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataDamagedError(f"{path} is no readable picture: {error}") from error
    array = np.asarray(square).reshape(size, size, -1)
    return torch.from_numpy(array.copy()).permute(2, 0, 1)
