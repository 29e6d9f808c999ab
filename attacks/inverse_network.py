"""A network that learns to invert the client."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attacks.image_decoder import ImageDecoder
from attacks.patch_decoder import GROUPS, PatchDecoder
from attacks.perceptual_loss import perceptual_loss
from splitbench.attack import Attack
from splitbench.placement import here
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.rng import isolated
from splitbench.threat import Access, Surface

BATCH = 256
MEASURED = 1024  # examples from which the features are standardised
WARM_UP = 0.1  # share of the steps in which the learning rate rises
MEMORY = 1 / 60  # how far back the average of the weights reaches, as a share of the steps
CHECKS = 5  # evaluations on held-out images
OTHERS = 0.1  # AdamW's learning rate for what is no matrix, relative to Muon's
WEIGHT_DECAY = 1e-4
LARGEST_GRADIENT = 1.0


class InverseNetwork(Attack):
    """Trains a decoder on pairs of auxiliary images and their releases.

    The defense stays on while it learns, with fresh randomness for every batch, which is what
    makes this attack adaptive. With ``loss="mse"`` it approaches the posterior mean, the best
    there is for squared error; with ``loss="perceptual"`` it is sharper and further off. Of the
    weights, averaged over the last steps, those with the least loss on held-out auxiliary images
    are kept.

    Threat model:
        Auxiliary images and queries. The client may be a black box.

    Cost: `steps` times `batch_size` queries and passes of the decoder.

    Args:
        width: Channels of the decoder, a multiple of 8.
        blocks: Residual blocks, > 0.
        heads: Heads of self-attention after each block, dividing `width`; 0 for none.
        patch: Side of the patches that it paints, in pixels; smaller is finer and slower.
        steps: Batches to learn from, > 0.
        batch_size: Images per step, > 0.
        learning_rate: Largest step of Muon for the hidden layers; AdamW moves everything else
            with a tenth of it.
        loss: ``mse``, or ``perceptual`` for absolute error plus ``(1 - SSIM) / 2``.

    Deviations from the paper:
        A far larger decoder of another architecture, Muon beside AdamW instead of Adam, averaged
        weights, loss on [0, 1] pixels. No frozen network in the perceptual loss.

    References:
        He, Zhang, Lee. "Model inversion attacks against collaborative inference". ACSAC 2019.
        doi:10.1145/3359789.3359824
        Jordan et al. "Muon: an optimizer for hidden layers in neural networks". 2024; analysed in
        Liu et al. "Muon is scalable for LLM training". 2025. arXiv:2502.16982

    Example:
        >>> InverseNetwork(steps=300).needs == {Access.AUXILIARY, Access.QUERY}
        True
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})

    _decoder: ImageDecoder

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
    ) -> None:
        if width < GROUPS or width % GROUPS:
            raise ValueError(f"width={width}: must be a positive multiple of {GROUPS}")
        if heads < 0 or (heads and width % heads):
            raise ValueError(f"heads={heads}: must divide width={width}, or be 0 for no attention")
        if min(blocks, patch, steps, batch_size) < 1:
            raise ValueError(
                f"blocks={blocks}, patch={patch}, steps={steps}, batch_size={batch_size}: "
                "each must be at least 1"
            )
        if not learning_rate > 0:
            raise ValueError(f"learning_rate={learning_rate}: must be positive")
        if loss not in ("mse", "perceptual"):
            raise ValueError(f"loss={loss!r}: choose 'mse' or 'perceptual'")
        self.width = width
        self.blocks = blocks
        self.heads = heads
        self.patch = patch
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.loss = loss

    @property
    def paintings(self) -> int:
        """Images that the decoder paints for one release."""
        return 1

    def pairs(self, images: Tensor) -> Tensor:
        """What to paint for the releases of `images`, ``(b, paintings * c, h, w)``."""
        return images

    def held_out(self, surface: Surface) -> tuple[Tensor, Release] | None:
        """The pairs on which weights are chosen; none keeps the last weights."""
        images, release = surface.validation_pairs()
        return (images, release) if len(images) else None

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Train the decoder."""
        with isolated(generator):
            decoder = self._build(surface)
        seen = Release.concatenate([r for _, r in surface.pairs(MEASURED)]).visible
        mean = surface.auxiliary.images().mean(0)
        decoder.to(seen[0].device).prepare(seen, mean.repeat(self.paintings, 1, 1))
        averaged = copy.deepcopy(decoder).requires_grad_(False)
        held_out = self.held_out(surface)
        optimizers = self._optimizers(decoder)
        # Untrained it paints the mean image; training has to do better than that.
        best = self._evaluate(averaged, held_out)
        kept = copy.deepcopy(averaged.state_dict())
        batches = surface.examples(self.batch_size, self.steps)
        for step, (images, release) in enumerate(batches, 1):
            self._schedule(optimizers, step)
            value = self._step(decoder, optimizers, release, self.pairs(images))
            _follow(averaged, decoder, step, self.steps)
            if step % max(1, self.steps // CHECKS) == 0 or step == self.steps:
                error = self._evaluate(averaged, held_out)
                if error < best or held_out is None:
                    best, kept = error, copy.deepcopy(averaged.state_dict())
            yield Progress(step, self.steps, value)
        averaged.load_state_dict(kept)
        self._decoder = averaged.eval()

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
        return decode(self._decoder, release)

    def _build(self, surface: Surface) -> ImageDecoder:
        channels, height, width = surface.image_shape
        return PatchDecoder(
            surface.visible_specs,
            (self.paintings * channels, height, width),
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            patch=self.patch,
        )

    def _optimizers(self, decoder: ImageDecoder) -> tuple[torch.optim.Optimizer, ...]:
        matrices = decoder.matrices()
        known = {id(p) for p in matrices}
        others = [p for p in decoder.parameters() if id(p) not in known]
        return (
            torch.optim.Muon(matrices, lr=self.learning_rate, weight_decay=WEIGHT_DECAY),
            torch.optim.AdamW(
                others, lr=OTHERS * self.learning_rate, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY
            ),
        )

    def _schedule(self, optimizers: tuple[torch.optim.Optimizer, ...], step: int) -> None:
        """Linear warm-up, then a cosine to zero."""
        done = (step - 1) / self.steps
        share = min(1.0, step / (WARM_UP * self.steps)) * (1 + math.cos(math.pi * done)) / 2
        for optimizer, factor in zip(optimizers, (1.0, OTHERS), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = factor * self.learning_rate * share

    def _step(
        self,
        decoder: ImageDecoder,
        optimizers: tuple[torch.optim.Optimizer, ...],
        release: Release,
        images: Tensor,
    ) -> float:
        loss = self._compare(decoder(release.visible), images)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), LARGEST_GRADIENT)
        for optimizer in optimizers:
            optimizer.step()
        return float(loss.detach())

    def _compare(self, guess: Tensor, images: Tensor) -> Tensor:
        images = images.to(guess.device)
        if self.loss == "perceptual":
            return perceptual_loss(guess, images)
        return nn.functional.mse_loss(guess, images)

    @torch.no_grad()
    def _evaluate(self, decoder: ImageDecoder, held_out: tuple[Tensor, Release] | None) -> float:
        if held_out is None:
            return math.inf
        images, release = held_out
        return float(self._compare(decode(decoder, release).clamp(0, 1), images))


def decode(decoder: ImageDecoder, release: Release) -> Tensor:
    """What a decoder paints, in batches."""
    parts = [release[slice(i, i + BATCH)] for i in range(0, len(release), BATCH)]
    return torch.cat([decoder(part.visible) for part in parts])


@torch.no_grad()
def _follow(averaged: nn.Module, decoder: nn.Module, step: int, steps: int) -> None:
    """Move the averaged weights towards the present ones; the plain mean at first."""
    share = 1 / min(step, max(10.0, MEMORY * steps))
    for kept, now in zip(averaged.parameters(), decoder.parameters(), strict=True):
        kept.lerp_(now, share)
