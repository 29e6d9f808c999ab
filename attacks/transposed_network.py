"""The small decoder that defenses are often held against."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from attacks.transposed_decoder import TransposedDecoder
from splitbench.attack import Attack
from splitbench.placement import here
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.rng import isolated
from splitbench.threat import Access, Surface

BATCH = 256
MEASURED = 1024  # examples from which the features are standardised
HALVINGS = 5  # equal parts of the training, each with half the learning rate of the one before
EPSILON = 1e-3  # Adam's


class TransposedNetwork(Attack):
    """Trains two layers of transposed convolutions to invert the client: a baseline.

    It is here to show how much leakage a weak decoder overlooks, and is in no suite: a defense
    that withstands it has withstood little. It is trained fairly all the same: as `InverseNetwork`
    it sees the defense with fresh randomness in every batch, and what it paints is clamped.

    Threat model:
        Auxiliary images and queries. The client may be a black box.

    Cost: `steps` times `batch_size` queries and passes of the decoder.

    Args:
        width: Channels between the two layers, > 0.
        standardise: Give every channel of the features zero mean and unit variance first.
        steps: Batches to learn from, > 0.
        batch_size: Images per step, > 0.
        learning_rate: First step size of Adam, > 0; halved four times, after each fifth of the
            steps.

    Deviations from the paper:
        Two layers at every cut, where the paper takes one to three by depth; strides and kernels
        that follow from the shapes, a linear map for features that are no map; loss on [0, 1]
        pixels instead of normalised ones; optionally, features are standardised.

    References:
        He, Zhang, Lee. "Model inversion attacks against collaborative inference". ACSAC 2019.
        doi:10.1145/3359789.3359824

    Example:
        >>> TransposedNetwork(steps=300).needs == {Access.AUXILIARY, Access.QUERY}
        True
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})

    _decoder: TransposedDecoder

    def __init__(
        self,
        *,
        width: int = 64,
        standardise: bool = False,
        steps: int = 78_000,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
    ) -> None:
        if min(width, steps, batch_size) < 1:
            raise ValueError(
                f"width={width}, steps={steps}, batch_size={batch_size}: each must be at least 1"
            )
        if not learning_rate > 0:
            raise ValueError(f"learning_rate={learning_rate}: must be positive")
        self.width = width
        self.standardise = standardise
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Train the decoder; the last weights are kept, as in the paper."""
        with isolated(generator):
            decoder = self._build(surface)
        seen = Release.concatenate([r for _, r in surface.pairs(MEASURED)]).visible
        decoder.to(seen[0].device).prepare(seen)
        optimizer = torch.optim.Adam(
            decoder.parameters(), lr=self.learning_rate, eps=EPSILON, amsgrad=True
        )
        batches = surface.examples(self.batch_size, self.steps)
        for step, (images, release) in enumerate(batches, 1):
            halved = HALVINGS * (step - 1) // self.steps
            optimizer.param_groups[0]["lr"] = self.learning_rate / 2**halved
            painted = decoder(release.visible)
            loss = F.mse_loss(painted, images.to(painted.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Progress(step, self.steps, float(loss.detach()))
        self._decoder = decoder.requires_grad_(False).eval()

    def export_state(self) -> Mapping[str, Tensor]:
        """Weights and standardisation of the decoder."""
        return self._decoder.state_dict()

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Rebuild the decoder for the shapes of this surface, and take the weights back."""
        super().import_state(state, surface)
        with isolated(torch.Generator()):
            self._decoder = self._build(surface)
        self._decoder.to(here()).load_state_dict(dict(state))
        self._decoder.requires_grad_(False).eval()

    @torch.no_grad()
    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Decode in batches."""
        del surface, generator
        starts = range(0, len(release), BATCH)
        return torch.cat([self._decoder(release[slice(i, i + BATCH)].visible) for i in starts])

    def _build(self, surface: Surface) -> TransposedDecoder:
        return TransposedDecoder(
            surface.visible_specs,
            surface.image_shape,
            width=self.width,
            standardise=self.standardise,
        )
