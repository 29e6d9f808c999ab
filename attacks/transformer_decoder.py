"""A transformer that learns to invert the client."""

from typing import Literal

from attacks.image_decoder import ImageDecoder
from attacks.inverse_network import InverseNetwork
from attacks.token_decoder import TokenDecoder
from splitbench.threat import Surface


class TransformerDecoder(InverseNetwork):
    """Trains a transformer on pairs of auxiliary images and their releases.

    Each patch of the image may look at every part of the release, so nothing is assumed about
    where a value lies, which suits tokens, shuffled or dropped positions and pooled features; a
    map's values know their place from the start all the same. Dropped tokens, which arrive as
    zeros, are marked rather than masked: which ones are missing is visible to the adversary, and
    may depend on the image.

    It learns as `InverseNetwork` does: adaptive, with fresh randomness of the defense for each
    batch, averaged weights, those kept that do best on held-out auxiliary images.

    Threat model:
        Auxiliary images and queries. The client may be a black box.

    Cost: `steps` times `batch_size` queries and passes of the decoder; each pass is quadratic in
    the number of tokens, at most 256 for a map and 16 for a vector, and one for each patch.

    Args:
        width: Of a token, a multiple of 8.
        layers: Transformer layers, > 0.
        heads: Heads of self-attention, > 0, dividing `width`.
        patch: Side of the patches that it paints, in pixels.
        steps: Batches to learn from, > 0.
        batch_size: Images per step, > 0.
        learning_rate: Largest step of Muon for the layers; AdamW moves everything else with a
            tenth of it.
        loss: ``mse``, or ``perceptual`` for absolute error plus ``(1 - SSIM) / 2``.

    Deviations from the paper:
        The paper's detokeniser is one stage of its attack, for the tokens of vision transformers
        only, and masks those that were dropped. Here maps and vectors become tokens too, patches
        ask with tokens of their own, positions start as waves, Muon stands beside AdamW.

    References:
        Lei, Chen, Chen. "DRAG: data reconstruction attack using guided diffusion". ICML 2025.
        arXiv:2509.11724
        Vaswani et al. "Attention is all you need". NeurIPS 2017. arXiv:1706.03762
    """

    def __init__(
        self,
        *,
        width: int = 384,
        layers: int = 6,
        heads: int = 6,
        patch: int = 4,
        steps: int = 40_000,
        batch_size: int = 128,
        learning_rate: float = 0.03,
        loss: Literal["mse", "perceptual"] = "mse",
    ) -> None:
        if layers < 1:
            raise ValueError(f"layers={layers}: must be at least 1")
        if heads < 1:
            raise ValueError(f"heads={heads}: must be at least 1")
        super().__init__(
            width=width,
            blocks=layers,
            heads=heads,
            patch=patch,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            loss=loss,
        )
        self.layers = layers

    def _build(self, surface: Surface) -> ImageDecoder:
        return TokenDecoder(
            surface.visible_specs,
            surface.image_shape,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            patch=self.patch,
        )
