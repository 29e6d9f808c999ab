"""The message format: what surrounds the numbers of one example.

::

    magic "SBNM" | version u8 | codec u8 | flags u8 | tensors u8
    per tensor:  dtype u8 | axes u8 | size u32 per axis
    body length u32 (before entropy coding)
    body, entropy-coded if flag bit 0 is set
    CRC-32 u32

All integers are little-endian. The CRC covers everything before it and starts from a *seal*, a
number that both sides derive from the codec's parameters: a message is refused by a codec with
other parameters although these are not transmitted. It finds accidents, not forgers: every claim
is checked again after it.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import zstandard

from splitbench.codec import CodecError
from splitbench.release import TensorSpec

MAGIC = b"SBNM"
VERSION = 1
_ITEM_BYTES = {
    "float32": 4,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "bool": 1,
}
DTYPES = tuple(_ITEM_BYTES)  # the header holds the position in this tuple
MAX_TENSORS = 255
MAX_AXES = 8
MAX_SIZE = 2**32 - 1
CODED = 1
MAX_EXPANSION = 2**17 // 4  # of zstandard: a block of one repeated byte

_START = struct.Struct("<4sBBBB")
_TENSOR = struct.Struct("<BB")
_NUMBER = struct.Struct("<I")


class Frame(NamedTuple):
    """A message taken apart, nothing of it decoded yet.

    Attributes:
        specs: What the header says about the tensors; sizes are claims that nobody has checked.
        length: Bytes of the body before entropy coding, a claim where `coded`.
        coded: The body is entropy-coded.
        stored: The body as transmitted, a view into the message.
    """

    specs: tuple[TensorSpec, ...]
    length: int
    coded: bool
    stored: memoryview


def overhead(specs: Sequence[TensorSpec]) -> int:
    """Bytes of a message that are not body."""
    axes = sum(len(spec.shape) for spec in specs)
    fixed = _START.size + 2 * _NUMBER.size
    return fixed + _TENSOR.size * len(specs) + _NUMBER.size * axes


def claimed_bytes(specs: Sequence[TensorSpec]) -> int:
    """Bytes of the decoded tensors, in exact integers; an axis of size 0 counts as 1.

    The latter keeps strides small too, which a tensor of size ``(2**32, 0, 2**32)`` would not.

    Raises:
        ValueError: More tensors or axes, or larger ones, than a message can hold.
    """
    if len(specs) > MAX_TENSORS:
        raise ValueError(f"{len(specs)} tensors: a message holds at most {MAX_TENSORS}")
    for spec in specs:
        if len(spec.shape) > MAX_AXES or max(spec.shape, default=0) > MAX_SIZE:
            raise ValueError(
                f"tensor {spec.name} has shape {spec.shape}: a message holds at most "
                f"{MAX_AXES} axes of at most {MAX_SIZE} values"
            )
    return sum(
        _ITEM_BYTES[spec.dtype] * math.prod(max(size, 1) for size in spec.shape) for spec in specs
    )


def write(specs: Sequence[TensorSpec], body: bytes, *, codec: int, seal: int, coded: bool) -> bytes:
    """Make a message.

    Args:
        specs: Shape and dtype of each tensor, accepted by `claimed_bytes`; names do not travel.
        body: The encoded numbers of all tensors.
        codec: Number of the codec, 0 to 255.
        seal: Number derived from the codec's parameters.
        coded: Try entropy coding; kept only where it makes the body shorter.
    """
    packed = zstandard.ZstdCompressor(level=3).compress(body) if coded else body
    smaller = len(packed) < len(body)
    parts = [_START.pack(MAGIC, VERSION, codec, CODED if smaller else 0, len(specs))]
    for spec in specs:
        parts.append(_TENSOR.pack(DTYPES.index(spec.dtype), len(spec.shape)))
        parts.extend(_NUMBER.pack(size) for size in spec.shape)
    parts += [_NUMBER.pack(len(body)), packed if smaller else body]
    message = b"".join(parts)
    return message + _NUMBER.pack(zlib.crc32(message, seal))


def read(payload: bytes, *, codec: int, seal: int) -> Frame:
    """Take a message apart without allocating anything that it claims.

    Raises:
        CodecError: Not a message of this codec with these parameters, damaged, or malformed.
    """
    cursor = _Cursor(memoryview(payload))
    magic, version, number, flags, count = cursor.take(_START)
    if magic != MAGIC:
        raise CodecError(f"not a message: it starts with {magic!r} instead of {MAGIC!r}")
    if version != VERSION:
        raise CodecError(f"the message has version {version}; this program reads {VERSION}")
    if number != codec:
        raise CodecError(f"the message is of codec {number}, this is codec {codec}")
    if flags not in (0, CODED):
        raise CodecError(f"unknown flags {flags:#04x}")
    _check_sum(payload, seal)
    specs = tuple(_tensor(cursor, str(i)) for i in range(count))
    (length,) = cursor.take(_NUMBER)
    stored = cursor.rest()[: -_NUMBER.size]
    # An encoder codes only what gets shorter; a block of 4 bytes or more yields 128 KiB at most.
    if flags == CODED and not len(stored) < length <= MAX_EXPANSION * len(stored):
        raise CodecError(f"{len(stored)} bytes cannot be the coded form of {length} bytes")
    if flags != CODED and len(stored) != length:
        raise CodecError(f"the header claims a body of {length} bytes, {len(stored)} follow")
    return Frame(specs, length, flags == CODED, stored)


def body(frame: Frame) -> bytes:
    """Undo the entropy coding; call it once `frame.length` is known to be what it should be.

    Raises:
        CodecError: The coded body is damaged or decodes to another length than claimed.
    """
    if not frame.coded:
        return bytes(frame.stored)
    try:
        # The decoder trusts the size in its own header over any limit: compare them first.
        size = zstandard.frame_content_size(frame.stored)
        if size != frame.length:
            raise CodecError(f"the coded body holds {size} bytes, the header claims {frame.length}")
        return zstandard.ZstdDecompressor().decompress(
            frame.stored, max_output_size=frame.length, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise CodecError(f"the coded body is damaged: {error}") from error


def delimiters(count: int) -> int:
    """Bytes that `delimited` adds to so many bodies."""
    return _NUMBER.size * max(count - 1, 0)


def delimited(bodies: Sequence[bytes]) -> bytes:
    """Bodies one after the other, the length of each but the last one before it."""
    parts = [part for body in bodies[:-1] for part in (_NUMBER.pack(len(body)), body)]
    return b"".join([*parts, *bodies[-1:]])


def parted(body: bytes, count: int) -> list[bytes]:
    """Undo `delimited`.

    Raises:
        CodecError: The body ends before its parts do, or holds more than none.
    """
    if count == 0 and body:
        raise CodecError(f"{len(body)} bytes for no tensor")
    bodies = []
    for i in range(count - 1):
        size = _NUMBER.unpack(body[: _NUMBER.size])[0] if len(body) >= _NUMBER.size else None
        if size is None or size > len(body) - _NUMBER.size:
            raise CodecError(f"the body ends inside tensor {i}")
        bodies.append(body[_NUMBER.size : _NUMBER.size + size])
        body = body[_NUMBER.size + size :]
    return [*bodies, body] if count else []


class _Cursor:
    """Reads a buffer from front to back; running out of bytes is a `CodecError`."""

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.position = 0

    def take(self, layout: struct.Struct) -> tuple[Any, ...]:
        end = self.position + layout.size
        # The last bytes are the checksum, never part of the header.
        if end > len(self.buffer) - _NUMBER.size:
            raise CodecError(f"the message ends after {len(self.buffer)} bytes, inside its header")
        start, self.position = self.position, end
        return layout.unpack(self.buffer[start:end])

    def rest(self) -> memoryview:
        return self.buffer[self.position :]


def _tensor(cursor: _Cursor, name: str) -> TensorSpec:
    dtype, axes = cursor.take(_TENSOR)
    if dtype >= len(DTYPES):
        raise CodecError(f"tensor {name} has the unknown dtype number {dtype}")
    if axes > MAX_AXES:
        raise CodecError(f"tensor {name} has {axes} axes; at most {MAX_AXES} are allowed")
    return TensorSpec(name, cursor.take(struct.Struct(f"<{axes}I")), DTYPES[dtype])


def _check_sum(payload: bytes, seal: int) -> None:
    view = memoryview(payload)
    (expected,) = _NUMBER.unpack(view[-_NUMBER.size :])
    if zlib.crc32(view[: -_NUMBER.size], seal) != expected:
        raise CodecError(
            "the checksum does not match: the message is damaged, or its sender used a codec "
            "with other parameters"
        )
