"""Peak signal to noise ratio."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from splitbench.metric import Metric


class PeakSignalToNoise(Metric):
    """``-10 log10(MSE)`` of each image on its own, for images in [0, 1] (the peak is 1).

    The mean of these values is not the ratio of the mean error: by Jensen's inequality it is
    larger. It is not a measure of leakage either: one constant colour for all images already
    scores about 12 dB on CIFAR-10.

    Args:
        cap_db: Value of an exact recovery, and upper end of the scale, in dB, > 0; keeps means
            finite.

    Raises:
        ValueError: `cap_db` is not positive.

    References:
        None; a definition.
    """

    key: ClassVar[str] = "psnr_db"
    leaks: ClassVar[Literal["up", "down"]] = "up"

    def __init__(self, *, cap_db: float = 60.0) -> None:
        if not 0 < cap_db < float("inf"):
            raise ValueError(f"cap_db={cap_db}: must be positive and finite, e.g. 60")
        self.cap_db = cap_db

    @property
    def perfect(self) -> float:
        """The cap."""
        return self.cap_db

    def score(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Ratio of each image, in [0, `cap_db`] dB."""
        error = (guess.double() - truth.double()).square().flatten(1).mean(1)
        return (-10 * error.log10()).clamp(max=self.cap_db)
