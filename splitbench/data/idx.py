"""The IDX format of MNIST: big-endian arrays of bytes behind a short header."""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from splitbench.data.downloaded import find
from splitbench.data.images import LabeledImages
from splitbench.data.source import DataDamagedError, DataUnavailableError

LARGEST_BYTES = 1 << 30
_UNSIGNED_BYTES = 0x08


def read_idx(path: Path) -> Tensor:
    """Read an IDX file of unsigned bytes, plain or gzipped.

    Returns:
        uint8 tensor of the shape that the header states.

    Raises:
        DataDamagedError: The file is not such a file, or not of the length that its header states.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(cast("BinaryIO", file))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataDamagedError(f"{path} is not a whole IDX file ({error})") from error


def _read(file: BinaryIO) -> Tensor:
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != bytes((0, 0, _UNSIGNED_BYTES)):
        raise ValueError(f"starts with {magic.hex() or 'nothing'}")
    header = file.read(4 * magic[3])
    shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4"))
    size = math.prod(shape)
    if len(shape) != magic[3] or not 0 < size <= LARGEST_BYTES:
        raise ValueError(f"header states the shape {shape}")
    body = file.read(size + 1)
    if len(body) != size:
        raise ValueError(
            f"header states {size} bytes, found {'more' if len(body) > size else len(body)}"
        )
    return torch.frombuffer(bytearray(body), dtype=torch.uint8).reshape(shape)


def read_idx_part(folder: Path, part: str, *, classes: tuple[str, ...]) -> LabeledImages:
    """Read images and labels of one part of an MNIST-like set.

    Args:
        folder: Holds ``{part}-images-idx3-ubyte`` and ``{part}-labels-idx1-ubyte``, or gzipped.
        part: ``train`` or ``t10k``.
        classes: Names of the classes.

    Raises:
        DataUnavailableError: A file is missing.
        DataDamagedError: The files are not as they should be.
    """
    paths = [find(folder, name) for name in (images_name(part), labels_name(part))]
    if paths[0] is None or paths[1] is None:
        raise DataUnavailableError(f"{folder} lacks images or labels of {part}")
    pixels, labels = read_idx(paths[0]), read_idx(paths[1]).long()
    if pixels.ndim != 3 or labels.shape != pixels.shape[:1] or labels.max() >= len(classes):
        raise DataDamagedError(
            f"{paths[0]} and {paths[1]} do not fit: images {tuple(pixels.shape)}, labels "
            f"{tuple(labels.shape)} up to {int(labels.max())}, {len(classes)} classes"
        )
    return LabeledImages(pixels[:, None], labels, classes)


def images_name(part: str) -> str:
    """File name of the images of a part, without ``.gz``."""
    return f"{part}-images-idx3-ubyte"


def labels_name(part: str) -> str:
    """File name of the labels of a part, without ``.gz``."""
    return f"{part}-labels-idx1-ubyte"
