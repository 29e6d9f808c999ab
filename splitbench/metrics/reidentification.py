"""Whether a guess still shows who it is: a piece that recognisers share."""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from splitbench.metric import Metric, MetricUnavailableError


class Reidentification(Metric):
    """1 where the nearest photograph on file shows the person of the true image, else 0 (rank 1).

    On file are other photographs of the same persons, which whoever wants to know the person is
    assumed to have: the train role. Chance is one over the number of persons on file; the ceiling
    is what the recogniser makes of the true images.
    """

    leaks: ClassVar[Literal["up", "down"]] = "up"
    compares_with: ClassVar[Literal["images", "labels", "identities"]] = "identities"
    needs_gallery: ClassVar[bool] = True
    perfect = 1.0

    _file: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def embed(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Vectors whose Euclidean distance is small for photographs of one person."""

    def enroll(
        self, photographs: Float[Tensor, "b c h w"], identities: Int[Tensor, " b"]
    ) -> "Reidentification":
        """Put photographs on file; returns self."""
        self._file = self.embed(photographs), identities
        return self

    def score(
        self, guess: Float[Tensor, "b c h w"], truth: Int[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """1.0 or 0.0 for each guess.

        Raises:
            MetricUnavailableError: No photographs are on file.
        """
        if self._file is None:
            raise MetricUnavailableError(
                f"{self.key} needs photographs of the persons: enroll the train role of a data "
                "set that says who is in the picture"
            )
        vectors, identities = self._file
        nearest = torch.cdist(self.embed(guess), vectors).argmin(1)
        return (identities[nearest] == truth.to(identities.device)).double()
