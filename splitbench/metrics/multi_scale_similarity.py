"""Structural similarity at several scales."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from splitbench.metric import Metric

WINDOW, SCALES = 11, 5
SMALLEST = WINDOW * 2 ** (SCALES - 1)  # pixels: at the coarsest scale the window still fits


class MultiScaleSimilarity(Metric):
    """Structural similarity at five scales, each half as fine as the one before.

    Gaussian window of 11 x 11 pixels (standard deviation 1.5), K = (0.01, 0.03), data range 1, the
    paper's five weights; computed by torchmetrics in float64. Five scales need images of 176
    pixels: with fewer scales, smaller images have a number, too, but one of another measure.

    Deviations from the paper:
        A scale at which the images are anticorrelated counts as 0, since its power is no number.
        The coarsest scale is continued by reflection, as torchmetrics does it, where the paper
        leaves out the places at which the window hangs over the edge.

    References:
        Wang, Simoncelli, Bovik. "Multiscale structural similarity for image quality assessment".
        Asilomar Conference on Signals, Systems and Computers 2003. doi:10.1109/ACSSC.2003.1292216
    """

    key: ClassVar[str] = "ms_ssim"
    leaks: ClassVar[Literal["up", "down"]] = "up"
    perfect = 1.0

    def score(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Similarity of each image, in [0, 1].

        Raises:
            ValueError: An image is too small for five scales.
        """
        height, width = guess.shape[2:]
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"ms_ssim halves images four times and needs {SMALLEST} x {SMALLEST} pixels, the "
                f"images have {height} x {width}: use ssim, or leave this metric out"
            )
        similarity: Tensor = multiscale_structural_similarity_index_measure(
            guess.double(), truth.double(), data_range=1.0, reduction="none", normalize="relu"
        )
        return similarity
