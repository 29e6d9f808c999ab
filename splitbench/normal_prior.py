"""Normal distributions of images, known or estimated, for `splitbench.certificate`."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FLAT = 1e-9  # of the largest variance: a direction in which nothing varies


@dataclass(frozen=True, eq=False)
class NormalPrior:
    """A normal distribution of images by its principal directions.

    Attributes:
        name: As it stands behind "drawn from".
        mean: ``(c, h, w)``, in [0, 1].
        directions: Orthonormal, ``(r, pixels)``, those of the largest variance first; images do
            not vary outside of them.
        variances: Along each, ``(r,)``, > 0, in squared units of pixels in [0, 1].
        applies: True where the images under attack are drawn from it; else why they are not.
    """

    name: str
    mean: Float[Tensor, "c h w"]
    directions: Float[Tensor, "r pixels"]
    variances: Float[Tensor, " r"]
    applies: bool | str

    @property
    def pixels(self) -> int:
        """Values of one image."""
        return self.mean.numel()

    @classmethod
    def of_covariance(
        cls,
        mean: Float[Tensor, "c h w"],
        covariance: Float[Tensor, "pixels pixels"],
        *,
        name: str,
        applies: bool | str,
    ) -> "NormalPrior":
        """From a covariance that is known."""
        variances, vectors = torch.linalg.eigh(covariance.double())
        return cls._of(mean, vectors.T, variances, name, applies)

    @classmethod
    def of_images(
        cls, images: Float[Tensor, "n c h w"], *, name: str, applies: bool | str
    ) -> "NormalPrior":
        """With the mean and the covariance of some images, at least two; of rank n - 1 at most."""
        flat = images.flatten(1).double()
        mean = flat.mean(0)
        centred = (flat - mean) / math.sqrt(len(flat) - 1)
        if len(flat) >= flat.shape[1]:
            variances, vectors = torch.linalg.eigh(centred.T @ centred)
            directions = vectors.T
        else:  # the same from the smaller matrix
            variances, vectors = torch.linalg.eigh(centred @ centred.T)
            directions = (vectors.T @ centred) / variances.clamp(min=1e-300).sqrt()[:, None]
        return cls._of(mean.view(images.shape[1:]).to(images), directions, variances, name, applies)

    @classmethod
    def _of(
        cls, mean: Tensor, directions: Tensor, variances: Tensor, name: str, applies: bool | str
    ) -> "NormalPrior":
        kept = variances.flip(0) > FLAT * variances.max()
        return cls(name, mean, directions.flip(0)[kept], variances.flip(0)[kept], applies)

    def sample(self, count: int, *, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """Images; what a normal distribution puts outside of [0, 1] stays there."""
        white = torch.randn(count, len(self.variances), generator=generator, dtype=torch.float64)
        moved = (white * self.variances.sqrt()) @ self.directions
        return (self.mean.double() + moved.view(count, *self.mean.shape)).to(self.mean.dtype)
