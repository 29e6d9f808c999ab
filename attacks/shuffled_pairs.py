"""The floor that a decoder must beat: one that was taught nonsense."""

from typing import ClassVar

from torch import Tensor

from attacks.inverse_network import InverseNetwork

SHIFTS = 16


class ShuffledPairs(InverseNetwork):
    """Trains the inverse network on releases that belong to other images (floor F4).

    Within each batch every release is paired with the image before it, so there is nothing to
    learn but the mean. A decoder that beats the mean image here has seen its targets or their
    labels elsewhere: its score must be a floor.

    What it shows is limited. Weights are kept only if they beat the untrained decoder on held-out
    pairs that are shuffled too, and the untrained decoder paints the mean image. On the demo it
    was kept in every cell, so the score there is the mean image's and says nothing about the
    training. Without that choice a single shuffle scored between -0.04 and +0.02 by chance.

    Threat model:
        Auxiliary images and queries.

    Cost: That of `InverseNetwork`.

    Args:
        width: Channels of the decoder, a multiple of 8.
        blocks: Residual blocks, > 0.
        heads: Heads of self-attention after each block, dividing `width`; 0 for none.
        patch: Side of the patches that it paints, in pixels.
        steps: Batches to learn from, > 0.
        batch_size: Images per step, > 0.
        learning_rate: Largest step of Muon for the hidden layers.
        loss: ``mse``, or ``perceptual`` for absolute error plus ``(1 - SSIM) / 2``.

    Deviations from the paper:
        None.

    References:
        None; a control experiment.
    """

    floor: ClassVar[bool] = True

    def pairs(self, images: Tensor) -> Tensor:
        """Each image moved on by one place: it goes with the release of its neighbour."""
        return images.roll(1, 0)

    def held_out_pairs(self, images: Tensor) -> list[Tensor]:
        """Many such shifts: a single one would now and then reward a chance resemblance."""
        return [images.roll(k, 0) for k in range(1, min(SHIFTS, len(images) - 1) + 1)]
