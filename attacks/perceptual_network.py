"""A network that learns to invert the client into pictures that look right."""

from collections.abc import Iterator

import torch
from torch import Tensor

from attacks.inverse_network import InverseNetwork
from attacks.perceptual_features import PerceptualFeatures
from attacks.perceptual_loss import perceptual_loss
from splitbench.progress import Progress
from splitbench.rng import isolated
from splitbench.threat import Surface


class PerceptualNetwork(InverseNetwork):
    """Trains the inverse network on what guesses look like, in pixels, windows and features.

    The loss is the mean absolute error, half of ``1 - SSIM``, and a distance in the features of a
    small random network. Guesses are sharper than the posterior mean and further off in squared
    error: this attack is for metrics other than L.

    The features are the adversary's own draw: they share nothing with the classifier that judges
    guesses (`EvaluatorNet`), nor with the network behind LPIPS. Features of a classifier that was
    trained on the auxiliary images did no better on held-out ones, by LPIPS, SSIM or L.

    Threat model:
        Auxiliary images and queries. The client may be a black box.

    Cost: That of `InverseNetwork`, and two passes of a small network for each image.

    Args:
        width: Channels of the decoder, a multiple of 8.
        blocks: Residual blocks, > 0.
        heads: Heads of self-attention after each block, dividing `width`; 0 for none.
        patch: Side of the patches that it paints, in pixels.
        steps: Batches to learn from, > 0.
        batch_size: Images per step, > 0.
        learning_rate: Largest step of Muon for the hidden layers.
        feature_weight: Of the distance in features, >= 0; 0 is ``InverseNetwork`` with
            ``loss="perceptual"``.

    Deviations from the paper:
        Random features instead of those of a network that was trained on ImageNet, all channels
        and scales alike; beside absolute error and structural similarity; no discriminator.

    References:
        Dosovitskiy, Brox. "Generating images with perceptual similarity metrics based on deep
        networks". NeurIPS 2016. arXiv:1602.02644
        Johnson, Alahi, Fei-Fei. "Perceptual losses for real-time style transfer and
        super-resolution". ECCV 2016. arXiv:1603.08155
    """

    _features: PerceptualFeatures | None = None

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
        feature_weight: float = 10.0,
    ) -> None:
        if not feature_weight >= 0:
            raise ValueError(f"feature_weight={feature_weight}: must be at least 0")
        super().__init__(
            width=width,
            blocks=blocks,
            heads=heads,
            patch=patch,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            loss="perceptual",
        )
        self.feature_weight = feature_weight

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Draw the features, then train the decoder."""
        if self.feature_weight > 0:
            with isolated(generator):
                features = PerceptualFeatures(surface.image_shape[0])
            self._features = features.eval().requires_grad_(False)
        yield from super().learn(surface, generator=generator)
        self._features = None  # it has done its work

    def _compare(self, guess: Tensor, images: Tensor) -> Tensor:
        images = images.to(guess.device)
        loss = perceptual_loss(guess, images)
        if self._features is None:
            return loss
        features = self._features.to(guess.device)
        return loss + self.feature_weight * features.distance(guess, images)
