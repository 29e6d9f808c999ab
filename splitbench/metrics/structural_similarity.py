"""Structural similarity."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from skimage.metrics import structural_similarity
from torch import Tensor

from splitbench.metric import Metric

WINDOW = 11  # pixels; what scikit-image makes of sigma = 1.5


class StructuralSimilarity(Metric):
    """Mean structural similarity of each image in the setting of the original paper.

    Gaussian window of 11 x 11 pixels (standard deviation 1.5), K = (0.01, 0.03), data range 1,
    population covariance, borders left out, mean over channels; computed by scikit-image in
    float64. Its defaults, and those of other libraries, give other numbers.

    The mean image alone can reach 0.3 without any leak: compare with the floor.

    Deviations from the paper:
        No downsampling of large images before the comparison.

    References:
        Wang, Bovik, Sheikh, Simoncelli. "Image quality assessment: from error visibility to
        structural similarity". IEEE Transactions on Image Processing 2004.
        doi:10.1109/TIP.2003.819861
    """

    key: ClassVar[str] = "ssim"
    leaks: ClassVar[Literal["up", "down"]] = "up"
    perfect = 1.0

    def score(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Similarity of each image, in [-1, 1].

        Raises:
            ValueError: An image is smaller than the window.
        """
        height, width = guess.shape[2:]
        if min(height, width) < WINDOW:
            raise ValueError(
                f"ssim has a window of {WINDOW} x {WINDOW} pixels, larger than the "
                f"{height} x {width} images: leave this metric out"
            )
        pairs = zip(guess.double().cpu().numpy(), truth.double().cpu().numpy(), strict=True)
        return torch.tensor(
            [
                structural_similarity(
                    one,
                    other,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                    data_range=1.0,
                    channel_axis=0,
                )
                for one, other in pairs
            ],
            dtype=torch.float64,
        )
