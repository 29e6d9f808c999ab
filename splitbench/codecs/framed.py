"""What all codecs of this package share: one message format, one set of checks."""

import copy
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from splitbench.codec import Codec, CodecError
from splitbench.codecs import container
from splitbench.codecs.exact import exact_bytes, from_bytes, to_bytes
from splitbench.release import Tensors, TensorSpec

F = TypeVar("F", bound="FramedCodec")


class FramedCodec(Codec):
    """Puts the body that a subclass makes of each tensor into one message.

    A subclass says what happens to a float32 tensor. Half-precision tensors are widened first
    (exactly) and arrive as float32; integers and booleans, which are indices and masks, travel
    unchanged, booleans as one bit. Float64 tensors, NaN and infinite values are refused.

    Class attributes:
        number: Names the codec in the header; 128 to 255 are free for codecs from elsewhere.
        constant_length: `body_bytes` is the length of every body, not only its bound. Where it is
            not, four bytes before the body of every tensor but the last say how long it is.

    Attributes:
        entropy: Entropy-code the body (zstandard, level 3) where that makes it shorter. The
            payload then depends on the content, which is a side channel of its own.
        learnt: What a defense has found out about each tensor and both sides know, as plain
            numbers; nothing for a codec that is not `fitted`. It is fitted state, no argument.
        max_bytes: Refuse messages with more bytes of decoded tensors, or of body; 1 to 2**32 - 1.
            Decoding may need about ten times as much for a moment.
    """

    number: ClassVar[int]
    constant_length: ClassVar[bool] = True
    entropy: bool = False
    learnt: tuple[Any, ...] = ()
    max_bytes: int = 2**28

    def __post_init__(self) -> None:
        if not 0 < self.max_bytes <= container.MAX_SIZE:
            raise ValueError(f"max_bytes={self.max_bytes}: choose 1 to {container.MAX_SIZE}")

    @abstractmethod
    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of the body of one float32 tensor."""

    @abstractmethod
    def pack(self, values: Tensor) -> bytes:
        """Make the body of one float32 tensor on the CPU, without a batch axis."""

    @abstractmethod
    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Undo `pack`; a body that `pack` cannot have made raises CodecError."""

    @abstractmethod
    def round_trip(self, values: Tensor) -> Tensor:
        """What ``unpack(pack(.))`` does to each example of a float32 batch, bit for bit."""

    def cell(self, decoded: Tensor) -> tuple[Tensor, Tensor] | None:
        """Ends of what `round_trip` turns into `decoded`, a batch; see `Codec.interval`."""
        del decoded
        return None

    def check(self, specs: Sequence[TensorSpec]) -> None:
        """Raise ValueError for tensors that this codec cannot carry; the default takes all."""
        del specs

    def fitted(self: F, learnt: Sequence[Any]) -> F:
        """The same codec with something learnt about each tensor."""
        codec = copy.copy(self)
        object.__setattr__(codec, "learnt", tuple(learnt))
        return codec

    def at_most(self: F, max_bytes: int) -> F:
        """The same codec with another `max_bytes`, for who knows which tensors will come."""
        codec = copy.copy(self)
        object.__setattr__(codec, "max_bytes", max_bytes)
        return codec

    def part(self: F, index: int) -> F:
        """The codec of the tensor at this place, which knows what was learnt about that one."""
        return self.fitted(self.learnt[index : index + 1]) if self.learnt else self

    def encode(self, tensors: Sequence[Tensor]) -> bytes:
        """Encode the tensors of one example; see `Codec.encode`."""
        specs = tuple(_spec(str(i), tuple(t.shape), t.dtype) for i, t in enumerate(tensors))
        self._admit(specs)
        values = [_checked(s.name, t.detach().cpu()) for s, t in zip(specs, tensors, strict=True)]
        bodies = [
            self.part(i).pack(t) if t.is_floating_point() else to_bytes(t)
            for i, t in enumerate(values)
        ]
        body = b"".join(bodies) if self.constant_length else container.delimited(bodies)
        return container.write(
            specs, body, codec=self.number, seal=self._seal(), coded=self.entropy
        )

    def decode(self, payload: bytes) -> Tensors:
        """Decode one message; see `Codec.decode`."""
        frame = container.read(payload, codec=self.number, seal=self._seal())
        try:
            allowed = self._admit(frame.specs)
        except ValueError as error:
            raise CodecError(f"the header claims what is refused: {error}") from error
        if frame.length > allowed or (self.constant_length and frame.length < allowed):
            raise CodecError(
                f"the header claims a body of {frame.length} bytes; its tensors take {allowed}"
            )
        bodies = self._bodies(container.body(frame), frame.specs)
        return tuple(
            self._decoded(i, spec, body)
            for i, (spec, body) in enumerate(zip(frame.specs, bodies, strict=True))
        )

    def transform(self, tensors: Tensors) -> Tensors:
        """Round each example as a message would; see `Codec.transform`."""
        specs = tuple(_spec(str(i), tuple(t.shape[1:]), t.dtype) for i, t in enumerate(tensors))
        self._admit(specs)
        values = [_checked(s.name, t) for s, t in zip(specs, tensors, strict=True)]
        return tuple(
            self.part(i).round_trip(t) if t.is_floating_point() else t for i, t in enumerate(values)
        )

    def payload_bound(self, specs: Sequence[TensorSpec]) -> int:
        """Bytes of the message without entropy coding; see `Codec.payload_bound`."""
        carried = tuple(_spec(s.name, s.shape, getattr(torch, s.dtype)) for s in specs)
        return container.overhead(carried) + self._admit(carried)

    def interval(self, decoded: Tensors) -> tuple[Tensors, Tensors] | None:
        """Cells of a batch; see `Codec.interval`."""
        cells = [
            self.part(i).cell(t) if t.is_floating_point() else (t, t) for i, t in enumerate(decoded)
        ]
        known = [cell for cell in cells if cell is not None]
        if len(known) < len(cells):
            return None
        return tuple(low for low, _ in known), tuple(high for _, high in known)

    def _body_bytes(self, spec: TensorSpec) -> int:
        return self.body_bytes(spec.shape) if spec.dtype == "float32" else exact_bytes(spec)

    def _admit(self, specs: Sequence[TensorSpec]) -> int:
        """Bytes of the body, once the tensors have been found acceptable."""
        if self.learnt and len(self.learnt) != len(specs):
            raise ValueError(f"{len(specs)} tensors: this codec was fitted to {len(self.learnt)}")
        claimed = container.claimed_bytes(specs)
        if claimed > self.max_bytes:
            raise ValueError(f"{claimed} bytes of tensors exceed max_bytes={self.max_bytes}")
        self.check(specs)
        size = sum(self._body_bytes(spec) for spec in specs)
        if not self.constant_length:
            size += container.delimiters(len(specs))
        if size > self.max_bytes:
            raise ValueError(f"a body of {size} bytes exceeds max_bytes={self.max_bytes}")
        return size

    def _seal(self) -> int:
        """Both sides must agree on every parameter that changes what a body means."""
        free = ("entropy", "max_bytes")
        meaning = {name: value for name, value in self.arguments().items() if name not in free}
        return zlib.crc32(repr((meaning, self.learnt) if self.learnt else meaning).encode())

    def _bodies(self, body: bytes, specs: Sequence[TensorSpec]) -> list[bytes]:
        """The body of each tensor, of the length that it should have."""
        if self.constant_length:
            ends = list(accumulate(self._body_bytes(spec) for spec in specs))
            return [body[start:end] for start, end in pairwise([0, *ends])]
        bodies = container.parted(body, len(specs))
        for spec, own in zip(specs, bodies, strict=True):
            allowed = self._body_bytes(spec)
            if len(own) > allowed or (spec.dtype != "float32" and len(own) < allowed):
                raise CodecError(f"tensor {spec.name} has {len(own)} bytes, it takes {allowed}")
        return bodies

    def _decoded(self, index: int, spec: TensorSpec, body: bytes) -> Tensor:
        if spec.dtype != "float32":
            return from_bytes(body, spec)
        values = self.part(index).unpack(body, spec.shape)
        if not _finite(values):
            raise CodecError(f"tensor {spec.name} decodes to NaN or infinite values")
        return values


def _spec(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> TensorSpec:
    """How a tensor travels."""
    carried = "float32" if dtype in (torch.float16, torch.bfloat16) else str(dtype)[6:]
    if carried not in container.DTYPES:
        raise ValueError(
            f"tensor {name} is {carried}; a message holds {', '.join(container.DTYPES)}: "
            "convert it first"
        )
    return TensorSpec(name, shape, carried)


def _checked(name: str, values: Tensor) -> Tensor:
    """The tensor as it travels, once it is known to be finite."""
    if not values.is_floating_point():
        return values
    if not _finite(values):
        bad = int((~torch.isfinite(values)).sum())
        raise ValueError(
            f"tensor {name} holds {bad} NaN or infinite values; look for the layer that makes them"
        )
    return values.float()


def _finite(values: Tensor) -> bool:
    """True without NaN and infinities: both would show in the smallest or the largest value."""
    return values.numel() == 0 or all(bool(torch.isfinite(end)) for end in values.aminmax())
