"""The blind guess that least squares asks for: the mean image."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface


class MeanImage(Attack):
    """Guesses the mean of the auxiliary images, whatever was released (floor F1).

    The best constant guess in squared error: what leakage L is measured from.

    Threat model:
        Auxiliary images; nothing else.

    Cost: One pass over the auxiliary images.

    Args:
        None.

    Deviations from the paper:
        None.

    References:
        None; a definition.
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY})
    floor: ClassVar[bool] = True

    _image: Tensor

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Average the images."""
        del generator
        self._image = surface.auxiliary.images().double().mean(0).float()
        yield from ()

    def export_state(self) -> Mapping[str, Tensor]:
        """The image, ``(c, h, w)``."""
        return {"image": self._image}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take the image back."""
        super().import_state(state, surface)
        self._image = state["image"]

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """The same picture for every release."""
        del surface, generator
        return self._image.repeat(len(release), 1, 1, 1)
