"""Decoders that defenses train against: a piece, not a defense."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from defenses.fine_tuning import trainable
from defenses.proxy_decoder import ProxyDecoder
from splitbench.data.images import LabeledImages
from splitbench.placement import here
from splitbench.release import Tensors, TensorSpec
from splitbench.rng import isolated

PROXY_RATE = 2e-3  # first step size of the decoders, Adam


class Decoders:
    """Decoders that learn a step at a time, and are started anew one after the other.

    Args:
        count: How many.
        make: Makes an untrained one.
        life: Steps after which each is started anew; their turns are spread evenly.
    """

    def __init__(self, count: int, make: Callable[[], nn.Module], *, life: int) -> None:
        self._make = make
        self._life = life
        self._step = 0
        self._players = [self._fresh() for _ in range(count)]

    def learn(self, released: Tensors, images: Tensor) -> None:
        """One step of each decoder on this batch."""
        self._step += 1
        for i in range(len(self._players)):
            turn = i * self._life // len(self._players)
            if self._step > self._life and (self._step + turn) % self._life == 0:
                self._players[i] = self._fresh()
            decoder, optimizer = self._players[i]
            with trainable(list(decoder.parameters())):
                error = functional.mse_loss(decoder(released), images)
                optimizer.zero_grad()
                error.backward()
                optimizer.step()

    def least_error(self, released: Tensors, images: Tensor) -> Float[Tensor, ""]:
        """Mean squared error of the best decoder, differentiable in what is released."""
        errors = [functional.mse_loss(decoder(released), images) for decoder, _ in self._players]
        return torch.stack(errors).min()

    def _fresh(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        decoder = self._make().requires_grad_(False)
        return decoder, torch.optim.Adam(decoder.parameters(), lr=PROXY_RATE)


class Rivals:
    """Proxy decoders for one training, and the blind guess that they are measured by.

    Args:
        release: Images to what is released of them.
        train: Images of the training; a blind guess paints their mean.
        count: Decoders, >= 1.
        lives: Times that each is started anew during the training, >= 0.
        width: Channels of the decoders, >= 1.
        steps: Of the whole training.
        generator: Of the decoders' first weights.
    """

    def __init__(
        self,
        release: Callable[[Tensor], Tensors],
        train: LabeledImages,
        *,
        count: int,
        lives: int,
        width: int,
        steps: int,
        generator: torch.Generator,
    ) -> None:
        images = train.images().to(here())
        mean = images.mean(0)
        with torch.no_grad():
            shapes = [tuple(t.shape[1:]) for t in release(images[:1])]
        specs = [TensorSpec(str(i), shape) for i, shape in enumerate(shapes)]

        def fresh() -> nn.Module:
            with isolated(generator):
                made = ProxyDecoder(specs, mean.cpu(), width=width)
            return made.to(here())

        self._floor = (images - mean).square().mean()
        self._decoders = Decoders(count, fresh, life=max(1, steps // (lives + 1)))

    def explained(self, released: Tensors, images: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """Share of the images' variance that the best decoder explains, after a step of all.

        Args:
            released: Of a batch; gradients flow into it, and not from what the decoders learn.
            images: The batch.

        Returns:
            A scalar in [0, 1]: 0 too where the best decoder is worse than the blind guess.
        """
        self._decoders.learn(tuple(t.detach() for t in released), images)
        share: Tensor = 1 - self._decoders.least_error(released, images) / self._floor
        return share.clamp(min=0)
