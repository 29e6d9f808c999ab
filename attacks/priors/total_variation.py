"""Images are mostly smooth."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from attacks.priors.prior import Prior

ROUNDING = 1e-6  # squared gradient below which the corner of |.| is rounded off


class TotalVariation(Prior):
    """``weight * sum (dx^2 + dy^2)^(beta / 2)`` over pixels and channels.

    Args:
        weight: In nats per unit of gradient, >= 0; about 10 fits photographs where beta is 1.
        beta: Exponent, > 0; 1 keeps edges, 2 blurs them.

    References:
        Mahendran, Vedaldi. "Understanding deep image representations by inverting them".
        CVPR 2015. arXiv:1412.0035
    """

    def __init__(self, *, weight: float = 10.0, beta: float = 1.0) -> None:
        if not (weight >= 0 and beta > 0):
            raise ValueError(f"weight={weight}, beta={beta}: want weight >= 0 and beta > 0")
        self.weight = weight
        self.beta = beta

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Weighted variation of each image."""
        right = F.pad(images.diff(dim=3), (0, 1))
        down = F.pad(images.diff(dim=2), (0, 0, 0, 1))
        steepness = right.square() + down.square() + ROUNDING
        return self.weight * steepness.pow(self.beta / 2).flatten(1).sum(1)
