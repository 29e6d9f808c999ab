"""Several beliefs about images at once."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attacks.priors.prior import Prior


class Joint(Prior):
    """The sum of the members: all of them are held to be true, and independent.

    Args:
        members: At least one prior.

    References:
        None; a product of densities in other words.
    """

    def __init__(self, *, members: Sequence[Prior]) -> None:
        if not members:
            raise ValueError("members: want at least one prior")
        self.members = tuple(members)

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """What the members say, added up."""
        return torch.stack([member(images) for member in self.members]).sum(0)
