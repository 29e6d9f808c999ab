"""The image itself, as a photograph is sent: the baseline of the cut "input"."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splitbench.codec import CodecError
from splitbench.codecs.framed import FramedCodec
from splitbench.codecs.raw_image import check_image, check_range
from splitbench.release import TensorSpec

# Segments of a baseline JPEG file as `encode` writes it: JFIF header, quantisation tables, frame,
# Huffman tables, scan. Everything else (progressive scans, EXIF, embedded files) is refused.
_JFIF, _TABLES, _FRAME, _HUFFMAN, _SCAN = 0xE0, 0xDB, 0xC0, 0xC4, 0xDA
_START, _END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True, kw_only=True, repr=False)
class Jpeg(FramedCodec):
    """A baseline JPEG file in a message: the file's own bytes plus the header of every message.

    Lossy, without a box around each value: `interval` is None and `distance` is the squared
    error. `transform` works image by image on the CPU and passes no gradient. The payload depends
    on the content; `payload_bound` is a worst case that no photograph comes near.

    Args:
        quality: Quality as libjpeg defines it, 1 to 100; colour is subsampled 4:2:0, its default.
        max_bytes: Refuse messages that decode to more.

    References:
        ITU-T T.81 (1992); ITU-T T.871 (2011).
    """

    number: ClassVar[int] = 6
    lossless: ClassVar[bool] = False
    constant_length: ClassVar[bool] = False

    quality: int = 75
    max_bytes: int = 2**28

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality}: choose 1 to 100")

    def check(self, specs: Sequence[TensorSpec]) -> None:
        """Take one image of at most 65500 pixels a side, the limit of libjpeg."""
        check_image(specs)
        if max(specs[0].shape) > 65500:
            raise ValueError(f"an image of shape {specs[0].shape} exceeds 65500 pixels a side")

    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """Longest file: tables, and blocks of the longest codes, each byte of them escaped.

        A block of 64 coefficients takes at most 22 + 63 * 26 bits with the standard tables.
        """
        channels, height, width = shape
        side = 8 if channels == 1 else 16
        blocks = -(-height // side) * -(-width // side) * (1 if channels == 1 else 6)
        return 1024 + 2 * (-(-blocks * (22 + 63 * 26) // 8))

    def pack(self, values: Tensor) -> bytes:
        """Compress one image."""
        check_range(values)
        pixels = values.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        file = BytesIO()
        image.save(file, "JPEG", quality=self.quality)
        return file.getvalue()

    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Decompress one image, whose size is compared with the header's before any pixel."""
        _check_file(body, shape)
        try:
            with Image.open(BytesIO(body), formats=("JPEG",)) as image:
                pixels = np.array(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise CodecError(f"the JPEG file is damaged: {error}") from error
        stacked = torch.from_numpy(pixels).reshape(shape[1], shape[2], shape[0])
        return stacked.permute(2, 0, 1).contiguous().float().div(255)

    def round_trip(self, values: Tensor) -> Tensor:
        """Compress and decompress each image."""
        shape = tuple(values.shape[1:])
        files = (self.pack(image) for image in values.detach().cpu())
        images = [self.unpack(file, shape) for file in files]
        return torch.stack(images).to(values.device) if images else values


def _check_file(body: bytes, shape: tuple[int, ...]) -> None:
    """Walk through the segments of a file; raise CodecError for all that `encode` never writes."""
    if not body.startswith(_START):
        raise CodecError("the JPEG file does not start as one")
    position, kind = 2, 0
    size: tuple[int, ...] = ()
    while kind != _SCAN:
        marker = body[position : position + 4]
        if len(marker) < 4 or marker[0] != 0xFF:
            raise CodecError("the JPEG file breaks off between two segments")
        kind, length = struct.unpack(">xBH", marker)
        segment = body[position + 4 : position + 2 + length]
        if kind not in (_JFIF, _TABLES, _FRAME, _HUFFMAN, _SCAN) or length < 2:
            raise CodecError(f"the JPEG file holds a segment {kind:#04x} that is not expected")
        if kind == _FRAME:
            if size or len(segment) < 6:
                raise CodecError("the JPEG file has more than one frame, or a damaged one")
            depth, height, width, channels = struct.unpack(">BHHB", segment[:6])
            size = (channels, height, width)
            if size != shape or depth != 8:
                raise CodecError(f"the JPEG file is of size {size}, the header claims {shape}")
        position += 2 + length
    if not size or body.find(_END, position) != len(body) - 2:
        raise CodecError("the JPEG file has no frame, or does not end where the message does")
