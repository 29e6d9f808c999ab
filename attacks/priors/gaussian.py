"""Pixels are independent and normal: rarely true, but solvable by hand."""

from jaxtyping import Float
from torch import Tensor

from attacks.priors.prior import Prior


class Gaussian(Prior):
    """``precision / 2 * ||x - mean||^2``.

    With a linear client under Gaussian noise the search then has the Wiener filter as its answer.

    Args:
        mean: Of every pixel, in [0, 1].
        precision: One over the variance of a pixel, > 0.

    References:
        None; ridge regression in other words.
    """

    def __init__(self, *, mean: float = 0.5, precision: float = 10.0) -> None:
        if not precision > 0:
            raise ValueError(f"precision={precision}: must be positive")
        self.mean = mean
        self.precision = precision

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Weighted squared distance of each image from the mean."""
        return self.precision / 2 * (images - self.mean).flatten(1).square().sum(1)
