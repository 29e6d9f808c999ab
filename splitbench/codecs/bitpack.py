"""Dense packing of small unsigned integers."""

import numpy as np
from numpy.typing import NDArray

from splitbench.codec import CodecError

_CHUNK = 2**16  # codes unpacked at a time: a multiple of 8, so that each chunk starts on a byte


def packed_bytes(count: int, width: int) -> int:
    """Length of `count` integers of `width` bits each, in whole bytes."""
    return (count * width + 7) // 8


def pack(codes: NDArray[np.integer], width: int) -> bytes:
    """Write integers one after another, `width` bits each, least significant bit first.

    Args:
        codes: One axis, values in [0, 2**width).
        width: Bits per value, 0 to 32.

    Returns:
        ``packed_bytes(len(codes), width)`` bytes; unused bits of the last one are zero.
    """
    if width in (8, 16, 32):
        return codes.astype(f"<u{width // 8}").tobytes()
    wide = codes.astype("<u4")[:, None].view(np.uint8)
    bits = np.unpackbits(wide, axis=1, count=width, bitorder="little")
    return np.packbits(bits, bitorder="little").tobytes()


def unpack(packed: bytes, count: int, width: int) -> NDArray[np.uint32]:
    """Undo `pack`.

    Raises:
        CodecError: Unused bits are set, so `pack` cannot have written this.
    """
    if width in (8, 16, 32):
        return np.frombuffer(packed, f"<u{width // 8}", count).astype(np.uint32)
    codes = np.empty(count, np.uint32)
    for start in range(0, count, _CHUNK):
        part = min(_CHUNK, count - start)
        first = start * width // 8
        bytes_ = np.frombuffer(packed[first : first + packed_bytes(part, width)], np.uint8)
        bits = np.unpackbits(bytes_, bitorder="little")
        if bits[part * width :].any():
            raise CodecError("unused bits of the last byte are set")
        wide = np.zeros((part, 32), np.uint8)
        wide[:, :width] = bits[: part * width].reshape(part, width)
        codes[start : start + part] = np.packbits(wide, bitorder="little").view("<u4")
    return codes
