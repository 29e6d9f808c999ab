"""Re-identification by the pixels themselves."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from splitbench.metrics.reidentification import Reidentification


class PixelReidentification(Reidentification):
    """Compares pixel by pixel: the baseline that a recogniser must beat to mean anything.

    Where photographs are taken alike, as in a studio, it recognises most persons.

    References:
        None; a definition.
    """

    key: ClassVar[str] = "rank1_pixels"

    def embed(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The pixels."""
        return images.flatten(1)
