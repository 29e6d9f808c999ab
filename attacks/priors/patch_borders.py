"""Patches that a transformer reads apart belong to one picture."""

from jaxtyping import Float
from torch import Tensor

from attacks.priors.prior import Prior


class PatchBorders(Prior):
    """``weight * sum d^2`` over the steps from pixel to pixel that cross a border of patches.

    A client that embeds patches tells each patch for itself, and a search from its tokens leaves
    seams between them; total variation sees these no better than any edge of the picture. What has
    sharp edges of its own, such as clothes before a plain ground, it serves little or ill: it is
    in no suite.

    Args:
        patch: Side of a patch in pixels, > 0; what of the image is left over is a patch, too.
        weight: In nats, >= 0; half of one over the variance of a step between neighbouring pixels.

    References:
        Lei, Chen, Chen. "DRAG: data reconstruction attack using guided diffusion". ICML 2025.
        https://openreview.net/forum?id=z6GEZ2ogct (its baselines have it beside total variation)
    """

    def __init__(self, *, patch: int, weight: float = 5.0) -> None:
        if patch < 1 or weight < 0:
            raise ValueError(f"patch={patch}, weight={weight}: want patch >= 1 and weight >= 0")
        self.patch = patch
        self.weight = weight

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Weighted squares of the steps over borders; none where there is one patch only."""
        right = images.diff(dim=3)[..., self.patch - 1 :: self.patch]
        down = images.diff(dim=2)[..., self.patch - 1 :: self.patch, :]
        squares = [steps.square().flatten(1).sum(1) for steps in (right, down)]
        return self.weight * (squares[0] + squares[1])
