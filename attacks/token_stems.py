"""How tensors of any shape become tokens of one width: pieces, not attacks."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from attacks.decoder_stems import Standardise

MOST = 256  # tokens that one map becomes; a larger one is cut into patches
CHUNKS = 16  # tokens that a vector becomes
PERIODS = 32.0  # the finest wave of a position has this many periods along the map


class MapTokens(nn.Module):
    """A map ``(c, h, w)``, one token for a position, or a patch of them where there are many.

    Also tokens ``(n, d)``, each of which stays one. Every token is told where it is. Dropped
    tokens, which arrive as zeros, take part in the attention as all others do, with a learned
    mark: that a token is not there, or that a ReLU silenced all of it, says something about the
    image, and leaving it out would hide that from the decoder.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.tokens = len(shape) == 2
        channels, *self.sides = (shape[1], shape[0], 1) if self.tokens else shape
        most = math.inf if self.tokens else MOST
        self.side = 1
        while math.prod(math.ceil(s / self.side) for s in self.sides) > most:
            self.side += 1
        rows, columns = (math.ceil(s / self.side) for s in self.sides)
        self.standardise = Standardise(channels)
        self.project = nn.Linear(channels * self.side**2, width)
        self.absent = nn.Parameter(torch.zeros(width))
        self.place = nn.Parameter(_places(shape, rows, columns, width))

    def forward(self, values: Tensor) -> Float[Tensor, "b n width"]:
        """Tokens, each with its place."""
        values = self._maps(values)
        seen = self.standardise(values.flatten(2)).unflatten(2, self.sides)
        gone = (self._cut(values) == 0).all(2, keepdim=True)
        tokens: Tensor = self.project(self._cut(seen)) + gone * self.absent + self.place
        return tokens

    def measure(self, values: Tensor) -> None:
        """Standardise as on these features."""
        self.standardise.measure(self._maps(values).flatten(2))

    def _maps(self, values: Tensor) -> Tensor:
        values = values.float()
        return values.transpose(1, 2).unsqueeze(3) if self.tokens else values

    def _cut(self, maps: Tensor) -> Tensor:
        """Maps to rows of patches, ``(b, n, c * side^2)``."""
        height, width = self.sides
        padded = F.pad(maps, (0, -width % self.side, 0, -height % self.side))
        return F.pixel_unshuffle(padded, self.side).flatten(2).transpose(1, 2)


class VectorTokens(nn.Module):
    """Anything else, flattened: chunks of neighbouring values, each with a map of its own."""

    def __init__(self, values: int, width: int) -> None:
        super().__init__()
        self.size = math.ceil(values / CHUNKS)
        chunks = math.ceil(values / self.size)
        self.missing = chunks * self.size - values
        self.standardise = Standardise(values)
        bound = self.size**-0.5
        self.project = nn.Parameter(torch.empty(chunks, self.size, width).uniform_(-bound, bound))
        self.absent = nn.Parameter(torch.zeros(width))
        self.place = nn.Parameter(torch.randn(chunks, width) / 2)

    def forward(self, values: Tensor) -> Float[Tensor, "b n width"]:
        """Tokens, each with its place."""
        row = self._row(values)
        gone = (self._cut(row) == 0).all(2, keepdim=True)
        chunks = self._cut(self.standardise(row))
        projected = torch.einsum("bnv,nvw->bnw", chunks, self.project)
        tokens: Tensor = projected + gone * self.absent + self.place
        return tokens

    def measure(self, values: Tensor) -> None:
        """Standardise as on these features."""
        self.standardise.measure(self._row(values))

    def _row(self, values: Tensor) -> Tensor:
        return values.float().reshape(len(values), -1, 1)

    def _cut(self, row: Tensor) -> Tensor:
        chunks: Tensor = F.pad(row.squeeze(2), (0, self.missing)).unflatten(1, (-1, self.size))
        return chunks


def token_stem(shape: tuple[int, ...], width: int) -> MapTokens | VectorTokens:
    """The way to tokens for one tensor of a release.

    Args:
        shape: Without the batch axis; not empty.
        width: Of a token, a multiple of 4.
    """
    if len(shape) in (2, 3):
        return MapTokens(shape, width)
    return VectorTokens(math.prod(shape), width)


def grid_places(rows: int, columns: int, width: int) -> Float[Tensor, "n width"]:
    """Waves along both sides of a grid: places that agree between grids over the same image."""
    periods = PERIODS ** torch.linspace(0, 1, width // 4)
    waves = []
    for side, axis in ((rows, 0), (columns, 1)):
        middle = (torch.arange(side) + 0.5) / side
        phase = math.pi * middle[:, None] * periods
        both = torch.cat([phase.sin(), phase.cos()], dim=1)
        waves.append(both.unsqueeze(1 - axis).expand(rows, columns, -1))
    return torch.cat(waves, dim=2).flatten(0, 1) / 2


def _places(shape: tuple[int, ...], rows: int, columns: int, width: int) -> Tensor:
    """Where the tokens of a map lie; tokens that come from a square lie on it again."""
    if len(shape) == 3:
        return grid_places(rows, columns, width)
    root, side = math.isqrt(rows), math.isqrt(rows - 1)
    if root > 1 and root**2 == rows:
        return grid_places(root, root, width)
    if side > 1 and side**2 == rows - 1:
        return torch.cat([torch.zeros(1, width), grid_places(side, side, width)])
    return grid_places(rows, 1, width)
