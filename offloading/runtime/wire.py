"""What travels between segments: a fixed header, then the message of a codec.

::

    magic "SBRT" | version u8 | kind u8 | segment u8 | 0 u8 | plan id 8 bytes
    request id 16 bytes | payload length u32 | CRC-32 of the payload u32 | CRC-32 of the above u32
    payload

All integers are little-endian. The payload of a request is a codec's message. That of a reply is
the length of a JSON document (u32), the document, which says what each server did and when, and the
logits, four bytes each (IEEE 754, little-endian). Nothing is allocated by what a header claims:
chunks are counted as they come, up to what the plan allows.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from offloading.runtime.errors import WireError
from splitbench.codecs.container import MAX_SIZE

MAGIC = b"SBRT"
VERSION = 2
CHUNK_BYTES = 2**20
MOST_NOTES_BYTES = 2**16  # of the JSON document in a reply
Kind = Literal["request", "reply"]
_KINDS: tuple[Kind, ...] = ("request", "reply")
_HEADER = struct.Struct("<4sBBBB8s16sII")
_NUMBER = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _NUMBER.size


@dataclass(frozen=True, kw_only=True)
class Header:
    """What comes before a payload.

    Attributes:
        kind: ``request`` or ``reply``.
        segment: Which segment is to compute, or has.
        plan: Its id, 16 hexadecimal digits.
        request: The caller's name for the request, 16 bytes, returned with the answer.
        length: Bytes of the payload.
        crc: CRC-32 of the payload: it finds accidents, not forgers.
    """

    kind: Kind
    segment: int
    plan: str
    request: bytes
    length: int
    crc: int


@dataclass(frozen=True)
class Reply:
    """What a segment answers.

    Attributes:
        logits: ``(1, classes)``.
        servers: What each server did and when, the nearest first; see `trace`.
        size: Bytes of the message that it came in; 0 where it has not travelled yet.
    """

    logits: Tensor
    servers: tuple[dict[str, Any], ...]
    size: int = 0


def message(kind: Kind, *, segment: int, plan: str, request: bytes, payload: bytes) -> bytes:
    """A header and its payload.

    Raises:
        ValueError: The payload is longer than a message can hold.
    """
    if len(payload) > MAX_SIZE:
        raise ValueError(f"{len(payload)} bytes: a message holds at most {MAX_SIZE}")
    start = _HEADER.pack(
        MAGIC,
        VERSION,
        _KINDS.index(kind),
        segment,
        0,
        bytes.fromhex(plan),
        request,
        len(payload),
        zlib.crc32(payload),
    )
    return b"".join([start, _NUMBER.pack(zlib.crc32(start)), payload])


def header(start: bytes) -> Header:
    """Read the first `HEADER_BYTES` of a message.

    Raises:
        WireError: They are too few, damaged, or of something else.
    """
    if len(start) < HEADER_BYTES:
        raise WireError(f"a message has at least {HEADER_BYTES} bytes, got {len(start)}")
    magic, version, kind, segment, zero, plan, request, length, crc = _HEADER.unpack(
        start[: _HEADER.size]
    )
    (check,) = _NUMBER.unpack(start[_HEADER.size : HEADER_BYTES])
    if magic != MAGIC:
        raise WireError(f"not a message: it starts with {magic!r} instead of {MAGIC!r}")
    if version != VERSION:
        raise WireError(f"the message has version {version}; this program reads {VERSION}")
    if zlib.crc32(start[: _HEADER.size]) != check:
        raise WireError("the checksum of the header does not match: it is damaged")
    if kind >= len(_KINDS) or zero:
        raise WireError(f"unknown kind {kind} or flags {zero:#04x}")
    return Header(
        kind=_KINDS[kind],
        segment=segment,
        plan=plan.hex(),
        request=request,
        length=length,
        crc=crc,
    )


def payload_of(found: Header, rest: bytes) -> bytes:
    """Check what follows a header.

    Raises:
        WireError: Another length or checksum.
    """
    if len(rest) != found.length:
        raise WireError(f"the header claims {found.length} bytes, {len(rest)} follow")
    if zlib.crc32(rest) != found.crc:
        raise WireError("the checksum does not match: the payload is damaged")
    return rest


def chunks(whole: bytes, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """A message in pieces; nothing is lost, and none is empty. One that fits is not copied."""
    if 0 < len(whole) <= size:
        return iter((whole,))
    view = memoryview(whole)
    return (bytes(view[start : start + size]) for start in range(0, len(view), size))


def gathered(pieces: Iterable[bytes], *, most: int) -> bytes:
    """Undo `chunks`, keeping no more than `most` bytes.

    Raises:
        WireError: An empty or an oversized piece.
        OverflowError: More than `most` bytes; what came so far is let go.
    """
    kept: bytes | bytearray = b""
    for piece in pieces:
        if not 0 < len(piece) <= CHUNK_BYTES:
            raise WireError(f"a chunk of {len(piece)} bytes: want 1 to {CHUNK_BYTES}")
        if len(kept) + len(piece) > most:
            raise OverflowError(f"more than {most} bytes, which no message of this plan has")
        if kept:
            kept = bytearray(kept) if isinstance(kept, bytes) else kept
            kept += piece
        else:
            kept = piece  # most messages are one piece, which need not be copied
    return bytes(kept)


def reply_payload(reply: Reply) -> bytes:
    """The payload of a reply.

    Raises:
        ValueError: The logits are not finite.
    """
    logits = reply.logits[0].numpy().astype("<f4", copy=False)
    if not np.isfinite(logits).all():
        raise ValueError("a logit is NaN or infinite")
    notes = json.dumps(reply.servers, allow_nan=False).encode()
    return b"".join([_NUMBER.pack(len(notes)), notes, logits.tobytes()])


def read_reply(payload: bytes, *, classes: int) -> Reply:
    """Undo `reply_payload`.

    Raises:
        WireError: It is something else, or its logits have another shape.
    """
    if len(payload) < _NUMBER.size:
        raise WireError("the reply is too short")
    (size,) = _NUMBER.unpack(payload[: _NUMBER.size])
    if size > min(MOST_NOTES_BYTES, len(payload) - _NUMBER.size):
        raise WireError(f"the reply claims notes of {size} bytes")
    end = _NUMBER.size + size
    try:
        servers = json.loads(payload[_NUMBER.size : end])
    except (ValueError, RecursionError) as error:
        raise WireError(f"the reply is damaged: {error}") from error
    if len(payload) - end != 4 * classes:
        raise WireError(f"the reply has {len(payload) - end} bytes of logits, want {4 * classes}")
    logits = np.frombuffer(payload, "<f4", offset=end).astype(np.float32)
    if not np.isfinite(logits).all():
        raise WireError("a logit of the reply is NaN or infinite")
    if not isinstance(servers, list) or not all(map(_is_plain, servers)):
        raise WireError("the reply does not say which servers answered")
    return Reply(torch.from_numpy(logits).unsqueeze(0), tuple(servers))


def _is_plain(server: object) -> bool:
    """Names and numbers, which whoever passes them on can write again."""
    return isinstance(server, dict) and all(
        isinstance(v, str | int | None) for v in server.values()
    )
