"""Squared error per pixel."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from splitbench.metric import Metric


class MeanSquaredError(Metric):
    """Mean of the squared differences over the channels and pixels of an image in [0, 1].

    Accumulated in float64. The leakage of the benchmark is made of it (`splitbench.leakage`).

    References:
        None; a definition.
    """

    key: ClassVar[str] = "mse"
    leaks: ClassVar[Literal["up", "down"]] = "down"
    perfect = 0.0

    def score(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Mean squared error of each image, in [0, 1]."""
        return (guess.double() - truth.double()).square().flatten(1).mean(1)
