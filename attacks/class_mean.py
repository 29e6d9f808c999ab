"""What the server's prediction alone gives away."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface


class ClassMean(Attack):
    """Guesses the mean auxiliary image of the class that the server predicts (floor F2).

    The server is entitled to its prediction, so this much leaks whatever the release looks like:
    leakage beyond it is called excess. Never uses a true label. A class that is never predicted
    on auxiliary images gets the overall mean; images that the device answers by itself, of which
    nothing is sent, count as one more class.

    Threat model:
        Auxiliary images, queries, and the server's own half of the model.

    Cost: One query of each auxiliary image, and one pass of the server.

    Args:
        None.

    Deviations from the paper:
        None.

    References:
        None; a definition.
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY, Access.SERVER})
    floor: ClassVar[bool] = True

    _images: Tensor

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Average the images of each predicted class."""
        del generator
        steps = surface.pair_batches
        outcomes = surface.classes + 1
        sums = torch.zeros(outcomes, *surface.image_shape, dtype=torch.float64)
        counts = torch.zeros(outcomes, dtype=torch.float64)
        for step, (images, release) in enumerate(surface.pairs(), 1):
            predicted = surface.outcome(release)
            sums.index_add_(0, predicted, images.double())
            counts.index_add_(0, predicted, torch.ones(len(images), dtype=torch.float64))
            yield Progress(step, steps, 0.0)
        overall = sums.sum(0) / counts.sum()
        means = sums / counts.clamp(min=1)[:, None, None, None]
        self._images = torch.where(counts[:, None, None, None] > 0, means, overall).float()

    def export_state(self) -> Mapping[str, Tensor]:
        """One image for each outcome, ``(classes + 1, c, h, w)``."""
        return {"images": self._images}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take the images back."""
        super().import_state(state, surface)
        self._images = state["images"]

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """The mean image of the class predicted for each release."""
        del generator
        return self._images[surface.outcome(release)]
