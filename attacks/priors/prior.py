"""What an adversary believes about images before it sees a release."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from splitbench.described import Described


class Prior(Described, ABC):
    """A negative log density of images, up to a constant."""

    @abstractmethod
    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """How implausible each image is, in nats; differentiable."""
