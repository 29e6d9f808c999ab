"""Two layers of transposed convolutions from releases to images: a piece, not an attack."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attacks.decoder_stems import Standardise
from splitbench.release import Tensors, TensorSpec

LARGEST_SEED = 8  # sides of the map that a vector is turned into, at most
SMALLEST_KERNEL = 3


class Step(NamedTuple):
    """One transposed convolution along one axis: ``size`` to ``(size - 1) stride + reach``."""

    stride: int
    kernel: int
    padding: int


class TransposedDecoder(nn.Module):
    """Every tensor through a layer of its own, their sum through one that they share.

    Strides are powers of two, as pooling's are, and as large as the image allows; what is missing
    to the side of the image, kernels make up for, so that a valid convolution is met by its own
    transpose. Tokens that form a square are the map that they came from; what is no map, or a
    larger one than the image, goes through a linear map onto one of a quarter of the image's
    sides, at most 8 x 8, first.

    Args:
        specs: Shapes of the released tensors; any number, of any rank, also empty ones.
        image_shape: Channels, height, width.
        width: Channels between the two layers.
        standardise: Give every channel of the features zero mean and unit variance first.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        image_shape: tuple[int, int, int],
        *,
        width: int,
        standardise: bool,
    ) -> None:
        super().__init__()
        channels, *sides = image_shape
        self.live = [i for i, spec in enumerate(specs) if spec.numel]
        maps = [_map(specs[i].shape, width, sides) for i in self.live]
        # The finest map decides the stride that all share.
        finest = [min([s, *(_stride(m[axis], s) for m in maps)]) for axis, s in enumerate(sides, 1)]
        shared = [2 ** math.ceil(math.log2(stride) / 2) for stride in finest]
        self.middle = [math.ceil(side / stride) for side, stride in zip(sides, shared, strict=True)]
        self.ways_in = nn.ModuleList(
            WayIn(specs[i].shape, m, width, self.middle, standardise=standardise)
            for i, m in zip(self.live, maps, strict=True)
        )
        self.width = width
        self.paint = _layer(width, channels, self.middle, sides, shared)

    def forward(self, tensors: Tensors) -> Float[Tensor, "b c h w"]:
        """Images, not yet clamped to [0, 1]."""
        first = tensors[0]
        hidden = torch.zeros(len(first), self.width, *self.middle, device=first.device)
        for i, way_in in zip(self.live, self.ways_in, strict=True):
            hidden = hidden + way_in(tensors[i])
        images: Tensor = self.paint(torch.relu(hidden))
        return images

    @torch.no_grad()
    def prepare(self, examples: Tensors) -> None:
        """Standardise features as on these examples."""
        for i, way_in in zip(self.live, self.ways_in, strict=True):
            way_in.measure(examples[i])  # type: ignore[operator]  # every way in has it


class WayIn(nn.Module):
    """One tensor to the hidden map: a linear map where it is no map yet, then the first layer."""

    def __init__(
        self,
        shape: tuple[int, ...],
        onto: tuple[int, int, int],
        width: int,
        middle: list[int],
        *,
        standardise: bool,
    ) -> None:
        super().__init__()
        self.onto = onto
        channels = onto[0] if _is_map(shape, onto) else math.prod(shape)
        self.spread = nn.Linear(channels, math.prod(onto)) if not _is_map(shape, onto) else None
        self.standardise = Standardise(channels) if standardise else None
        sizes = onto[1:]
        strides = [_stride(size, side) for size, side in zip(sizes, middle, strict=True)]
        self.layer = _layer(onto[0], width, list(sizes), middle, strides)

    def forward(self, values: Tensor) -> Float[Tensor, "b width h w"]:
        """Features ``(b, ...)`` to the hidden map, before its activation."""
        rows = self._rows(values)
        if self.standardise is not None:
            rows = self.standardise(rows)
        if self.spread is not None:
            rows = self.spread(rows.flatten(1))
        hidden: Tensor = self.layer(rows.reshape(len(values), *self.onto))
        return hidden

    def measure(self, values: Tensor) -> None:
        """Standardise as on these features, if at all."""
        if self.standardise is not None:
            self.standardise.measure(self._rows(values))

    def _rows(self, values: Tensor) -> Float[Tensor, "b channels positions"]:
        values = values.float()
        if self.spread is not None:
            return values.reshape(len(values), -1, 1)
        return values.transpose(1, 2) if values.ndim == 3 else values.flatten(2)


def _map(shape: tuple[int, ...], width: int, sides: Sequence[int]) -> tuple[int, int, int]:
    """The map that a tensor is, or is turned into."""
    if len(shape) == 3 and all(s <= side for s, side in zip(shape[1:], sides, strict=True)):
        return shape[0], shape[1], shape[2]
    if len(shape) == 2:
        root = math.isqrt(shape[0])
        if 1 < root <= min(sides) and root**2 == shape[0]:
            return shape[1], root, root
    rows, columns = (min(math.ceil(side / 4), LARGEST_SEED) for side in sides)
    return width, rows, columns


def _is_map(shape: tuple[int, ...], onto: tuple[int, int, int]) -> bool:
    """Whether the values of a tensor are those of the map, in some order."""
    channels, rows, columns = onto
    return shape in ((channels, rows, columns), (rows * columns, channels))


def _stride(size: int, side: int) -> int:
    """The largest power of two by which `size` can be multiplied within `side`."""
    return int(2 ** int(math.log2(max(1, side // size))))


def _layer(
    inputs: int, outputs: int, sizes: list[int], wanted: list[int], strides: list[int]
) -> nn.ConvTranspose2d:
    """The transposed convolution from a map of one size to one of another."""
    steps = [_step(*axis) for axis in zip(sizes, wanted, strides, strict=True)]
    stride, kernel, padding = ((s[0], s[1]) for s in zip(*steps, strict=True))
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride=stride, padding=padding)


def _step(size: int, wanted: int, stride: int) -> Step:
    """The smallest kernel of at least 3, and stride + 1, that gives exactly the size wanted."""
    reach = wanted - (size - 1) * stride
    padding = max(0, math.ceil((max(SMALLEST_KERNEL, stride + 1) - reach) / 2))
    return Step(stride, reach + 2 * padding, padding)
