"""Decoders that defenses train against: a piece, not a defense."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

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

    def learn(self, released: Tensors, images: Tensor) -> tuple[Float[Tensor, ""], Tensors]:
        """One step of each decoder on this batch, and what the best of them made of it.

        Args:
            released: Of a batch; taken as it is, no gradient flows from here.
            images: The batch.

        Returns:
            The least mean squared error before the step, and its derivative by what is released.
            Both come from the passes that the decoders learn by: asking them again afterwards
            would double the work.
        """
        self._step += 1
        leaves = tuple(t.detach().requires_grad_() for t in released)
        for i in range(len(self._players)):
            turn = i * self._life // len(self._players)
            if self._step > self._life and (self._step + turn) % self._life == 0:
                self._players[i] = self._fresh()
        found = [_step(decoder, optimizer, leaves, images) for decoder, optimizer in self._players]
        return min(found, key=lambda each: float(each[0]))

    def _fresh(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        decoder = self._make()
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
        """Share of the images' variance that the best decoder explains; all learn a step from it.

        Args:
            released: Of a batch; the gradient of the share flows into it.
            images: The batch.

        Returns:
            A scalar in [0, 1]: 0 too where the best decoder is worse than the blind guess.
        """
        error, slopes = self._decoders.learn(released, images)
        share: Tensor = (1 - error / self._floor).clamp(min=0)
        if float(share) == 0:
            return share
        # A term of value 0 that has the derivative of the error.
        parts = zip(released, slopes, strict=True)
        change = torch.stack([((t - t.detach()) * slope).sum() for t, slope in parts]).sum()
        return share - change / self._floor


def _step(
    decoder: nn.Module, optimizer: torch.optim.Optimizer, leaves: Tensors, images: Tensor
) -> tuple[Tensor, Tensors]:
    """Error before a step of this decoder, and its derivative by the leaves."""
    parameters = list(decoder.parameters())
    error = functional.mse_loss(decoder(leaves), images)
    slopes = torch.autograd.grad(error, [*parameters, *leaves])
    for parameter, slope in zip(parameters, slopes, strict=False):
        parameter.grad = slope
    optimizer.step()
    return error.detach(), slopes[len(parameters) :]
