"""Whole numbers in about as many bits as they are surprising."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from splitbench.codec import CodecError
from splitbench.codecs.framed import FramedCodec
from splitbench.codecs.grid import Grid
from splitbench.release import TensorSpec, channels_of

Counts = tuple[tuple[int, ...], ...]

PRECISION = 24  # bits of a probability in the coder: none is smaller than 2 ** -24
_STATE = 8  # bytes of the coder's state, at most, beyond the information of the message


@dataclass(frozen=True, kw_only=True, repr=False)
class EntropyCoded(FramedCodec):
    """Rounds to whole numbers and codes them by asymmetric numeral systems, with a fixed prior.

    Both sides know how often each number is to be expected, in each channel (`learnt` holds a row
    of counts for each channel of each tensor; a codec that is not fitted expects ``2 ** -|n|``).
    A message takes as many bits as its numbers are surprising, rounded up to words of 32 bits: on
    average the entropy, if the prior is right. Its length depends on the content, which
    `Release.payload_bytes` hands to the adversary.

    Values beyond `limit` arrive as `limit`. `transform` passes no gradient.

    Args:
        limit: Largest magnitude, 1 to 127: there are ``2 limit + 1`` numbers.
        max_bytes: Refuse messages that decode to more.

    References:
        Duda. "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with
        compression rate of arithmetic coding". 2013. arXiv:1311.2540
        Bamler. "Understanding entropy coding with asymmetric numeral systems (ANS)". 2022.
        arXiv:2201.01741
    """

    number: ClassVar[int] = 8
    lossless: ClassVar[bool] = False
    constant_length: ClassVar[bool] = False

    limit: int = 15
    max_bytes: int = 2**28
    learnt: tuple[Counts, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.limit <= 127:
            raise ValueError(f"limit={self.limit}: choose 1 to 127")

    def fitted(self, learnt: Sequence[Counts]) -> "EntropyCoded":
        """The same codec with counts, one row for each channel of each tensor.

        Args:
            learnt: For each tensor and channel, how often each number from ``-limit`` to `limit`
                is expected: at least once, and at most 2**24 altogether.
        """
        for row in (row for counts in learnt for row in counts):
            wrong = len(row) != 2 * self.limit + 1
            if wrong or min(row) < 1 or sum(row) > 2**PRECISION:
                raise ValueError(
                    f"{len(row)} counts from {min(row)}, {sum(row)} together: want "
                    f"{2 * self.limit + 1}, from 1, at most 2**{PRECISION}"
                )
        return super().fitted(learnt)

    def check(self, specs: Sequence[TensorSpec]) -> None:
        """Take float32 tensors with the channels that the codec was fitted to."""
        for spec in specs:
            if spec.dtype != "float32":
                raise ValueError(f"tensor {spec.name} is {spec.dtype}: only float32 is coded")
        for spec, counts in zip(specs, self.learnt, strict=False):
            if len(counts) != channels_of(spec.shape):
                raise ValueError(
                    f"tensor {spec.name} has shape {spec.shape}: fitted to {len(counts)} channels"
                )

    def body_bytes(self, shape: tuple[int, ...]) -> int:
        """If every number is the least expected one."""
        return ceil(prod(shape) * PRECISION / 8) + _STATE

    def pack(self, values: Tensor) -> bytes:
        """Write the words of the coder, whose last one is never zero."""
        if values.numel() == 0:
            return b""
        coder = _library().stack.AnsCoder()
        codes = self._grid(values).codes(values)
        rows = (_by_channel(codes) if self.learnt else codes.reshape(1, -1)).numpy()
        for row, model in reversed(list(zip(rows, self._models(), strict=True))):
            coder.encode_reverse(row.astype(np.int32), model)
        return np.asarray(coder.get_compressed()).astype("<u4").tobytes()

    def unpack(self, body: bytes, shape: tuple[int, ...]) -> Tensor:
        """Read the numbers; the coder must then be as empty as before they were written."""
        count, models = prod(shape), self._models()
        if count == 0 and not body:
            return torch.zeros(shape)
        if len(body) % 4 or body[-4:] == bytes(4) or count == 0:
            raise CodecError(f"{len(body)} bytes are not the words of a coder for {count} numbers")
        coder = _library().stack.AnsCoder(np.frombuffer(body, "<u4").astype(np.uint32))
        rows = np.stack([coder.decode(model, count // len(models)) for model in models])
        if not coder.is_empty():
            raise CodecError(f"the coder holds more than {count} numbers")
        codes = torch.from_numpy(rows.astype(np.float64))
        placed = _in_place(codes, shape) if self.learnt else codes.reshape(shape)
        return self._grid(placed).values(placed)

    @torch.no_grad()
    def round_trip(self, values: Tensor) -> Tensor:
        """Round to the nearest number in reach."""
        grid = self._grid(values)
        return grid.values(grid.codes(values))

    @torch.no_grad()
    def cell(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Half a step to either side; beyond the limit without end."""
        grid = self._grid(decoded)
        return grid.cell(grid.codes(decoded))

    def _grid(self, like: Tensor) -> Grid:
        ends = torch.tensor([-1, 1], dtype=torch.float64, device=like.device) * (self.limit + 0.5)
        return Grid(ends[0], ends[1], 2 * self.limit + 1, ends=False)

    def _models(self) -> list[Any]:
        """The prior of each channel; a single one for all where nothing was learnt."""
        counts = 0.5 ** np.abs(np.arange(-self.limit, self.limit + 1.0))[None]
        if self.learnt:
            counts = np.array(self.learnt[0], dtype=np.float64)
        shares = counts / counts.sum(1, keepdims=True)
        return [_library().model.Categorical(row, perfect=False) for row in shares]


def _by_channel(values: Tensor) -> Tensor:
    """One tensor without a batch axis as ``(channels, size)``."""
    if values.ndim == 3:
        return values.flatten(1)
    return values.reshape(-1, channels_of(tuple(values.shape))).T


def _in_place(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo `_by_channel`."""
    return (rows if len(shape) == 3 else rows.T).reshape(shape)


def _library() -> Any:
    """The coder, which cannot be installed everywhere."""
    try:
        from constriction import stream
    except ImportError as error:
        raise ImportError(
            "the entropy coder needs the package constriction, which has no wheel for this "
            "machine; choose another codec or defense, or build it from source"
        ) from error
    return stream
