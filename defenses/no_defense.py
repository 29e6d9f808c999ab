"""The undefended release."""

from typing import ClassVar

import torch

from splitbench.defense import Defense
from splitbench.release import Tensors


class NoDefense(Defense):
    """Releases the features as they are: the reference that every defense is measured against.

    Threat model:
        Nobody who reads the messages is kept out, and nothing but the image is secret.

    Guarantee:
        None.

    Known to fall to:
        Every attack, at every cut that keeps the information.

    Deviations from the paper:
        None; there is no paper.

    References:
        None; this is split inference itself.
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {}

    def __init__(self) -> None:
        super().__init__()

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features."""
        del generator
        return features
