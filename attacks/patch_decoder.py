"""A residual network from releases of any shape to images: a piece, not an attack."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from attacks.decoder_stems import Convolution, stem
from attacks.image_decoder import ImageDecoder
from splitbench.release import Tensors, TensorSpec

GROUPS = 8
ATTENDED = 16  # largest side of a grid on which attention is affordable


class PatchDecoder(ImageDecoder):
    """Paints an image patch by patch from standardised features.

    All tensors of a release are brought onto one grid with a position for each patch of the image,
    without throwing values away: a map is resized up and its blocks become channels, tokens are
    laid out as the map that they came from, a vector becomes a small map and is stretched. Their
    sum runs through pre-activation residual blocks at that one resolution, and every position
    paints its patch. The output is added to the mean image, so that training starts at the floor,
    and is not squashed: many real pixels are exactly 0 or 1, where a sigmoid never arrives.

    Args:
        specs: Shapes of the released tensors; any number, of any rank, also empty ones.
        image_shape: Channels, height, width.
        width: Channels of the grid, a multiple of 8.
        blocks: Residual blocks.
        heads: Heads of self-attention after each block; 0 for none, and none on grids larger
            than 16 x 16.
        patch: Side of a patch in pixels.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        image_shape: tuple[int, int, int],
        *,
        width: int,
        blocks: int,
        heads: int,
        patch: int,
    ) -> None:
        super().__init__()
        channels, *self.sides = image_shape
        rows, columns = (math.ceil(side / patch) for side in self.sides)
        self.live = [i for i, spec in enumerate(specs) if spec.numel]
        self.stems = nn.ModuleList(stem(specs[i].shape, width, (rows, columns)) for i in self.live)
        self.position = nn.Parameter(torch.zeros(1, width, rows, columns))
        attended = heads > 0 and max(rows, columns) <= ATTENDED
        body: list[nn.Module] = []
        for _ in range(blocks):
            body += [ResidualBlock(width), *([Attention(width, heads)] if attended else [])]
        self.body = nn.Sequential(*body)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.head = nn.Conv2d(width, channels * patch**2, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        self.paint = nn.PixelShuffle(patch)
        self.canvas = nn.Parameter(torch.zeros(image_shape))

    def forward(self, tensors: Tensors) -> Float[Tensor, "b c h w"]:
        """Images, not yet clamped to [0, 1]."""
        grid = self.position.repeat(len(tensors[0]), 1, 1, 1)
        for i, onto_grid in zip(self.live, self.stems, strict=True):
            grid = grid + onto_grid(tensors[i])
        painted = self.paint(self.head(F.silu(self.norm(self.body(grid)))))
        height, width = self.sides
        images: Tensor = painted[..., :height, :width] + self.canvas
        return images

    def matrices(self) -> list[nn.Parameter]:
        """Weights of the hidden layers, which are matrices."""
        return [layer.weight for layer in self.modules() if isinstance(layer, Convolution)]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, normalised and activated before; the identity at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            Convolution(width, width, 3),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            Convolution(width, width, 3, zero=True),
        )

    def forward(self, grid: Tensor) -> Tensor:
        """Add the change."""
        changed: Tensor = grid + self.change(grid)
        return changed


class Attention(nn.Module):
    """Self-attention between the positions of the grid; the identity at first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, width)
        self.ask = Convolution(width, 3 * width, 1)
        self.answer = Convolution(width, width, 1, zero=True)

    def forward(self, grid: Tensor) -> Tensor:
        """Add what each position gathers from all."""
        asked = self.ask(self.norm(grid)).flatten(2).unflatten(1, (3, self.heads, -1))
        query, key, value = asked.transpose(-1, -2).unbind(1)
        gathered = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        answered: Tensor = grid + self.answer(gathered.reshape(grid.shape))
        return answered
