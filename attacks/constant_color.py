"""The simplest blind guess: one colour."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface


class ConstantColor(Attack):
    """Guesses the mean colour of the auxiliary images, whatever was released (floor F0).

    Of all one-colour guesses it has the least squared error. Already 12 dB of PSNR on natural
    images, which is why PSNR alone says little.

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

    _color: Tensor

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Average all pixels of each channel."""
        del generator
        self._color = surface.auxiliary.images().double().mean((0, 2, 3)).float()
        yield from ()

    def export_state(self) -> Mapping[str, Tensor]:
        """The colour, ``(c,)``."""
        return {"color": self._color}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take the colour back."""
        super().import_state(state, surface)
        self._color = state["color"]

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """The same picture for every release."""
        del generator
        return self._color[None, :, None, None].repeat(len(release), 1, *surface.image_shape[1:])
