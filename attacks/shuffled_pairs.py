"""The floor that a decoder must beat: one that was taught nonsense."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attacks.inverse_network import InverseNetwork, decode
from splitbench.release import Release
from splitbench.threat import Surface


class ShuffledPairs(InverseNetwork):
    """Trains the inverse network on releases that belong to other images (floor F4).

    Within each batch every release is paired with the image a fixed number of places before it.
    Batches are drawn anew, so there is nothing to learn but the mean, and what a decoder learns
    beyond it is chance. Where it beats a blind guess, its targets are known from elsewhere, or
    the floor is too low: its score must be a floor.

    One shuffle resembles the truth, or its opposite, by chance. So the decoder paints several
    images at once, each taught by a shuffle of its own, and each target is shown the painting of
    one of them in turn. The last weights are kept: to choose some on held-out pairs would mostly
    choose the untrained decoder, which paints the mean image.

    Threat model:
        Auxiliary images and queries.

    Cost: That of `InverseNetwork`, and a larger last layer.

    Args:
        width: Channels of the decoder, a multiple of 8.
        blocks: Residual blocks, > 0.
        heads: Heads of self-attention after each block, dividing `width`; 0 for none.
        patch: Side of the patches that it paints, in pixels.
        steps: Batches to learn from, > 0.
        batch_size: Images per step, > 1.
        learning_rate: Largest step of Muon for the hidden layers.
        loss: ``mse``, or ``perceptual`` for absolute error plus ``(1 - SSIM) / 2``.
        shuffles: Images painted at once, >= 1.

    Deviations from the paper:
        None.

    References:
        None; a control experiment.
    """

    floor: ClassVar[bool] = True
    per_example: ClassVar[bool] = False  # the place in the batch decides which shuffle is shown

    def __init__(
        self,
        *,
        width: int = 256,
        blocks: int = 8,
        heads: int = 8,
        patch: int = 2,
        steps: int = 60_000,
        batch_size: int = 128,
        learning_rate: float = 0.03,
        loss: Literal["mse", "perceptual"] = "mse",
        shuffles: int = 16,
    ) -> None:
        if shuffles < 1:
            raise ValueError(f"shuffles={shuffles}: must be at least 1")
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size}: a shuffle takes at least 2")
        super().__init__(
            width=width,
            blocks=blocks,
            heads=heads,
            patch=patch,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            loss=loss,
        )
        self.shuffles = shuffles

    @property
    def paintings(self) -> int:
        """One for each shuffle."""
        return self.shuffles

    def pairs(self, images: Tensor) -> Tensor:
        """Each image moved on by one place, by two places, and so on: it goes with strangers."""
        if len(images) < 2:
            raise ValueError("there is one image only: nothing to shuffle it with")
        places = [1 + k % (len(images) - 1) for k in range(self.shuffles)]
        return torch.cat([images.roll(k, 0) for k in places], dim=1)

    def held_out(self, surface: Surface) -> None:
        """None."""

    @torch.no_grad()
    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Show the shuffles' paintings in turn."""
        del surface, generator
        painted = decode(self._decoder, release).unflatten(1, (self.shuffles, -1))
        example = torch.arange(len(painted))
        shown: Tensor = painted[example, example % self.shuffles]
        return shown
