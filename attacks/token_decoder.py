"""A transformer from releases of any shape to images: a piece, not an attack."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from attacks.image_decoder import ImageDecoder
from attacks.token_stems import grid_places, token_stem
from splitbench.release import Tensors, TensorSpec

EXPANSION = 4  # hidden width of a layer's perceptron, in widths


class TokenDecoder(ImageDecoder):
    """Paints an image patch by patch, each patch asking all tokens of the release.

    Every tensor of a release becomes tokens. With one query token for each patch of the image
    they run together through pre-normalised transformer layers, and the query tokens paint their
    patches. The output is added to the mean image, which is where training starts.

    Args:
        specs: Shapes of the released tensors; any number, of any rank, also empty ones.
        image_shape: Channels, height, width.
        width: Of a token, a multiple of 4.
        layers: Transformer layers.
        heads: Heads of self-attention, dividing `width`.
        patch: Side of a patch in pixels.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        image_shape: tuple[int, int, int],
        *,
        width: int,
        layers: int,
        heads: int,
        patch: int,
    ) -> None:
        super().__init__()
        channels, *self.sides = image_shape
        rows, columns = (math.ceil(side / patch) for side in self.sides)
        self.grid = rows, columns
        self.live = [i for i, spec in enumerate(specs) if spec.numel]
        self.stems = nn.ModuleList(token_stem(specs[i].shape, width) for i in self.live)
        self.queries = nn.Parameter(grid_places(rows, columns, width))
        self.body = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, channels * patch**2)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        self.paint = nn.PixelShuffle(patch)
        self.canvas = nn.Parameter(torch.zeros(image_shape))

    def forward(self, tensors: Tensors) -> Float[Tensor, "b c h w"]:
        """Images, not yet clamped to [0, 1]."""
        queries = self.queries.expand(len(tensors[0]), -1, -1)
        seen = [way_in(tensors[i]) for i, way_in in zip(self.live, self.stems, strict=True)]
        answers = self.body(torch.cat([queries, *seen], dim=1))[:, : queries.shape[1]]
        patches = self.head(self.norm(answers)).transpose(1, 2).unflatten(2, self.grid)
        height, width = self.sides
        images: Tensor = self.paint(patches)[..., :height, :width] + self.canvas
        return images

    def matrices(self) -> list[nn.Parameter]:
        """Weights of the transformer layers."""
        return [p for p in self.body.parameters() if p.ndim == 2]


class Layer(nn.Module):
    """Self-attention and a perceptron, each normalised before; the identity at first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, EXPANSION * width),
            nn.GELU(),
            nn.Linear(EXPANSION * width, width),
        )
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.think[-1].weight)  # type: ignore[arg-type]  # a linear layer

    def forward(self, tokens: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """Add what each token gathers, and what it makes of it."""
        asked = self.ask(self.before_attention(tokens)).unflatten(2, (3, self.heads, -1))
        query, key, value = asked.permute(2, 0, 3, 1, 4)
        gathered = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.answer(gathered)
        changed: Tensor = tokens + self.think(tokens)
        return changed
