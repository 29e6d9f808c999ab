"""How tensors of any shape get onto the grid of a decoder: pieces, not attacks."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

SEED = 4  # side of the small map that a vector is turned into
QUIETEST = 0.01  # no deviation counts for less than this share of their root mean square


class Convolution(nn.Module):
    """A padded convolution whose weight is kept as a matrix, the way Muon wants it."""

    def __init__(self, inputs: int, outputs: int, side: int, *, zero: bool = False) -> None:
        super().__init__()
        self.shape = (outputs, inputs, side, side)
        fan_in = inputs * side**2
        bound = 0.0 if zero else fan_in**-0.5
        self.weight = nn.Parameter(torch.empty(outputs, fan_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, values: Tensor) -> Tensor:
        """Convolve ``(b, inputs, h, w)``; the size of the map stays."""
        weight = self.weight.view(self.shape)
        return F.conv2d(values, weight, self.bias, padding=self.shape[-1] // 2)


class Standardise(nn.Module):
    """Subtracts the mean of each channel and divides by its deviation.

    A channel that hardly moves is not blown up, and one that never moves is silenced where all
    are silent.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1))
        self.register_buffer("scale", torch.ones(channels, 1))

    def forward(self, values: Float[Tensor, "b n p"]) -> Float[Tensor, "b n p"]:
        """Standardised values."""
        return (values - self.mean) * self.scale

    def measure(self, values: Float[Tensor, "b n p"]) -> None:
        """Take mean and deviation of each channel over examples and positions."""
        flat = values.transpose(0, 1).flatten(1).double()
        mean = flat.mean(1, keepdim=True)
        deviation = (flat - mean).square().mean(1, keepdim=True).sqrt()
        typical = float(deviation.square().mean().sqrt())
        scale = 1 / deviation.clamp(min=QUIETEST * typical) if typical else 0 * deviation
        self.mean.copy_(mean)
        self.scale.copy_(scale)


class MapStem(nn.Module):
    """A map ``(c, h, w)`` onto the grid: resized up to a multiple of it, blocks to channels."""

    def __init__(self, shape: tuple[int, int, int], width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        channels, *self.sides = shape
        self.factor = max(math.ceil(a / b) for a, b in zip(self.sides, grid, strict=True))
        self.size = [side * self.factor for side in grid]
        self.standardise = Standardise(channels)
        self.mix = Convolution(channels * self.factor**2, width, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Features ``(b, c, h, w)`` or tokens ``(b, h w, c)`` to ``(b, width, *grid)``."""
        maps = self.standardise(self._rows(values)).unflatten(2, self.sides)
        if list(maps.shape[2:]) != self.size:
            maps = F.interpolate(maps, size=self.size, mode="bilinear", align_corners=False)
        mixed: Tensor = self.mix(F.pixel_unshuffle(maps, self.factor))
        return mixed

    def measure(self, values: Tensor) -> None:
        """Standardise as on these features."""
        self.standardise.measure(self._rows(values))

    def _rows(self, values: Tensor) -> Tensor:
        values = values.float()
        return values.transpose(1, 2) if values.ndim == 3 else values.flatten(2)


class VectorStem(nn.Module):
    """Anything else, flattened: through a small map of at most 4 x 4, stretched to the grid."""

    def __init__(self, values: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.seed = [min(SEED, side) for side in grid]
        self.standardise = Standardise(values)
        self.spread = Convolution(values, width * math.prod(self.seed), 1)

    def forward(self, values: Tensor) -> Tensor:
        """Features ``(b, ...)`` to ``(b, width, *grid)``."""
        row = self.standardise(self._rows(values))
        seed = self.spread(row[..., None]).flatten(1).unflatten(1, (-1, *self.seed))
        return F.interpolate(seed, size=self.grid, mode="bilinear", align_corners=False)

    def measure(self, values: Tensor) -> None:
        """Standardise as on these features."""
        self.standardise.measure(self._rows(values))

    def _rows(self, values: Tensor) -> Tensor:
        return values.float().reshape(len(values), -1, 1)


class ClassTokenStem(nn.Module):
    """A class token and a square of patch tokens, ``(1 + side^2, d)``."""

    def __init__(self, side: int, depth: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.token = VectorStem(depth, width, grid)
        self.patches = MapStem((depth, side, side), width, grid)

    def forward(self, values: Tensor) -> Tensor:
        """Sum of both on the grid, ``(b, width, *grid)``."""
        both: Tensor = self.token(values[:, 0]) + self.patches(values[:, 1:])
        return both

    def measure(self, values: Tensor) -> None:
        """Standardise as on these features."""
        self.token.measure(values[:, 0])
        self.patches.measure(values[:, 1:])


def stem(
    shape: tuple[int, ...], width: int, grid: tuple[int, int]
) -> MapStem | ClassTokenStem | VectorStem:
    """The way onto the grid that keeps what is known about where values come from.

    Args:
        shape: Of one tensor of a release, without the batch axis; not empty.
        width: Channels of the grid.
        grid: Its height and width.
    """
    if len(shape) == 3:
        return MapStem((shape[0], shape[1], shape[2]), width, grid)
    if len(shape) == 2:
        tokens, depth = shape
        side, root = math.isqrt(tokens - 1), math.isqrt(tokens)
        if side > 1 and side**2 == tokens - 1:
            return ClassTokenStem(side, depth, width, grid)
        if root > 1 and root**2 == tokens:
            return MapStem((depth, root, root), width, grid)
    return VectorStem(math.prod(shape), width, grid)
